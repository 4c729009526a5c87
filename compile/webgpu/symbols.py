"""TVM's integer expressions as the text of a program's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OPERATORS = {"Add": "+", "Sub": "-", "Mul": "*", "FloorDiv": "//", "FloorMod": "%", "Div": "//"}
_SHIFTS = {"LShift": "*", "RShift": "//"}


def expression(value: Any, known: Mapping[str, str] | None = None) -> str:
    """`known` gives the text for variables by name; others stay under their own.

    Raises `NotImplementedError` for what no program has.
    """
    kind = type(value).__name__
    if isinstance(value, int) or kind == "IntImm":
        return str(int(value))
    if kind in ("Var", "SizeVar"):
        return (known or {}).get(value.name, value.name)
    if kind == "Cast":
        return expression(value.value, known)
    if kind in _OPERATORS:
        return f"({expression(value.a, known)} {_OPERATORS[kind]} {expression(value.b, known)})"
    if kind in ("Min", "Max"):
        return f"{kind.lower()}({expression(value.a, known)}, {expression(value.b, known)})"
    if kind in _SHIFTS:
        return f"({expression(value.a, known)} {_SHIFTS[kind]} {2 ** int(value.b)})"
    raise NotImplementedError(f"{kind} in a size or a grid")


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Names in `text` replaced by what they stand for."""

    def replaced(match: re.Match[str]) -> str:
        return f"({values[match[0]]})" if match[0] in values else match[0]

    return re.sub(r"[A-Za-z_]\w*", replaced, text)
