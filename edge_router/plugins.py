"""Entry points of other installed packages, loaded the same way in every process.

A package registers `name = "module:factory"` in a group below; it is imported when the name is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, TypeVar

from edge_router.errors import PluginFailed
from edge_router.registry import Registry

T = TypeVar("T")

ROUTERS = "edge_router.routers"
WEAK_ENGINES = "edge_router.weak_engines"
STRONG_ENGINES = "edge_router.strong_engines"
ARCHITECTURES = "edge_router.architectures"
SURFACES = "edge_router.surfaces"  # protocols; a factory takes nothing
GROUPS = (ROUTERS, WEAK_ENGINES, STRONG_ENGINES, ARCHITECTURES, SURFACES)


def extend(registry: Registry[T], group: str) -> Registry[T]:
    """Add the group's entry points to `registry`. Raises `DuplicateName`, which names both packages."""
    for point in points(group):
        registry.add(point.name, _loader(point, group), owner=owner(point))
    return registry


def points(group: str) -> EntryPoints:
    """The group's entry points, of one look through all that is installed: it takes milliseconds."""
    return _installed(tuple(sys.path))[group]


def names(group: str) -> frozenset[str]:
    return frozenset(point.name for point in points(group))


@lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> dict[str, EntryPoints]:
    """Of all our groups; `path`: where they were looked for."""
    found = entry_points()
    return {group: found.select(group=group) for group in GROUPS}


def owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _loader(point: EntryPoint, group: str) -> Callable[..., Any]:
    def build(*arguments: object, **named: object) -> Any:
        try:
            factory = point.load()
        except Exception as error:  # whatever a stranger's module raises on import
            raise PluginFailed(group, point.name, owner(point), f"{type(error).__name__}: {error}") from error
        return factory(*arguments, **named)

    return build
