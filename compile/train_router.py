"""Train a router and write its folder: graph, tokenizer and card.

Steps: the base encoder's weights; fine-tune it where asked; embed the pool; fit the head; scale it to a win
rate on the pool's own validation rows; write the graph; choose the default threshold with the graph as it
will run; measure it on evaluation files, which choose nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_router.catalog import RouterCard, parse_router_card
from edge_router.compile.router_onnx import Arrays, GraphSpec, Head, build_router
from edge_router.compile.training import head as heads
from edge_router.compile.training import static
from edge_router.compile.training.card import write_card
from edge_router.compile.training.pool import Pool, read_pool
from edge_router.compile.training.settings import BASE_ENCODER, FineTuning, HeadSettings, TrainSettings
from edge_router.errors import MissingExtra
from edge_router.evaluation import Evaluation, Metrics, evaluate
from edge_router.hub import fetch
from edge_router.labels import read_labelled
from edge_router.paths import Paths
from edge_router.types import Progress, SilentProgress

if TYPE_CHECKING:
    from edge_router.compile.training.encoder import EncoderShape

__all__ = ["BASE_ENCODER", "FineTuning", "HeadSettings", "TrainSettings", "Trained", "train"]

GRAPH, TOKENIZER = "router.onnx", "tokenizer.json"


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
    pool = read_pool(settings.pool)
    base = fetch(settings.base, (paths or Paths.default()).downloads, progress=progress)
    arrays, shape, head = _learn(pool, base, settings, progress)
    folder = settings.output / settings.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(base / TOKENIZER, folder / TOKENIZER)
    spec = GraphSpec(
        layers=len(settings.layers),
        heads=shape.heads,
        epsilon=shape.epsilon,
        max_tokens=settings.cut.max_tokens,
        tail_tokens=settings.cut.tail_tokens,
        without_options=settings.cut.without_options,
    )
    build_router(arrays, head, spec, folder / GRAPH, settings.precision)
    card = _card(settings, pool, folder)
    write_card(card)
    card = replace(card, default_threshold=_threshold(card, pool, settings.strong_share))
    measured = measure_router(card, settings.evaluation, progress) if settings.evaluation else None
    write_card(card, measured)
    return Trained(parse_router_card(folder), measured)


def _learn(
    pool: Pool, base: Path, settings: TrainSettings, progress: Progress
) -> tuple[Arrays, EncoderShape, Head]:
    """The encoder's parameters, what it looks like, and the head."""
    from edge_router.compile.training.embed import tokenize
    from edge_router.compile.training.encoder import load_shape

    rows = tokenize(base / TOKENIZER, pool.prompts, settings.cut)
    features, scaling = heads.surface_of(pool, settings.surface)
    if settings.layers:
        arrays, embeddings = _encode(pool, base, rows, features, settings, progress)
    else:
        table = static.reduce(static.token_vectors(base), rows, settings.dimensions)
        arrays, embeddings = {"table": table}, static.embed(table, rows)
    factors = heads.fit(pool, embeddings, features, settings.head)
    head = heads.scaled_head(factors, pool, embeddings, features, settings.surface, scaling)
    return arrays, load_shape(base), head


def _encode(
    pool: Pool,
    base: Path,
    rows: list[list[int]],
    features: np.ndarray,
    settings: TrainSettings,
    progress: Progress,
) -> tuple[Arrays, np.ndarray]:
    """The parameters, fine-tuned where asked, and the pool's embeddings."""
    import torch

    from edge_router.compile.training.embed import embed
    from edge_router.compile.training.encoder import load_encoder

    torch.set_num_threads(settings.threads)
    encoder = load_encoder(base, settings.layers)
    if settings.fine_tuning:
        from edge_router.compile.training.finetune import fine_tune

        fitting = np.flatnonzero(~pool.validation)
        fine_tune(
            encoder,
            [[rows[i] for i in fitting]],
            pool.take(fitting),
            features[fitting],
            settings.fine_tuning,
            seed=settings.seed,
            progress=progress,
        )
    return encoder.arrays(), embed(encoder, rows, progress)


def _card(settings: TrainSettings, pool: Pool, folder: Path) -> RouterCard:
    query = "the query embedding" if settings.layers else "the mean of the query's token vectors"
    layers = f"{len(settings.layers)} layers" if settings.layers else "token vectors"
    kind = "fine-tuned" if settings.fine_tuning and settings.layers else "frozen"
    return RouterCard(
        name=settings.name,
        directory=folder,
        graph=GRAPH,
        tokenizer=TOKENIZER,
        default_threshold=0.5,
        max_tokens=settings.cut.max_tokens,
        description=f"Matrix factorisation over {query} and the vectors of the pool's models",
        trained_on=f"{pool.provenance()}. Encoder: {layers} of {settings.base}, {kind}",
        license=settings.license,
        metrics={},
    )


def _threshold(card: RouterCard, pool: Pool, strong_share: float) -> float:
    """What sends `strong_share` of the validation rows to the strong model, by the graph's own scores."""
    from edge_router.calibration import choose_threshold
    from edge_router.routers.onnx import OnnxRouter

    held = pool.take(pool.validation)
    return choose_threshold(OnnxRouter(card).score_texts(held.prompts), strong_share).threshold


def measure_router(card: RouterCard, files: Sequence[Path], progress: Progress) -> Evaluation:
    """The router as it will run, beside the controls; groups are the files' benchmarks."""
    from edge_router.routers.controls import LengthRouter
    from edge_router.routers.onnx import OnnxRouter

    scorers = {card.name: OnnxRouter(card).score_texts, "length": LengthRouter().score_texts}
    groups: dict[str, Mapping[str, Metrics]] = {}
    warnings: list[str] = []
    for file in files:
        with progress.step(f"evaluate on {file.name}"):
            found = evaluate(read_labelled(file), scorers)
        groups |= found.groups
        warnings += found.warnings
    return Evaluation(groups, tuple(warnings))


def _require_extra() -> None:
    from importlib.util import find_spec

    for package in ("torch", "onnx", "safetensors", "pyarrow"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train", "training a router")
