"""How well a kind of router transfers: what it is worth on a part of the pool that it was not fitted on.

Each source, or each subset, is left out in turn, and with it the same tasks in other sources. What it is then
worth is the APGR between the tiers of that source: the mean of its weak models' scores against the mean of
its strong ones'. Variants are chosen by this number; evaluation files choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from edge_router.catalog import RouterCard
from edge_router.compile.training import head as heads
from edge_router.compile.training import static
from edge_router.compile.training.factors import Scaling
from edge_router.compile.training.learn import encode, fit_ranking, run
from edge_router.compile.training.pool import LabelPool
from edge_router.compile.training.scale import tiers
from edge_router.compile.training.settings import TrainSettings
from edge_router.errors import InvalidData
from edge_router.records import dataclass
from edge_router.routing.evaluation import measure
from edge_router.routing.routers import text as texts
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.types import Progress

By = Literal["source", "subset"]
Fit = Callable[[np.ndarray], np.ndarray]  # rows to fit on -> raw numbers of all rows, the harder the larger

FEWEST = 60  # prompts of a subset; on fewer APGR is noise
GAP = 0.05  # between the tiers; PGR is a division by it
EASY = 0.35  # of the models right: the prompts on which a weak model is an option


@dataclass(frozen=True, slots=True)
class Transfer:
    """Of what was left out: APGR over all of it, within its subsets (mean weighted by prompts), and both on
    its easier prompts. None where the tiers do not differ.
    """

    n: int
    whole: float | None
    within: float | None
    easy_whole: float | None
    easy_within: float | None

    @property
    def mean(self) -> float | None:
        known = [v for v in (self.whole, self.within, self.easy_whole, self.easy_within) if v is not None]
        return float(np.mean(known)) if known else None


def transfer(
    settings: TrainSettings,
    pool: LabelPool,
    base: Path,
    encoder: RouterCard | None,
    progress: Progress,
    *,
    by: By = "source",
) -> dict[str, Transfer]:
    """By the name of what was left out. A `bert` is fine-tuned anew each time. `encoder`: of a `sw_ranking`.

    Raises `InvalidData` where nothing is left to fit on.
    """
    fit = _fit(settings, pool, base, encoder, progress)
    labels = pool.sources if by == "source" else pool.subsets
    tasks = np.array([subset.partition("/")[2] for subset in pool.subsets])
    names = [str(name) for name in np.unique(labels) if np.sum(labels == name) >= FEWEST]
    found = {}
    with progress.step(f"leave one {by} out", total=len(names), unit=f"{by}s") as step:
        for name in names:
            held = labels == name
            rest = np.flatnonzero(~held & ~np.isin(tasks, np.unique(tasks[held])))
            if not len(rest):
                raise InvalidData(settings.pool, f"without {name} and its tasks no prompt is left")
            found[name] = _measured(pool, fit(rest), np.flatnonzero(held))
            step.advance()
    return found


def _fit(
    settings: TrainSettings, pool: LabelPool, base: Path, encoder: RouterCard | None, progress: Progress
) -> Fit:
    from edge_router.compile.training.embed import tokenize

    rows = tokenize(base / "tokenizer.json", pool.prompts, settings.cut)
    features = np.array([texts.surface(p, settings.surface) for p in pool.prompts]).reshape(len(pool), -1)
    everything = replace(pool, validation=np.zeros(len(pool), bool))
    fixed = None
    if settings.kind == "sw_ranking" and encoder is not None:
        fixed = run(OnnxRouter(encoder), pool, progress)
    elif settings.kind == "static":
        fixed = static.embed(static.reduce(static.token_vectors(base), rows, settings.dimensions), rows)
    elif settings.kind == "mf":
        _, fixed = encode(settings, pool, base, rows, features, np.arange(len(pool)), progress)

    def fit(fitting: np.ndarray) -> np.ndarray:
        known = everything.take(fitting)
        scaled = Scaling.of(features[fitting]).apply(features)
        embeddings = fixed
        if embeddings is None:
            _, embeddings = encode(settings, pool, base, rows, scaled, fitting, progress)
        if settings.kind == "sw_ranking":
            return fit_ranking(known, embeddings[fitting], settings.dimensions).strength(embeddings)
        factors = heads.fit(known, embeddings[fitting], scaled[fitting], settings.head)
        weak, weights = factors.average()
        return np.asarray(-(embeddings @ factors.projection @ weak + scaled @ weights))

    return fit


def _measured(pool: LabelPool, raw: np.ndarray, rows: np.ndarray) -> Transfer:
    weak, strong = tiers(pool, np.flatnonzero(pool.sources == pool.sources[rows[0]]))
    scores = pool.labels.astype(np.float64)
    both = np.stack([_mean(scores[:, weak]), _mean(scores[:, strong])])
    others = np.setdiff1d(np.flatnonzero(np.isfinite(scores[rows]).any(axis=0)), strong)
    rows = rows[np.isfinite(both[:, rows]).all(axis=0)]
    easy = rows[_mean(scores[np.ix_(rows, others)]) >= EASY]

    def apgr(chosen: np.ndarray) -> float | None:
        return measure(raw[chosen], *both[:, chosen], resamples=0).apgr if len(chosen) else None

    def within(chosen: np.ndarray) -> float | None:
        parts = [chosen[pool.subsets[chosen] == subset] for subset in np.unique(pool.subsets[chosen])]
        told = [(len(p), apgr(p)) for p in parts if len(p) >= FEWEST and np.diff(both[:, p].mean(1)) >= GAP]
        known = [(n, value) for n, value in told if value is not None]
        return float(np.average([v for _, v in known], weights=[n for n, _ in known])) if known else None

    return Transfer(len(rows), apgr(rows), within(rows), apgr(easy), within(easy))


def _mean(values: np.ndarray) -> np.ndarray:
    """Of each row's numbers, NaN where it has none."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    totals = np.where(known, values, 0).sum(axis=1)
    return np.asarray(np.where(counts > 0, totals / np.maximum(counts, 1), np.nan))
