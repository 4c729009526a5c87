"""`edge-router bench weak --against llama.cpp`: tables beside other programs, the least favourable first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.stderr_redirect import hushed
from edge_router.errors import InvalidInput

if TYPE_CHECKING:
    from edge_router.config.settings import Config


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """The options. `numbers`: prompts, depths and how many at once, each as it was written."""

    against: Sequence[str]
    llama_bench: Path | None
    sizes: bool
    random: bool
    short: bool
    numbers: tuple[str | None, str | None, str | None]
    rounds: int


def beside(session: Session, config: Config, asked: PeerOptions, *, json: bool) -> None:
    """Raises what `bench_peers` raises, and `InvalidInput` for numbers that are none."""
    from edge_router.bench.peers.cases import SMALL, Grid
    from edge_router.bench.peers.run import Wanted, bench_peers
    from edge_router.engines.tvm.engine import thread_count

    grid = SMALL if asked.short else Grid()
    for name, least, text in zip(("prefill", "depths", "batches"), (1, 0, 1), asked.numbers, strict=True):
        if text is not None:
            grid = replace(grid, **{name: numbers(text, least)})
    most = thread_count(config, session.paths)
    threads = (most,) if config.weak.threads else tuple(dict.fromkeys((1, most)))
    wanted = Wanted(asked.against, threads, grid, asked.rounds, asked.llama_bench)
    with hushed():
        found = bench_peers(
            config, session.paths, wanted, random=asked.random, sizes=asked.sizes, progress=session.progress
        )
    if json:
        output.write_json(found.to_dict())
    else:
        output.write(found.markdown() + "\n")


def numbers(text: str, least: int) -> tuple[int, ...]:
    """Of "128,512", each at least `least`, once and in order; none where it is empty."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and int(part) >= least for part in parts):
        raise InvalidInput(f"{text!r} is no list of numbers from {least} on, such as 128,512")
    return tuple(sorted({int(part) for part in parts}))
