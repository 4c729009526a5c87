"""Expressions: what they compute, and that nothing else gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.webgpu_program import Expression


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        (7, 7),
        ("n", 10),
        ("(n + 3) // 4 * 2", 6),
        ("n % 4 - 1", 1),
        ("max(n, 12) + min(n, 3)", 15),
        ("context * 2", 128),
        ("(n) - 11", -1),
    ],
)
def test_values(text: str | int, value: int) -> None:
    assert Expression(text)({"n": 10, "context": 64}) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n +",
        "n / 2",
        "n // 0",
        "n // m",
        "n % -1",
        "n ** 9",
        "1.5",
        "True",
        "'a'",
        "n if n else 1",
        "[n]",
        "n.real",
        "print(n)",
        "max(n)",
        "max(*n)",
        "min(n, m, 1)",
        "__import__('os')",
        "(lambda: 1)()",
        "n << 2",
        "-n",
        "n" + " + n" * 400,
        "(" * 300 + "n" + ")" * 300,
    ],
)
def test_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Expression(text)


def test_a_name_without_a_value() -> None:
    expression = Expression("n + pages")
    assert expression.names == {"n", "pages"}
    with pytest.raises(KeyError):
        expression({"n": 1})


def test_equality_and_text() -> None:
    assert Expression("n + 1") == Expression("n + 1") != Expression("1 + n")
    assert Expression("(4) * 2") == Expression(8)
    assert len({Expression("n"), Expression("n"), Expression(3)}) == 2
    assert Expression("n + 1") != "n + 1"
    assert repr(Expression("n")) == "Expression('n')"
    assert Expression("(4) * 2").to_json() == 8
    assert Expression("n * 2").to_json() == "n * 2"


@given(st.integers(0, 10**6), st.integers(1, 10**4), st.integers(1, 10**4))
def test_python_agrees(n: int, times: int, by: int) -> None:
    text = f"(n * {times} + {by - 1}) // {by} % 97 + max(n, {times})"
    assert Expression(text)({"n": n}) == (n * times + by - 1) // by % 97 + max(n, times)
