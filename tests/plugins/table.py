"""`each`: a table of cases in one test, where a test for each would cost more than what it tests."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def each(names: str, rows: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As `pytest.mark.parametrize(names, rows)`, also one above the other, but one test that fails once.

    Every row is tried, and each that failed is named with its error. Fixtures are the same ones for all rows.
    """
    keys = [name.strip() for name in names.split(",")]
    table = [dict(zip(keys, row if len(keys) > 1 else (row,), strict=True)) for row in rows]

    def wrap(test: Callable[..., None]) -> Callable[..., None]:
        tables = [table, *getattr(test, "tables", [])]
        inner = inspect.unwrap(test) if len(tables) > 1 else test
        signature = inspect.signature(test)

        @functools.wraps(test)
        def whole(**fixtures: Any) -> None:
            failed: list[tuple[str, BaseException]] = []
            for number, parts in enumerate(itertools.product(*tables)):
                row = {key: value for part in parts for key, value in part.items()}
                try:
                    inner(**fixtures, **row)
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - told with the rest
                    failed.append((f"{number}: {_said(row)}: {type(error).__name__}: {error!s:.300}", error))
            if failed:
                said = [f"{len(failed)} rows fail, the first as above", *(line for line, _ in failed)]
                raise AssertionError("\n".join(said)) from failed[0][1]

        kept = [one for name, one in signature.parameters.items() if name not in keys]
        assert len(kept) + len(keys) == len(signature.parameters), f"{test} does not take {names}"
        whole.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        whole.tables = tables  # type: ignore[attr-defined]
        return whole

    return wrap


def _said(row: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r:.80}" for key, value in row.items())
