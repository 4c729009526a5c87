"""A named set of lazy factories, the one shape in which every replaceable part is registered."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Generic, TypeVar, cast

from edge_router.errors import DuplicateName, UnknownName

T = TypeVar("T")
_LONG = 200  # characters; looking for what is near takes the square of it


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> tuple[str, ...]:
    """The known names that look most like `name`; none for one that is longer than any name is."""
    return tuple(difflib.get_close_matches(name, known, n=3, cutoff=cutoff)) if len(name) <= _LONG else ()


class Registry(Generic[T]):
    """Names to factories. A factory given as "module:attribute" is imported when it is asked for, not before.

    Raises `DuplicateName` (which names both owners) on a name that exists, `UnknownName` (with the nearest
    known ones) on one that doesn't.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, tuple[str | Callable[..., T], str]] = {}

    def add(self, name: str, factory: str | Callable[..., T], *, owner: str = "edge_router") -> None:
        if name in self._factories:
            raise DuplicateName(self.kind, name, (self._factories[name][1], owner))
        self._factories[name] = (factory, owner)

    def get(self, name: str) -> Callable[..., T]:
        if name not in self._factories:
            raise UnknownName(self.kind, name, tuple(self), nearest(name, self))
        factory, _ = self._factories[name]
        if isinstance(factory, str):
            module, _, attribute = factory.partition(":")
            return cast("Callable[..., T]", getattr(import_module(module), attribute))
        return factory

    def owner(self, name: str) -> str:
        return self._factories[name][1]

    def __contains__(self, name: object) -> bool:
        return name in self._factories

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._factories))

    def __len__(self) -> int:
        return len(self._factories)
