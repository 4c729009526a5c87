"""Typed access to a request's body. Whatever is not as it must be is an `InvalidRequest` with its name.

Neither msgspec (0.23) nor pydantic (2.14) reads bodies in its place: of 70 kB for /v1/messages they check the
form in 0.1 and 0.5 ms where JSON, checks and our own request together take 4, but both leave a name that
stands twice, a slip of `private` and the fields that travel on unheard, and refuse 10.0 for 10. What hears
those would stay, with a second reading and 50 lines of models beside it, to win less than one token's time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from edge_router.errors import InvalidRequest

MAX_DEPTH = 64  # far above any real body, far below Python's own limit
SHOWN = 10**18  # larger numbers are not repeated to who sent them
LONGEST_NUMBER = 1024  # bits; more is no number that anybody computes with, and JSON's writers stop at some
NAME_SHOWN = 40  # characters, as with names
PARTS_SHOWN = 10  # of the way to a value
_OBJECTS, _LISTS = (dict, Mapping), (list, Sequence)  # JSON's own first: they are told apart ten times faster


def plain(value: object, name: str = "") -> object:
    """A copy of `value` in JSON's own types, which any engine may send on. `name` is what errors call it.

    Takes what Python callers write: tuples, any mapping, objects with `to_dict` (a reply's message) or
    `model_dump`.
    Refuses what would break far from here: NaN, half a surrogate pair, endless nesting, strange types.
    """
    return _plain(value, (None, name) if name else None, 0)


def plain_object(body: Mapping[str, object]) -> dict[str, object]:
    value = plain(body)
    if not isinstance(value, dict):
        raise InvalidRequest(None, "must be an object")
    return value


Trail: TypeAlias = "tuple[Trail | None, str | int]"  # the way to a value; spelled out only for an error


def _plain(value: object, trail: Trail | None, depth: int) -> object:
    if isinstance(value, str):
        return _text(value, trail)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > LONGEST_NUMBER:
            raise InvalidRequest(_spelled(trail), "is a number of too many digits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(_spelled(trail), f"must be a finite number, not {value}")
        return value
    if depth > MAX_DEPTH:
        raise InvalidRequest(_spelled(trail), "is nested too deeply")
    if not isinstance(value, list) and isinstance(value, _OBJECTS):
        return {_key(key, trail): _plain(item, (trail, key), depth + 1) for key, item in value.items()}
    if isinstance(value, _LISTS) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(item, (trail, index), depth + 1) for index, item in enumerate(value)]
    for name in ("to_dict", "model_dump"):
        dump = None if isinstance(value, type) else getattr(value, name, None)
        if callable(dump):
            return _plain(dump(), trail, depth + 1)
    raise InvalidRequest(_spelled(trail), f"is a {type(value).__name__}, which JSON does not know")


def _text(value: str, trail: Trail | None) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            reason = f"is not valid Unicode: half a surrogate pair at character {error.start}"
            raise InvalidRequest(_spelled(trail), reason) from error
    return value


def _key(key: object, trail: Trail | None) -> str:
    if isinstance(key, str):
        return _text(key, trail)
    if isinstance(key, int) and not isinstance(key, bool):  # logit_bias, as Python callers write it
        return str(key)
    raise InvalidRequest(_spelled(trail), "must have strings as its names")


def shown(name: str) -> str:
    """A name from outside, as it may be repeated to who sent it."""
    return name[:NAME_SHOWN].encode("ascii", "replace").decode()


def _spelled(trail: Trail | None) -> str | None:
    parts: list[str] = []
    while trail is not None:
        trail, step = trail
        parts.append(f"[{step}]" if isinstance(step, int) else f".{shown(step)}")
    if len(parts) > PARTS_SHOWN:  # the deepest first
        parts[PARTS_SHOWN // 2 : -PARTS_SHOWN // 2] = [" ... "]
    return "".join(reversed(parts)).removeprefix(".") or None


class Fields:
    """One JSON object. `None` and an absent field mean the same, as in OpenAI's API."""

    def __init__(self, body: Mapping[str, object], *, within: str = "") -> None:
        self.body, self.within = body, within

    def get(self, name: str) -> object:
        return self.body.get(name)

    def refuse(self, name: str, reason: str) -> InvalidRequest:
        """The error to raise about `name`."""
        return InvalidRequest(self._path(name), reason)

    def integer(self, name: str, *, low: int | None = None, high: int | None = None) -> int | None:
        """Any, or one between both."""
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse(name, "must be a whole number")
        if low is not None and high is not None and not low <= value <= high:
            raise self.refuse(name, f"must be between {low} and {high}{_not(value)}")
        return value

    def number(self, name: str, *, low: float, high: float, above: bool = False) -> float | None:
        """`above`: `low` itself is out of range."""
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refuse(name, "must be a number")
        if not low <= value <= high or (above and value == low):
            limits = f"above {low:g} and at most {high:g}" if above else f"between {low:g} and {high:g}"
            raise self.refuse(name, f"must be {limits}{_not(value)}")
        return float(value)

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "must be true or false")
        return value

    def string(self, name: str, *, default: str) -> str:
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or not value:
            raise self.refuse(name, "must be a string that is not empty")
        return value

    def text(self, name: str) -> str | None:
        """Any, also an empty one."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            raise self.refuse(name, "must be a string")
        return value

    def needed_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise self.refuse(name, "must be a string")
        return value

    def choice(self, name: str, *among: str) -> str | None:
        """One of a few words."""
        value = self.body.get(name)
        if value is not None and (not isinstance(value, str) or value not in among):
            raise self.refuse(name, f"must be {listed(among)}")
        return value

    def strings(self, name: str, *, most: int, longest: int) -> tuple[str, ...]:
        """One string, or a list of at most `most`, none longer than `longest`; empty ones are left out."""
        value = self.body.get(name)
        items = [value] if isinstance(value, str) else [] if value is None else value
        if not isinstance(items, list) or len(items) > most or not all(isinstance(one, str) for one in items):
            raise self.refuse(name, f"must be a string or a list of at most {most}")
        if any(len(one) > longest for one in items):
            raise self.refuse(name, f"holds one of more than {longest} characters")
        return tuple(one for one in items if one)

    def object(self, name: str) -> Fields | None:
        value = self.body.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.refuse(name, "must be an object")
        return Fields(value, within=self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.within}.{name}" if self.within else name


def fields_at(value: object, where: str) -> Fields:
    """The object that stands in the field `where`. Raises `InvalidRequest`."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(where, "must be an object")
    return Fields(value, within=where)


def listed(words: Sequence[str]) -> str:
    """Of which one is meant: "low, medium or high"."""
    return " or ".join((", ".join(words[:-1]), words[-1]) if len(words) > 1 else words)


def _not(value: float) -> str:
    return f", not {value}" if abs(value) < SHOWN else ""
