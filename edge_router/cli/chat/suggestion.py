"""From the demo model to a real one: which fits this machine, and the one command that takes it.

What was found is kept beside the artifacts, for looking takes part of a second.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Self

from edge_router.cli.terminal.sentences import command
from edge_router.config.sections import WeakConfig
from edge_router.config.settings import Config
from edge_router.device import host
from edge_router.device.bandwidth import bandwidth_file, kept_bandwidth
from edge_router.errors import EdgeRouterError
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.disk import write_text
from edge_router.system.paths import Paths

DEMO = WeakConfig().model


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`model` is DEMO where nothing larger fits; `pace` its speed in words, "" where that is not known."""

    model: str
    pace: str

    @classmethod
    def read(cls, file: Path, key: str) -> Self | None:
        """What was kept under the same key; None for anything else."""
        try:
            kept = strict_json.read_object(file)
            return cls(str(kept["model"]), str(kept["pace"])) if kept["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def words(self, config_file: Path | None = None) -> str:
        """As a sentence that ends in the command, about the configuration file that was asked for."""
        speed = f", at up to {self.pace}" if self.pace else ""
        taking = command("config", "set", f"weak.model={self.model}", config=config_file)
        return f"{self.model} fits this machine{speed}: {taking}"


def suggestion(config: Config, paths: Paths, *, look: bool = False) -> Suggestion | None:
    """For whoever uses the demo model without having chosen it; None where nothing larger fits.

    `look`: at the machine as it is now, whatever is remembered of it.
    """
    if config.origin("weak.model") != "default":
        return None
    file = paths.artifacts / "suggestion.json"
    found = None if look else Suggestion.read(file, _key(config, paths))
    if found is None:
        found = _looked(config, paths)
        if found is None:
            return None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps({"key": _key(config, paths), **asdict(found)}))
        except OSError:
            pass  # then it is looked for again
    return found if found.model != DEMO else None


def _key(config: Config, paths: Paths) -> str:
    """What it depends on. A bandwidth that `plan` has found to be higher is news: no two may advise apart."""
    memory, rate = host(paths.artifacts / "host.json").memory_total, kept_bandwidth(bandwidth_file(paths))
    return f"{version('edge-router')} {memory} {config.weak.device} {rate:.0f}"


def _looked(config: Config, paths: Paths) -> Suggestion | None:
    from edge_router.api.proposals import propose
    from edge_router.cli.verbs.proposal import pace

    try:
        proposal = propose(config, paths=paths, roomy=False)
    except EdgeRouterError:
        return None
    if proposal is None:
        return None
    return Suggestion(proposal.plan.shown.model, pace(proposal.plan))
