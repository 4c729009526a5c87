"""What is here, what runs where, what is wrong and the command that mends it, for programs."""

from __future__ import annotations

from typing import Unpack

from edge_router.cli.findings import Finding
from edge_router.cli.options import Options
from edge_router.cli.session import Installation
from edge_router.cli.verbs.checks import examine
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.records import dataclass
from edge_router.system.paths import Paths


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in the order in which one thing needs another."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that is needed is broken."""
        return all(finding.state != "bad" for finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        """What `doctor --json` prints."""
        return {"ok": self.ok, "findings": [finding.to_dict() for finding in self.findings]}


def diagnose(
    config: Config | None = None,
    *,
    paths: Paths | None = None,
    **settings: Unpack[SettingArguments],
) -> Diagnosis:
    """Findings about this machine, the packages, the configuration, the router, both models and the server.

    Each says what it is about, whether that works, is worth knowing ("note") or is broken ("bad"), and what
    mends it. Settings that are none are a finding, too: nothing is raised. With `offline=True` no strong
    model's address is asked.
    """
    return Diagnosis(tuple(examine(_Configured(config, settings, paths), offline=False)))


class _Configured(Installation):
    """As `configured` makes it."""

    def __init__(self, config: Config | None, settings: SettingArguments, paths: Paths | None) -> None:
        super().__init__(Options(), paths)
        self._config, self._settings = config, settings

    def config(self, **overrides: object) -> Config:
        found = configured(self._config, self._settings)
        given = {name.replace("__", "."): value for name, value in overrides.items() if value}
        return found.replace(**given) if given else found
