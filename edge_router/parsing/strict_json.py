"""JSON read strictly: text or bytes in, Python's own types out, one error for whatever is not JSON.

Python's reader takes NaN, makes infinity of 1e999, and ends in a RecursionError or takes the caller there
where the nesting is deep. Files and answers come from strangers: everything that reads them reads here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

MAX_DEPTH = 100  # far above any real file or answer, far below what Python's own calls can follow
MAX_DIGITS = 100  # of a whole number: all that is read can be made a float, too


class NotJson(ValueError):
    """The text is not JSON, or none that anyone writes on purpose. `str(error)` says why, and where."""


class StatedTwice(NotJson):
    """An object states `name` twice: of two values one would not be heard."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name[:40]!r} stands there twice")


class TooDeep(NotJson):
    """Nobody writes what is nested so deeply on purpose. `name`: the field of the object in which that is."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        super().__init__("nested too deeply")


def parse(text: str | bytes | bytearray, *, nan: bool = False, null: bool = False, once: bool = False) -> Any:
    """The value that `text` (UTF-8 where it is bytes) stands for. Raises `NotJson`.

    `nan`: takes NaN, which Python writes into tables for what is missing. `null`: makes None of every number
    that is none, where losing it costs less than refusing all the rest. `once`: raises `StatedTwice`.
    """
    decoder = _ONCE if once else _WITH_NULL if null else _WITH_NAN if nan else _DECODER
    try:
        value = decoder.decode(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} (line {error.lineno}, column {error.colno})") from error
    except RecursionError as error:
        raise TooDeep from error
    if _may_be_deep(text) and _deeper_than(MAX_DEPTH, value):
        fields = value.items() if isinstance(value, dict) else ()
        raise TooDeep(next((name for name, item in fields if _deeper_than(MAX_DEPTH - 1, item)), None))
    return value


def unescaped(inside: str) -> str:
    """The text that JSON writes as `inside` between two quotes, also with bare control characters, as a
    language model may write it. Raises `NotJson`."""
    try:
        return str(json.loads(f'"{inside}"', strict=False))
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} (line {error.lineno}, column {error.colno})") from error


def parse_object(
    text: str | bytes | bytearray, *, nan: bool = False, null: bool = False, once: bool = False
) -> dict[str, Any]:
    """The JSON object that `text` stands for. Raises `NotJson`, also for another value."""
    value = parse(text, nan=nan, null=null, once=once)
    if not isinstance(value, dict):
        raise NotJson(f"a JSON object was expected, not {_NAMES.get(type(value), 'null')}")
    return value


def read(file: Path) -> Any:
    """The value that a file of JSON holds. Raises `NotJson`, `OSError`."""
    return parse(file.read_bytes())


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object that a file holds. Raises `NotJson`, `OSError`."""
    return parse_object(file.read_bytes())


def _may_be_deep(text: str | bytes | bytearray) -> bool:
    """No text is nested deeper than it opens brackets, and most open few."""
    if isinstance(text, str):
        return text.count("{") + text.count("[") > MAX_DEPTH
    return text.count(b"{") + text.count(b"[") > MAX_DEPTH


def _deeper_than(limit: int, value: object) -> bool:
    level = _inner([value])
    for _ in range(limit):
        if not level:
            return False
        level = [
            item for outer in level for item in _inner(outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _inner(items: Iterable[object]) -> list[dict[str, object] | list[object]]:
    """Of `items` those that hold others."""
    return [item for item in items if isinstance(item, dict | list)]


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise StatedTwice(next(name for name in value if names.count(name) > 1))
    return value


def _constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


def _constant_or_nan(name: str) -> float:
    return math.nan if name == "NaN" else _constant(name)


def _float_or_null(digits: str) -> float | None:
    number = float(digits)
    return None if math.isinf(number) else number


def _integer_or_null(digits: str) -> int | None:
    return None if len(digits) > MAX_DIGITS else int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NotJson(f"the number {digits[:20]} is too large")
    return number


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise NotJson(f"a number of {len(digits)} digits")
    return int(digits)


_NAMES = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}
_DECODER = json.JSONDecoder(parse_float=_float, parse_int=_integer, parse_constant=_constant)
_WITH_NULL = json.JSONDecoder(
    parse_float=_float_or_null, parse_int=_integer_or_null, parse_constant=lambda _: None
)
_WITH_NAN = json.JSONDecoder(parse_float=_float, parse_int=_integer, parse_constant=_constant_or_nan)
_ONCE = json.JSONDecoder(
    parse_float=_float, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_each_once
)
