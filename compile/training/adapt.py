"""Adapt a router to one pair of models and one kind of traffic, from thirty labelled prompts on.

The encoder stays; the head is fitted anew by ridge regression of the gap (strong score minus weak score) on
the embedding and the surface features, beside the base router's own raw number, which is expected to mean
what it meant on the pool: with few labels the result is the base router, with many it is the user's own.
Seconds on a CPU, no torch.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_router.catalog import RouterCard, parse_router_card
from edge_router.compile.router.head import FactorHead, read_head, replace_head
from edge_router.compile.training.card import write_card
from edge_router.compile.training.scale import SigmoidScale, fit_scale
from edge_router.errors import InvalidData, MissingExtra
from edge_router.records import dataclass
from edge_router.routing.evaluation import RouterMetrics, measure
from edge_router.routing.labels.rows import Labelled
from edge_router.routing.routers import text as texts
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.routing.thresholds.calibration import choose_threshold
from edge_router.types import Progress, SilentProgress

FEWEST = 30  # labelled prompts; with so few the router is nearly its base, which is what it should be
# Both as so many prompts, chosen on pairs of the training pool (models/routers/LOG.md): against a head of the
# user's own, and against the base router meaning more or less than it did on the pool.
RIDGE, TRUST = 10_000.0, 1000.0
FOLDS = 5
_SMALL = 1e-6


@dataclass(frozen=True, slots=True)
class AdaptSettings:
    """`output` gets `<name>/`. `ridge`: see RIDGE."""

    base: RouterCard
    output: Path
    name: str
    strong_share: float = 0.5
    ridge: float = RIDGE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Adapted:
    """`before`: the base router on these prompts. `after`: the new one, cross-validated."""

    card: RouterCard
    before: RouterMetrics
    after: RouterMetrics


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the fit sees: `embeddings` [prompts, hidden], `surface` [prompts, features], `raw` [prompts].

    `promise`: how much the gap should grow with the raw number, by the base router's own scale.
    """

    embeddings: np.ndarray
    surface: np.ndarray
    raw: np.ndarray
    promise: float

    @property
    def ridged(self) -> np.ndarray:
        """On one scale: an embedding's number is about 1 / sqrt(hidden)."""
        return np.hstack([self.embeddings * np.sqrt(self.embeddings.shape[1]), self.surface])

    def take(self, rows: np.ndarray) -> Inputs:
        return replace(self, embeddings=self.embeddings[rows], surface=self.surface[rows], raw=self.raw[rows])


def adapt(data: Labelled, settings: AdaptSettings, progress: Progress | None = None) -> Adapted:
    """Raises `InvalidData` for too few prompts or models that never differ, `InvalidRouter` for a base whose
    head cannot be replaced, `MissingExtra` without onnx.
    """
    check(data)
    progress = progress or SilentProgress()
    graph = Path(str(settings.base.directory / settings.base.graph))
    router = OnnxRouter(settings.base)
    head = read_head(graph, router.surface_names)
    inputs = look(router, head, data, progress)
    gap = data.strong - data.weak
    held_out = cross_validate(inputs, gap, settings.ridge, settings.seed)
    scale = fit_scale(held_out, (gap > 0).astype(np.float64), np.zeros(len(gap)))
    adapted = _head(head, fit_gap(inputs, gap, settings.ridge), scale)
    card = _write(graph, adapted, settings, data)
    before = measure(inputs.raw, data.weak, data.strong)
    return Adapted(card, before, measure(held_out, data.weak, data.strong))


def look(router: OnnxRouter, head: FactorHead, data: Labelled, progress: Progress) -> Inputs:
    """Run the base router over the prompts, as it runs for the user."""
    rows = []
    with progress.step("embed", total=len(data), unit="prompts") as step:
        for prompt in data.prompts:
            rows.append(router.embed_texts([prompt])[0])
            step.advance()
    embeddings = np.array(rows, np.float64)
    names = head.surface.names if head.surface else ()
    features = np.array([texts.surface(p, names) for p in data.prompts], np.float64).reshape(len(data), -1)
    surface = head.surface.standardised(features) if head.surface else features
    raw = head.raw(embeddings, features)
    win = SigmoidScale(head.slope, head.intercept).apply(raw)
    return Inputs(embeddings, surface, raw, promise=float(np.mean(head.slope * win * (1 - win))))


def fit_gap(inputs: Inputs, gap: np.ndarray, ridge: float) -> np.ndarray:
    """Weights of `ridged`'s columns, then of the raw number, then the constant: [hidden + features + 2]."""
    columns = np.hstack([inputs.ridged, inputs.raw[:, None]])
    mean, width = columns.mean(axis=0), inputs.ridged.shape[1]
    design = columns - mean
    penalty = np.append(np.full(width, ridge), TRUST * inputs.raw.var() + _SMALL)
    expected = np.append(np.zeros(width), inputs.promise)
    rest = gap - gap.mean() - design @ expected
    weights = expected + np.linalg.solve(design.T @ design + np.diag(penalty), design.T @ rest)
    return np.append(weights, gap.mean() - mean @ weights)


def predict(inputs: Inputs, weights: np.ndarray) -> np.ndarray:
    return np.asarray(np.hstack([inputs.ridged, inputs.raw[:, None]]) @ weights[:-1] + weights[-1])


def cross_validate(inputs: Inputs, gap: np.ndarray, ridge: float, seed: int) -> np.ndarray:
    """The gap of every prompt as predicted by a fit on the other folds."""
    fold = np.random.default_rng(seed).permutation(len(gap)) % FOLDS
    found = np.zeros(len(gap))
    for k in range(FOLDS):
        rest, rows = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        found[rows] = predict(inputs.take(rows), fit_gap(inputs.take(rest), gap[rest], ridge))
    return found


def _head(base: FactorHead, weights: np.ndarray, scale: SigmoidScale) -> FactorHead:
    """The predicted gap as a head: one more factor, along which only the strong model's vector points."""
    hidden = base.projection.shape[0]
    own, surface = weights[:hidden], weights[hidden:-2]
    share, constant = float(weights[-2]), float(weights[-1])
    projection = np.hstack([base.projection, (own * np.sqrt(hidden))[:, None]])
    changed = None
    if base.surface is not None:
        changed = replace(base.surface, weights=base.surface.weights * share + surface)
    return FactorHead(
        projection=projection,
        weak_vector=np.append(base.weak_vector * share, 0.0),
        strong_vector=np.append(base.strong_vector * share, 1.0),
        surface=changed,
        slope=scale.slope,
        intercept=scale.intercept + scale.slope * constant,
    )


def _write(graph: Path, head: FactorHead, settings: AdaptSettings, data: Labelled) -> RouterCard:
    folder, base = settings.output / settings.name, settings.base
    replace_head(graph, head, folder / base.graph)
    if base.tokenizer:
        shutil.copyfile(str(base.directory / base.tokenizer), folder / base.tokenizer)
    card = replace(
        base,
        name=settings.name,
        directory=folder,
        description=f"{base.name}, adapted to {len(data)} labelled prompts",
        trained_on=f"{base.trained_on}; adapted to {len(data)} prompts of {data.name}",
        metrics={},
        typical_scores=(),
    )
    write_card(card)
    scores = OnnxRouter(card).score_texts(data.prompts)
    threshold = choose_threshold(scores, settings.strong_share).threshold
    write_card(replace(card, default_threshold=threshold))
    return parse_router_card(folder)


def check(data: Labelled) -> None:
    """Raises what `adapt` raises for labels that cannot be learnt from."""
    from importlib.util import find_spec

    if find_spec("onnx") is None:
        raise MissingExtra("onnx", "adapt", "adapting a router")
    if len(data) < FEWEST:
        raise InvalidData(data.name, f"{len(data)} labelled prompts; adapting needs at least {FEWEST}")
    if not (data.strong != data.weak).any():
        raise InvalidData(data.name, "both models got the same score on every prompt: nothing to learn")
