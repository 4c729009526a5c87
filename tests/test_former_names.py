"""Modules under the names that they had."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
from table import each

from edge_router.former_names import FORMER


@each("name", [*sorted(FORMER), "thresholds.prices", "routers.base"])
def test_a_former_name_is_told_of_and_stands_for_the_present_module(name: str) -> None:
    known = next(each for each in FORMER if f"{name}.".startswith(f"{each}."))
    present = import_module(f"edge_router.{FORMER[known]}{name.removeprefix(known)}")
    sys.modules.pop(f"edge_router.{name}", None)  # it warns once
    with pytest.warns(DeprecationWarning, match=f"edge_router.{name} is {present.__name__} now"):
        former = import_module(f"edge_router.{name}")
    assert former is present or (former.__path__ == [] and former.__getattr__("__doc__") == present.__doc__)


def test_what_never_had_a_name_is_not_found() -> None:
    assert find_spec("edge_router.nothing") is None
    assert find_spec("edge_router.thresholds.nothing") is None
