"""Tables that the user names, `[endpoints.NAME]` and `[callers.NAME]`: which there are, whose a key is."""

from __future__ import annotations

import typing
from collections.abc import Callable
from functools import cache
from typing import Any

from edge_router.config.callers import CALLERS, CallerConfig
from edge_router.config.sections import EndpointConfig
from edge_router.records import dataclass

hints_of: Callable[[Any], dict[str, Any]] = cache(typing.get_type_hints)  # a millisecond for a class

ENDPOINTS = "endpoints"


@dataclass(frozen=True, slots=True)
class NamedTable:
    """Tables that the user names: `[endpoints.NAME]`. `hints` are the types of their settings."""

    kind: type[EndpointConfig] | type[CallerConfig]
    has: str  # what such a table should hold, for errors

    @property
    def hints(self) -> dict[str, Any]:
        """The type of each setting in such a table, by its name."""
        found = hints_of(self.kind)
        return {name: hint for name, hint in found.items() if name != "name"}


class NamedKey(typing.NamedTuple):
    """A key in such a table: the table, the user's name for it, the setting."""

    table: str
    one: str
    field: str


NAMED_TABLES = {
    ENDPOINTS: NamedTable(EndpointConfig, "models = [...]"),
    CALLERS: NamedTable(CallerConfig, "api_key_env or key_hash"),
}
TAKEN = ("auto", "weak", "strong")  # names that a request's model has already


def is_of_named(key: str) -> bool:
    """Whether it is in a table that the user names, such as `[endpoints.NAME]`."""
    return key.partition(".")[0] in NAMED_TABLES


def of_named(key: str) -> NamedKey | None:
    """Where in such a table a key is; None for others."""
    table, _, rest = key.partition(".")
    one, dot, field_name = rest.rpartition(".")
    return NamedKey(table, one, field_name) if table in NAMED_TABLES and dot else None
