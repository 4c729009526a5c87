"""What fetching and building a model takes, in words, before anybody is asked: bytes, time, disk."""

from __future__ import annotations

from edge_router.api import model_plans
from edge_router.api.model_plans import ModelPlan
from edge_router.catalog import ModelCard
from edge_router.cli.terminal import output
from edge_router.cli.terminal.sentences import command
from edge_router.config.settings import Config
from edge_router.errors import DiskFull, EdgeRouterError
from edge_router.hub.rate import STATED, measured_rate
from edge_router.parsing.sizes import binary, span
from edge_router.records import dataclass
from edge_router.system.disk import free_bytes
from edge_router.system.paths import Paths

_LIBRARY_BYTES = 64 << 20  # compiled code, and what lies beside it


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bytes, about: what comes over the network, and what lies on the disk when all is built. `rate` is in
    bytes per second, and `measured` says whether it is that of the last fetch."""

    download: int
    disk: int
    free: int
    rate: float
    measured: bool

    def check(self, paths: Paths) -> None:
        """Raises `DiskFull` where it has no room."""
        if self.disk > self.free:
            raise DiskFull(paths.downloads, self.disk, self.free)

    def words(self) -> str:
        """ "about 2.1 GiB in 3 min at 12 MiB/s as the last time; on disk 2.2 GiB of 56.5 GiB free"."""
        disk = f"on disk {binary(self.disk)} of {binary(self.free)} free"
        if not self.download:
            return disk
        by = "as the last time" if self.measured else "if that is what your network gives"
        time = f"{span(self.download / self.rate)} at {binary(round(self.rate))}/s {by}"
        return f"about {binary(self.download)}, {time}; {disk}"


def planned(config: Config, paths: Paths) -> ModelPlan | None:
    """The configured model's plan; None for a repository of which nothing is known yet, and where nothing can
    be planned: whoever builds it says why."""
    try:
        return model_plans.plan(config.weak.model, config, paths=paths)
    except EdgeRouterError:
        return None


def fetch_of(plan: ModelPlan, paths: Paths) -> Fetch:
    """What is missing of it: nothing is fetched that is here, and ready weights are not stored twice."""
    download = 0 if plan.here or plan.card.source.kind == "local" else plan.download_bytes
    stored = 0 if is_ready(plan.card, plan.shown.settings.quantization) else plan.shown.bytes("parameters")
    rate = measured_rate(paths.downloads)
    return Fetch(
        download,
        download + stored + _LIBRARY_BYTES,
        free_bytes(paths.downloads),
        STATED if rate is None else rate,
        rate is not None,
    )


def tell(config: Config, paths: Paths) -> None:
    """Ahead of a fetch that was asked for: what it takes, and whether the model then has room here.

    Raises `DiskFull` before anything is fetched.
    """
    plan = planned(config, paths)
    if plan is None:
        return
    fetch = fetch_of(plan, paths)
    if not fetch.download:
        return
    fetch.check(paths)
    output.say(f"{plan.card.name}: {fetch.words()}.", style="dim")
    if plan.best is None:
        lacking = f"lacks {binary(plan.shown.lacking)} on {plan.room.device} of this machine"
        output.say(f"It {lacking}; what fits is listed by: {command('plan')}", style="yellow")


def is_ready(card: ModelCard, quantization: str) -> bool:
    """Whether what is fetched is in that format already."""
    return card.source.kind == "hub" and quantization in str(card.source)
