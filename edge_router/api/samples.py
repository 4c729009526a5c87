"""Samples of the traffic: prompts of a file or a list, and what the ledger remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_router.config.settings import Config
from edge_router.control.pool import Pool
from edge_router.ledger import Ledger, NothingRecorded
from edge_router.routing.labels.reading import read_prompts
from edge_router.system.paths import Paths
from edge_router.types import Progress

Prompts = (
    Path | str | Sequence[str]
)  # a file (.txt with one per line, .jsonl, .csv, .parquet), or the prompts


def prompts_of(prompts: Prompts) -> Sequence[str]:
    """Raises `InvalidData` for a file that holds none, `MissingExtra`."""
    return read_prompts(Path(prompts)) if isinstance(prompts, Path | str) else tuple(prompts)


def scores_of(
    prompts: Prompts | None, config: Config, paths: Paths, *, last: int | None, progress: Progress
) -> Sequence[float]:
    """The configured router's scores of `prompts`, or of the `last` ones in the ledger.

    Raises `NothingRecorded`, `InvalidData`, what loading the router does.
    """
    if prompts is None:
        scores = Ledger(paths.ledger).scores(router=config.router.name)
        if not scores:
            raise NothingRecorded(f"score of {config.router.name} yet")
        return scores[-last:] if last is not None else scores
    texts = prompts_of(prompts)
    pool = Pool(config, paths=paths, progress=progress)
    try:
        router = pool.router(None)
        with progress.step("score", total=len(texts), unit="prompts") as step:
            found = router.score_texts(texts)
            step.advance(len(texts))
    finally:
        pool.close()
    return found
