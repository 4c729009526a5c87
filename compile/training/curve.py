"""What labels are worth: APGR of the adapted router against the number of labelled prompts it is fitted on.

Each point is the mean over random draws: fitted on so many prompts, measured on all the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_router.catalog import RouterCard
from edge_router.compile.router.head import read_head
from edge_router.compile.training.adapt import RIDGE, Inputs, fit_gap, look, predict
from edge_router.compile.training.adapt import check as check_labels
from edge_router.errors import InvalidData
from edge_router.records import dataclass
from edge_router.routing.evaluation import measure
from edge_router.routing.labels.rows import Labelled
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.types import Progress, SilentProgress

SIZES = (50, 100, 200, 300, 500, 1000, 1500, 2000, 3000, 5000)
DRAWS = 10
HELD_OUT, FEWEST = 0.25, 50  # at least this part of the prompts is measured on, and at least so many


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """`apgr`: the mean over the draws; `spread`: their standard deviation. `labels` 0 is the base router."""

    labels: int
    apgr: float
    spread: float

    def to_dict(self) -> dict[str, float | int]:
        return {"labels": self.labels, "apgr": round(self.apgr, 4), "spread": round(self.spread, 4)}


def learning_curve(
    data: Labelled, base: RouterCard, *, draws: int = DRAWS, seed: int = 0, progress: Progress | None = None
) -> tuple[CurvePoint, ...]:
    """A point for each of `SIZES` that leaves enough to measure on, after the one without labels.

    Raises `InvalidData` for too few prompts, and what `adapt` raises.
    """
    check_labels(data)
    sizes = sizes_for(len(data))
    if not sizes:
        raise InvalidData(data.name, f"{len(data)} labelled prompts; a curve needs at least {2 * FEWEST}")
    progress = progress or SilentProgress()
    router = OnnxRouter(base)
    head = read_head(Path(str(base.directory / base.graph)), router.surface_names)
    inputs = look(router, head, data, progress)
    with progress.step("learning curve", total=len(sizes), unit="points") as step:
        found = []
        for size in (0, *sizes):
            found.append(_point(inputs, data, size, draws, seed))
            step.advance(bool(size))
    return tuple(point for point in found if point is not None)


def sizes_for(n: int) -> tuple[int, ...]:
    most = n - max(FEWEST, int(n * HELD_OUT))
    return tuple(size for size in SIZES if size <= most)


def _point(inputs: Inputs, data: Labelled, size: int, draws: int, seed: int) -> CurvePoint | None:
    """None where PGR is undefined in every draw."""
    rng = np.random.default_rng(seed)
    gap = data.strong - data.weak
    orders: Sequence[np.ndarray] = [rng.permutation(len(data)) for _ in range(draws if size else 1)]
    areas = []
    for order in orders:
        fitted, rest = order[:size], order[size:]
        scores = inputs.raw[rest]
        if size:
            scores = predict(inputs.take(rest), fit_gap(inputs.take(fitted), gap[fitted], RIDGE))
        apgr = measure(scores, data.weak[rest], data.strong[rest], resamples=0).apgr
        if apgr is not None:
            areas.append(apgr)
    if not areas:
        return None
    return CurvePoint(size, float(np.mean(areas)), float(np.std(areas, ddof=1)) if len(areas) > 1 else 0.0)
