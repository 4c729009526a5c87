"""A group of verbs of which only the one that is used gets imported, and options that every verb takes.

The names and one-line helps stand in a table, so that help and shell completion load nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from edge_router.cli.options import Options
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class Verb:
    """`module` holds `app`, a Typer."""

    name: str
    section: str
    help: str
    module: str


class LazyGroup(TyperGroup):
    """Subclasses set `verbs`. Contexts and commands are `Any`: typer's base classes changed their home."""

    verbs: tuple[Verb, ...] = ()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for verb in self.verbs:
            self.add_command(TyperCommand(verb.name, help=verb.help), verb.name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, placeholder, rest = super().resolve_command(ctx, args)
        module = next((verb.module for verb in self.verbs if verb.name == name), None)
        if module is None:
            return name, placeholder, rest
        command: Any = get_command(import_module(module).app)
        command.name = name
        from edge_router.cli.elsewhere import refused

        if told := refused(command, rest):
            with command.make_context(name, ["--help"], parent=ctx, resilient_parsing=True) as about:
                about.fail(told)
        _add_common(command, [param for param in self.params if param.name in _RECORDED])
        return name, command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(len(verb.name) for verb in self.verbs)
        for section in dict.fromkeys(verb.section for verb in self.verbs):
            rows = [(verb.name.ljust(width), verb.help) for verb in self.verbs if verb.section == section]
            with formatter.section(section):
                formatter.write_dl(rows)


_RECORDED = ("config", "settings", "debug", "quiet")


def _add_common(command: Any, common: Iterable[Any]) -> None:
    """Let `command`, and the commands below it, take the options of the root as well."""
    below = getattr(command, "commands", None)
    if below is not None:
        for inner in below.values():
            _add_common(inner, common)
        return
    for param in common:
        twin = copy.copy(param)
        twin.expose_value, twin.callback = False, _recorder(param.name)
        command.params.append(twin)


def _recorder(name: str) -> Callable[[Any, Any, Any], Any]:
    def record(ctx: typer.Context, _: object, value: Any) -> Any:
        if value and isinstance(ctx.obj, Options):
            ctx.obj.add(**{name: value})
        return value

    return record
