"""How good routers are on labelled prompts, and how long their decisions take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Unpack

from edge_router.bench.latency import Latency
from edge_router.bench.router import bench_router
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.control.pool import Pool
from edge_router.records import dataclass
from edge_router.routing import evaluation
from edge_router.routing.labels.reading import read_labelled
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress

TIMED = 1000  # prompts


@dataclass(frozen=True, slots=True)
class RouterEvaluation:
    """`found`: by group and router. `times`: milliseconds of a decision by router, where they were asked."""

    found: evaluation.Evaluation
    times: Mapping[str, Latency]

    def to_dict(self) -> dict[str, dict[str, dict[str, float | int | None]]]:
        """What `evaluate --json` prints."""
        return self.found.to_dict()


def evaluate(
    files: Path | str | Sequence[Path | str],
    config: Config | None = None,
    *,
    routers: Sequence[str] = (),
    by: str = "benchmark",
    sample: int | None = None,
    latency: bool = False,
    paths: Paths | None = None,
    progress: Progress | None = None,
    **settings: Unpack[SettingArguments],
) -> RouterEvaluation:
    """APGR, CPT and the curve of `routers`, or of the configured one, beside the controls length, random and
    oracle, on prompts for which both models' answers were judged.

    `files` (.parquet, .csv, .jsonl) have the columns prompt, weak_score and strong_score; rows are grouped by
    the column `by`, several with commas. `sample`: only so many of each group. `latency`: decisions are also
    timed. Raises `InvalidData`, `UnknownName`, `ConfigError`, what loading a router does.
    """
    config, progress = configured(config, settings), progress or SilentProgress()
    groups: dict[str, Mapping[str, evaluation.RouterMetrics]] = {}
    warnings: list[str] = []
    prompts: list[str] = []
    with closing(Pool(config, paths=paths, progress=progress)) as pool:
        loaded = {name: pool.router(name) for name in [*(routers or [config.router.name]), "length"]}
        scorers = {name: router.score_texts for name, router in loaded.items()}
        for file in map(Path, [files] if isinstance(files, Path | str) else files):
            data = read_labelled(file)
            if sample is not None:
                data = data.spread(sample, by)
            prompts += data.prompts
            with progress.step(f"evaluate on {file.name}"):
                found = evaluation.evaluate(data, scorers, by=by)
            groups |= {f"{file}: {name}" if name in groups else name: of for name, of in found.groups.items()}
            warnings += found.warnings
        spread = prompts[:: max(1, len(prompts) // TIMED)]
        timed = loaded if latency else {}
        times = {name: bench_router(router, spread, progress).whole for name, router in timed.items()}
    return RouterEvaluation(evaluation.Evaluation(groups, tuple(warnings)), times)
