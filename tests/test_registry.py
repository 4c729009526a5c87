"""Lazy factories, and names that are taken or unknown."""

from __future__ import annotations

import sys

import pytest

from edge_router.errors import DuplicateName, UnknownName
from edge_router.registry import Registry


def test_a_factory_given_by_its_name_is_imported_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    registry: Registry[object] = Registry("thing")
    registry.add("hue", "colorsys:rgb_to_hsv")
    assert "colorsys" not in sys.modules
    assert registry.get("hue")(1, 0, 0) == (0.0, 1.0, 1)


def test_a_taken_name_names_both_owners() -> None:
    registry: Registry[object] = Registry("router")
    registry.add("mf", dict)
    with pytest.raises(DuplicateName) as caught:
        registry.add("mf", list, owner="their-package")
    assert caught.value.owners == ("edge_router", "their-package")
    assert registry.get("mf") is dict


def test_an_unknown_name_brings_the_nearest_and_all() -> None:
    registry: Registry[object] = Registry("router")
    registry.add("length", dict)
    registry.add("random", dict)
    with pytest.raises(UnknownName) as caught:
        registry.get("lenght")
    assert caught.value.nearest == ("length",)
    assert caught.value.known == ("length", "random")


def test_it_reads_like_a_collection() -> None:
    registry: Registry[object] = Registry("router")
    registry.add("b", dict)
    registry.add("a", dict, owner="x")
    assert list(registry) == ["a", "b"]
    assert len(registry) == 2
    assert "a" in registry
    assert "c" not in registry
    assert registry.owner("a") == "x"
