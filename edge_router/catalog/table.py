"""Reading a TOML table key by key: a missing, wrong or unknown key is an error with the file and its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from edge_router.errors import EdgeRouterError

T = TypeVar("T")
_REQUIRED = object()


class TomlTable:
    """`error(file, reason)` makes the error to raise; `done()` complains about keys that nobody asked for."""

    def __init__(
        self,
        data: Mapping[str, object],
        file: str,
        error: Callable[[str, str], EdgeRouterError],
        prefix: str = "",
    ) -> None:
        self._data, self._file, self._error, self._prefix = data, file, error, prefix
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def bad(self, key: str, reason: str) -> EdgeRouterError:
        return self._error(self._file, f"{self._prefix}{key} {reason}")

    def text(self, key: str, default: object = _REQUIRED) -> str:
        return cast(str, self._get(key, lambda v: isinstance(v, str) and bool(v), "must be a text", default))

    def texts(self, key: str, default: object = _REQUIRED) -> tuple[str, ...]:
        def fits(value: object) -> bool:
            return isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value)

        return tuple(cast("Sequence[str]", self._get(key, fits, "must be a list of texts", default)))

    def count(self, key: str, default: object = _REQUIRED) -> int:
        def fits(value: object) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and value >= 1

        return cast(int, self._get(key, fits, "must be a whole number, at least 1", default))

    def share(self, key: str, default: object = _REQUIRED) -> float:
        return float(cast(float, self._get(key, _is_share, "must be a number between 0 and 1", default)))

    def flag(self, key: str, default: object = _REQUIRED) -> bool:
        return cast(bool, self._get(key, lambda v: isinstance(v, bool), "must be true or false", default))

    def positive(self, key: str, default: object = _REQUIRED) -> float:
        def fits(value: object) -> bool:
            return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")

        return float(cast(float, self._get(key, fits, "must be a number above 0", default)))

    def shares(self, key: str, default: object = _REQUIRED) -> tuple[float, ...]:
        def fits(value: object) -> bool:
            return isinstance(value, list | tuple) and all(map(_is_share, value))

        found = self._get(key, fits, "must be a list of numbers between 0 and 1", default)
        return tuple(map(float, cast("Sequence[float]", found)))

    def choice(self, key: str, options: Sequence[str], default: object = _REQUIRED) -> str:
        reason = f"must be one of {', '.join(options)}"
        return cast(str, self._get(key, lambda value: value in options, reason, default))

    def sha256(self, key: str, default: object = _REQUIRED) -> str:
        def fits(value: object) -> bool:
            return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None

        return cast(str, self._get(key, fits, "must be a sha256 in lower-case hexadecimal", default))

    def table(self, key: str, default: object = _REQUIRED) -> TomlTable:
        value = self._get(key, lambda v: isinstance(v, dict), "must be a table", default)
        inner = cast("Mapping[str, object]", value)
        return TomlTable(inner, self._file, self._error, f"{self._prefix}{key}.")

    def plain(self) -> dict[str, object]:
        """Everything in it, as it is."""
        self._asked.update(self._data)
        return dict(self._data)

    def done(self) -> None:
        unknown = sorted(set(self._data) - self._asked)
        if unknown:
            raise self.bad(unknown[0], "is not a key of a card")

    def _get(self, key: str, fits: Callable[[object], bool], reason: str, default: object) -> object:
        self._asked.add(key)
        if key not in self._data:
            if default is _REQUIRED:
                raise self.bad(key, "is missing")
            return default
        value = self._data[key]
        if not fits(value):
            raise self.bad(key, f"{reason}, not {value!r}")
        return value


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
