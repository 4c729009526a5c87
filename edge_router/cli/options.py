"""What every verb takes: where the settings come from, and how much is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Protocol

from edge_router.errors.redaction import shown
from edge_router.records import dataclass


class Context(Protocol):
    """As much of typer's as verbs take from it."""

    def ensure_object(self, kind: type[Options], /) -> Options: ...


@dataclass
class Options:
    """The options that may stand before or after any verb. One per run of the program."""

    config: Path | None = None
    settings: dict[str, str] = field(default_factory=dict)  # "section.name" to what was written
    debug: bool = False
    quiet: bool = False

    def add(
        self,
        *,
        config: Path | str | None = None,
        settings: Sequence[str] = (),
        debug: bool = False,
        quiet: bool = False,
    ) -> None:
        """Later ones win. Raises `typer.BadParameter` for a setting that is not NAME=VALUE."""
        self.config = Path(config) if config else self.config
        self.settings |= dict(map(_parse, settings))
        self.debug, self.quiet = self.debug or debug, self.quiet or quiet


def _parse(setting: str) -> tuple[str, str]:
    import typer

    key, equals, value = setting.partition("=")
    if not key.strip() or not equals:
        raise typer.BadParameter(f"{shown('', setting)!r} is not NAME=VALUE, such as weak.threads=2")
    return key.strip(), value.strip()
