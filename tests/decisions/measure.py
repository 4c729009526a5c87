"""How good the weak model's answers to typed questions are, with each of the switches on and off.

    EDGE_ROUTER_HOME=... python tests/decisions/measure.py [--model NAME] [--each 60] [--random]

prints the table of models/README.md: accuracy, expected calibration error (ten bins of the likeliest answer's
probability) and Brier score (summed over the options) on the suite's half "test". Temperatures are found on
its other half. `--random`: the model's shape with random weights, which shows nothing but that all goes well.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent))

from suite import FAMILIES, Decision, suite

from edge_router.bench.random_weights import random_model
from edge_router.config.settings import Config
from edge_router.engines.local.deciding import Manner
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.tvm.engine import built, open_model, thread_count
from edge_router.questions.inquiry import Answered, Inquiry
from edge_router.questions.question import Choice, Scale, YesNo
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

Rows = Sequence[npt.NDArray[np.float64]]
UNTEMPERED = dict.fromkeys((YesNo, Choice, Scale), 1.0)
TEMPERATURES = np.geomspace(0.4, 4, 37)
MANNERS = {
    "codes, one order": Manner("codes", 1, prior=False, temperatures=UNTEMPERED),
    "codes, two orders": Manner("codes", 2, prior=False, temperatures=UNTEMPERED),
    "codes, all orders": Manner("codes", 9, prior=False, temperatures=UNTEMPERED),
    "codes, one order, prior away": Manner("codes", 1, prior=True, temperatures=UNTEMPERED),
    "codes, two orders, prior away": Manner("codes", 2, prior=True, temperatures=UNTEMPERED),
    "labels": Manner("labels", prior=False, temperatures=UNTEMPERED),
    "labels, prior away": Manner("labels", prior=True, temperatures=UNTEMPERED),
}
LAST = "labels, prior away"


def probabilities(engine: LocalEngine, manner: Manner, decisions: Sequence[Decision]) -> Rows:
    engine.decider.manner = manner
    found = []
    for decision in decisions:
        events = engine.decide(Inquiry(decision.state, [decision.question]), threading.Event())
        found += [np.array(event.probabilities) for event in events if isinstance(event, Answered)]
    return found


def tempered(rows: Rows, decisions: Sequence[Decision], temperatures: dict[type, float]) -> Rows:
    powers = [row ** (1 / temperatures[type(d.question)]) for row, d in zip(rows, decisions, strict=True)]
    return [power / power.sum() for power in powers]


def fitted(rows: Rows, decisions: Sequence[Decision]) -> dict[type, float]:
    """By type, the temperature of the least negative log likelihood."""
    found = {}
    for kind in UNTEMPERED:
        own = [number for number, decision in enumerate(decisions) if isinstance(decision.question, kind)]
        picked, right = [rows[number] for number in own], [decisions[number] for number in own]

        def loss(temperature: float, picked: Rows = picked, right: Sequence[Decision] = right) -> float:
            given = tempered(picked, right, dict.fromkeys(UNTEMPERED, temperature))
            return -sum(np.log(max(row[d.answer], 1e-12)) for row, d in zip(given, right, strict=True))

        found[kind] = float(min(TEMPERATURES, key=loss))
    return found


def scores(rows: Rows, decisions: Sequence[Decision]) -> tuple[float, float, float]:
    """Accuracy, expected calibration error, Brier score."""
    sure = np.array([row.max() for row in rows])
    right = np.array([row.argmax() == d.answer for row, d in zip(rows, decisions, strict=True)])
    bins = np.minimum((sure * 10).astype(int), 9)
    error = sum(
        (bins == at).mean() * abs(sure[bins == at].mean() - right[bins == at].mean()) for at in set(bins)
    )
    brier = np.mean(
        [((row - np.eye(len(row))[d.answer]) ** 2).sum() for row, d in zip(rows, decisions, strict=True)]
    )
    return float(right.mean()), float(error), float(brier)


def line(name: str, rows: Rows, decisions: Sequence[Decision], seconds: float | None = None) -> str:
    parts = []
    for family in FAMILIES:
        own = [number for number, decision in enumerate(decisions) if decision.family == family]
        parts.append(f"{scores([rows[n] for n in own], [decisions[n] for n in own])[0]:.2f}")
    accuracy, error, brier = scores(rows, decisions)
    spent = "" if seconds is None else f"{1000 * seconds / len(decisions):.0f}"
    return f"| {name} | {accuracy:.3f} | {error:.3f} | {brier:.3f} | {' | '.join(parts)} | {spent} |"


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def measure(engine: LocalEngine, each: int) -> None:
    test = suite("test", each=each)
    tell(f"| manner | accuracy | ECE | Brier | {' | '.join(FAMILIES)} | ms |")
    tell("|---" * (5 + len(FAMILIES)) + "|")
    chance = [np.full(decision.question.size, 1 / decision.question.size) for decision in test]
    accuracy = np.mean([row[0] for row in chance])
    tell(f"| chance | {accuracy:.3f} | | {scores(chance, test)[2]:.3f} |{' |' * (len(FAMILIES) + 1)}")
    for name, manner in MANNERS.items():
        begin = time.perf_counter()
        rows = probabilities(engine, manner, test)
        tell(line(name, rows, test, time.perf_counter() - begin))
        if name == LAST:
            fit = suite("fit", each=each)
            found = fitted(probabilities(engine, manner, fit), fit)
            named = ", ".join(f"{kind.__name__} {value:.2f}" for kind, value in found.items())
            tell(line(f"{name}, temperatures ({named})", tempered(rows, test, found), test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--each", type=int, default=60, help="decisions of each family")
    parser.add_argument("--random", action="store_true", help="random weights")
    options = parser.parse_args()
    config = Config.load(overrides={"weak.engine": "tvm", "weak.device": "cpu", "weak.model": options.model})
    paths, progress = Paths.default(), SilentProgress()

    def run(compiled: object) -> None:
        threads = thread_count(config, paths)
        engine = open_model(compiled.model_dir, compiled.library, model_id=options.model, threads=threads)  # type: ignore[attr-defined]
        try:
            measure(engine, options.each)
        finally:
            engine.close()

    if options.random:
        with random_model(config, paths, progress) as drawn:
            run(drawn)
    else:
        run(built(config, paths, progress))


if __name__ == "__main__":
    main()
