"""What replies have in common with the models of OpenAI's client: attributes, items, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

Body = dict[str, object]  # one JSON object
_SCALARS = frozenset({str, int, float, bool, type(None)})


class OpenAIObject:
    """The base of frozen dataclasses that stand for an object of OpenAI's API.

    A field named `extra` holds what an endpoint sent beside the fields that OpenAI names; it is written
    among them and read as an attribute, as their client does it.
    """

    __slots__ = ()
    _always: ClassVar[tuple[str, ...]] = ()  # fields that are written also where they are None, in this order
    _ours: ClassVar[frozenset[str]] = frozenset()  # fields that OpenAI's API does not know
    _absent: ClassVar[tuple[str, ...]] = ()  # what OpenAI's API has and we never do: attributes that are None

    def to_dict(self) -> Body:
        """As it travels: without what is absent."""
        return self._body(full=False)

    def to_json(self, *, indent: int | None = 2) -> str:
        return _json(self.to_dict(), indent)

    def model_dump(
        self,
        *,
        mode: str = "json",
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
        by_alias: bool = False,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        warnings: bool = True,
    ) -> Body:
        """As pydantic does it: every field of OpenAI's, None where there is nothing.

        `include` and `exclude` name fields of the object itself. There are no aliases and nothing to warn
        of, and every value is one of JSON's in either `mode`.
        """
        body = self._body(full=not (exclude_unset or exclude_defaults))
        if include is not None:
            body = {name: value for name, value in body.items() if name in include}
        body = {name: value for name, value in body.items() if name not in (exclude or ())}
        return _without_none(body) if exclude_none else body

    def model_dump_json(self, *, indent: int | None = None, **how: Any) -> str:
        """`how` is what `model_dump` takes."""
        return _json(self.model_dump(**how), indent)

    def keys(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._members())

    def get(self, name: str, default: Any = None) -> Any:
        return dict(self._members()).get(name, default)

    def __getitem__(self, name: str) -> Any:
        return dict(self._members())[name]

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    if not TYPE_CHECKING:  # a checker would take every misspelt attribute for one of these

        def __getattr__(self, name: str) -> Any:
            if name != "extra" and not name.startswith("_"):
                extra = getattr(self, "extra", None) or {}
                if name in extra:
                    return extra[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _members(self) -> Iterator[tuple[str, object]]:
        """Name and value of all that OpenAI's API knows, what is always there first."""
        always, others, has_extra = _names(type(self))  # type: ignore[arg-type]
        for name in (*always, *others):
            yield name, getattr(self, name)
        if has_extra:
            yield from (self.extra or {}).items()  # type: ignore[attr-defined]

    def _body(self, *, full: bool) -> Body:
        always = self._always
        return {
            name: value if type(value) in _SCALARS else _dumped(value, full)
            for name, value in self._members()
            if value is not None or full or name in always
        }


@cache
def _names(kind: type[OpenAIObject]) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Of a class: the fields that are always written, the others, and whether there is `extra`."""
    names = [each.name for each in fields(kind) if each.name not in kind._ours]  # type: ignore[arg-type]
    others = tuple(name for name in names if name not in kind._always and name != "extra")
    return kind._always, (*others, *kind._absent), "extra" in names


def _dumped(value: object, full: bool) -> object:
    if isinstance(value, OpenAIObject):
        return value._body(full=full)
    if isinstance(value, tuple | list):
        return [_dumped(item, full) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _without_none(body: Body) -> Body:
    def thinned(value: object) -> object:
        if isinstance(value, list):
            return [thinned(item) for item in value]
        return _without_none(value) if isinstance(value, dict) else value

    return {name: thinned(value) for name, value in body.items() if value is not None}


def _json(body: Body, indent: int | None) -> str:
    separators = (",", ":") if indent is None else None
    return json.dumps(body, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
