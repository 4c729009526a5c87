"""Train a router and write its folder: graph, tokenizer and card.

Steps: the base encoder's weights; fine-tune its upper layers for a `bert`; embed the pool; fit the head;
scale it to a win rate on the pool's own validation rows; write the graph; choose the default threshold with
the graph as it will run; measure it on evaluation files, which choose nothing. A `bert` and a `sw_ranking`
go on from another router's encoder and ship without its weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edge_router.catalog import RouterCard, encoder_card, parse_router_card
from edge_router.compile.training import learn
from edge_router.compile.training.card import write_card
from edge_router.compile.training.pool import LabelPool, read_pool
from edge_router.compile.training.settings import (
    BASE_ENCODER,
    FineTuning,
    HeadSettings,
    Kind,
    TrainSettings,
)
from edge_router.compile.training.transfer import By, Transfer, transfer
from edge_router.errors import MissingExtra
from edge_router.hub import fetch
from edge_router.records import dataclass
from edge_router.routing.evaluation import Evaluation, RouterMetrics, evaluate
from edge_router.routing.labels.reading import read_labelled
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress

__all__ = ["BASE_ENCODER", "FineTuning", "HeadSettings", "Kind", "TrainSettings", "Trained", "train"]

GRAPH, TOKENIZER = "router.onnx", "tokenizer.json"
_DESCRIBED: dict[Kind, str] = {
    "mf": "Matrix factorisation over the query embedding and the vectors of the pool's models",
    "static": "Matrix factorisation over the mean of the query's token vectors and the vectors of the pool's "
    "models",
    "bert": "An encoder whose upper part was fine-tuned on how well each of the pool's models answers",
    "sw_ranking": "Bradley-Terry over reference prompts, weighted by their similarity to the query",
}


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
    folder = settings.output / settings.name
    card = _card(settings, pool, folder)
    encoder = encoder_card(card)
    folder.mkdir(parents=True, exist_ok=True)
    if encoder is not None and settings.kind == "sw_ranking":
        learn.learn_ranking(settings, pool, encoder, folder / GRAPH, progress)
    else:
        base = fetch(settings.base, (paths or Paths.default()).downloads, progress=progress)
        if encoder is not None:
            learn.check_encoder(settings, pool, base, encoder)
        learn.learn(settings, pool, base, folder / GRAPH, progress)
        if card.tokenizer:
            shutil.copyfile(base / TOKENIZER, folder / card.tokenizer)
    write_card(card)
    threshold = _threshold(card, pool, settings.strong_share)
    card = replace(card, default_threshold=threshold, typical_scores=_typical_scores(card))
    measured = measure_router(card, settings.evaluation, progress) if settings.evaluation else None
    write_card(card, measured)
    return Trained(parse_router_card(folder), measured)


def measure_transfer(
    settings: TrainSettings, by: By, progress: Progress | None = None, *, paths: Paths | None = None
) -> dict[str, Transfer]:
    """What such a router is worth on the parts of the pool that it was not fitted on; writes nothing.

    Raises what `train` raises.
    """
    progress = progress or SilentProgress()
    _require_extra()
    pool = read_pool(settings.pool)
    encoder = encoder_card(_card(settings, pool, settings.output / settings.name))
    base = fetch(settings.base, (paths or Paths.default()).downloads, progress=progress)
    return transfer(settings, pool, base, encoder, progress, by=by)


def _card(settings: TrainSettings, pool: LabelPool, folder: Path) -> RouterCard:
    """Before anything is measured."""
    encoder = settings.encoder if settings.kind in ("bert", "sw_ranking") else ""
    return RouterCard(
        name=settings.name,
        directory=folder,
        graph=GRAPH,
        tokenizer="" if encoder else TOKENIZER,
        default_threshold=0.5,
        max_tokens=settings.cut.max_tokens,
        description=_DESCRIBED[settings.kind],
        trained_on=f"{pool.provenance()}. Encoder: {_encoder(settings)}",
        license=settings.license,
        metrics={},
        encoder=encoder,
    )


def _encoder(settings: TrainSettings) -> str:
    layers, tuned = len(settings.chosen_layers), settings.fine_tuning.trained_layers
    if settings.kind == "sw_ranking":
        return f"{settings.encoder}'s"
    if settings.kind == "bert":
        upper = f"the next {tuned} of {layers} layers of {settings.base}, fine-tuned"
        return f"{settings.encoder}'s, then {upper}"
    return f"{f'{layers} layers' if layers else 'token vectors'} of {settings.base}, frozen"


def _threshold(card: RouterCard, pool: LabelPool, strong_share: float) -> float:
    """What sends `strong_share` of the validation rows to the strong model, by the graph's own scores."""
    from edge_router.routing.routers.onnx import OnnxRouter
    from edge_router.routing.thresholds.calibration import choose_threshold

    held = pool.take(pool.validation)
    return choose_threshold(OnnxRouter(card).score_texts(held.prompts), strong_share).threshold


def _typical_scores(card: RouterCard) -> tuple[float, ...]:
    from edge_router.routing.routers.fitting import measured
    from edge_router.routing.routers.onnx import OnnxRouter

    return measured(OnnxRouter(card))


def measure_router(card: RouterCard, files: Sequence[Path], progress: Progress) -> Evaluation:
    """The router as it will run, beside the controls; groups are the files' benchmarks."""
    from edge_router.routing.routers.controls import LengthRouter
    from edge_router.routing.routers.onnx import OnnxRouter

    scorers = {card.name: OnnxRouter(card).score_texts, "length": LengthRouter().score_texts}
    groups: dict[str, Mapping[str, RouterMetrics]] = {}
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
