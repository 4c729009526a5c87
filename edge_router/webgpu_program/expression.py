"""Whole-number expressions over a few names, kept as text: "(n + 63) // 64 * 9"."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache

Values = Mapping[str, int]
_Evaluate = Callable[[Values], int]

_LONGEST = 500  # characters; what a compiler writes is far shorter, and nesting stays harmless


class Expression:
    """`Expression("(n + 3) // 4")({"n": 6})` is 2. Division rounds down, and only by positive constants.

    Raises `ValueError` for any other text. Equal texts, and equal numbers, are equal expressions.
    """

    __slots__ = ("_evaluate", "names", "text")

    def __init__(self, text: str | int) -> None:
        self._evaluate, self.names = _parsed(str(text))
        self.text = str(text) if self.names else str(self._evaluate({}))

    def __call__(self, values: Values) -> int:
        """Raises `KeyError` for a name without a value."""
        return self._evaluate(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def to_json(self) -> str | int:
        return self.text if self.names else int(self.text)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[_Evaluate, frozenset[str]]:
    if len(text) > _LONGEST:
        raise ValueError(f"an expression of {len(text)} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not an expression") from error
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - {"min", "max"}
    return _build(tree.body, text), frozenset(names)


def _build(node: ast.expr, text: str) -> _Evaluate:
    match node:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return lambda values: number
        case ast.Name(id=name):
            return lambda values: values[name]
        case ast.Call(func=ast.Name(id="min" | "max" as word), args=[first, second], keywords=[]):
            left, right, choose = _build(first, text), _build(second, text), min if word == "min" else max
            return lambda values: choose(left(values), right(values))
        case ast.BinOp(left=first, op=operator, right=second):
            return _binary(_build(first, text), operator, _build(second, text), second, text)
    raise ValueError(f"{text!r} has more in it than sums, products and divisions")


def _binary(
    left: _Evaluate, operator: ast.operator, right: _Evaluate, divisor: ast.expr, text: str
) -> _Evaluate:
    match operator:
        case ast.Add():
            return lambda values: left(values) + right(values)
        case ast.Sub():
            return lambda values: left(values) - right(values)
        case ast.Mult():
            return lambda values: left(values) * right(values)
    if not (isinstance(divisor, ast.Constant) and isinstance(divisor.value, int) and divisor.value > 0):
        raise ValueError(f"{text!r} divides by something that may be zero")
    match operator:
        case ast.FloorDiv():
            return lambda values: left(values) // right(values)
        case ast.Mod():
            return lambda values: left(values) % right(values)
    raise ValueError(f"{text!r} has more in it than sums, products and divisions")
