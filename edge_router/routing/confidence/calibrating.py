"""From questions with known answers to a gate: ask, fit, measure on answers that were not fitted on, keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_router.engines.base import Engine
from edge_router.errors import EngineUnavailable
from edge_router.records import dataclass
from edge_router.routing.confidence.asking import LONGEST, ConfidenceTask, anchors, ask
from edge_router.routing.confidence.fit import Sample, gate
from edge_router.routing.confidence.gate_store import keep
from edge_router.routing.confidence.measure import Worth, measure
from edge_router.routing.routers.base import Router
from edge_router.routing.thresholds.calibration import Calibration, choose_threshold
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress


@dataclass(frozen=True, slots=True)
class Calibrated:
    """`right`: the share of right answers. `chosen` is of doubts, which are one less the chance."""

    model: str
    router: str
    tokens: int
    right: float
    chosen: Calibration
    signals: Mapping[str, Worth]

    @property
    def min_confidence(self) -> float:
        return 1 - self.chosen.threshold

    def to_dict(self) -> dict[str, object]:
        shares = {name: value for name, value in self.chosen.to_dict().items() if name != "threshold"}
        return {
            "model": self.model,
            "router": self.router,
            "tokens": self.tokens,
            "right": round(self.right, 4),
            "min_confidence": self.min_confidence,
            **shares,
            "signals": {name: worth.to_dict() for name, worth in self.signals.items()},
        }


def calibrate(
    engine: Engine,
    router: Router,
    tasks: Sequence[ConfidenceTask],
    paths: Paths,
    *,
    strong_share: float,
    tokens: int,
    longest: int = LONGEST,
    progress: Progress | None = None,
) -> Calibrated:
    """`strong_share` of the weak model's answers to `tasks` is to be escalated, `tokens` are held back.

    Raises `EngineUnavailable` for an engine whose weights are no artifact, `InvalidInput` for too few right
    or wrong answers, `StorageError`, and what the engine raises.
    """
    progress = progress or SilentProgress()
    weights, watched = _weights(engine), _watched(engine)
    file = answers_file(engine, paths, longest)
    asked, seen = ask(engine, tasks, watched, file, longest=longest, progress=progress)
    sample = Sample(seen, tokens)
    texts = [task.text for task in asked]
    with progress.step("fit"):
        scores = router.score_texts(texts)
        measured = measure(sample, scores, [len(text) for text in texts], [task.kind for task in asked])
        found = gate(sample, watched if sample.state.shape[1] else ())
    inputs = {"model": engine.model_id, "weights": weights, "answers": len(seen), "tokens": tokens}
    keep(found, paths, weights, inputs)
    return Calibrated(
        engine.model_id,
        router.name,
        tokens,
        float(sample.right.mean()),
        choose_threshold(measured.doubts, strong_share),
        measured.signals,
    )


def answers_file(engine: Engine, paths: Paths, longest: int) -> Path:
    """Where the answers are, of all runs with these weights, as much to see and answers of that length."""
    name = f"{_weights(engine)}-{len(_watched(engine))}-{longest}.jsonl"
    return paths.confidence / name


def _watched(engine: Engine) -> tuple[int, ...]:
    return anchors(engine.capabilities.vocab_size or 0)


def _weights(engine: Engine) -> str:
    key = engine.capabilities.weights
    if key is None:
        raise EngineUnavailable(engine.model_id, "only a weak model that was built here can be calibrated")
    return key
