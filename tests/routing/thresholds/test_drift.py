"""Traffic that is no longer what a threshold was calibrated on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_router.config.settings import Config
from edge_router.ledger import Ledger, Record
from edge_router.routing.thresholds.drift import (
    ENOUGH,
    Baseline,
    baseline,
    current_drift,
    load,
    measure_drift,
    save,
)
from edge_router.system.paths import Paths
from edge_router.types import Decision, Reason


def scores(low: float, high: float, n: int, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).uniform(low, high, n).tolist()


def test_the_same_traffic_has_not_drifted() -> None:
    base = baseline("mf", 0.7, scores(0, 1, 2000))
    warned = 0
    for seed in range(1, 101):
        found = measure_drift(base, scores(0, 1, 300, seed))
        assert found is not None and found.share == pytest.approx(0.3, abs=0.12)
        warned += found.drifted
    assert warned <= 3


def test_other_traffic_has() -> None:
    base = baseline("mf", 0.7, scores(0, 1, 2000))
    found = measure_drift(base, scores(0.3, 1, 300, 1))
    assert found is not None and found.drifted
    assert found.distance == pytest.approx(0.3, abs=0.08) and found.share == pytest.approx(0.43, abs=0.1)


def test_only_the_latest_scores_count() -> None:
    base = baseline("mf", 0.7, scores(0, 1, 2000))
    found = measure_drift(base, scores(0.9, 1, 5000) + scores(0, 1, 500, 3))
    assert found is not None and found.n == 500 and not found.drifted


def test_tied_scores_are_one_place() -> None:
    base = baseline("mf", 0.5, [0.2] * 500 + [0.8] * 500)
    same = measure_drift(base, [0.2] * 250 + [0.8] * 250)
    assert same is not None and same.distance <= 0.01
    other = measure_drift(base, [0.8] * 500)
    assert other is not None and other.distance == pytest.approx(0.5, abs=0.01) and other.share == 1


def test_too_few_scores_say_nothing() -> None:
    assert measure_drift(baseline("mf", 0.7, scores(0, 1, 2000)), scores(0, 1, ENOUGH - 1)) is None


def test_what_was_calibrated_is_kept_for_each_router(paths: Paths) -> None:
    one, other = baseline("mf", 0.5, scores(0, 1, 200)), baseline("static", 0.2, scores(0, 1, 300))
    save(paths.calibration, one)
    save(paths.calibration, other)
    assert load(paths.calibration) == {"mf": one, "static": other}
    renewed = baseline("mf", 0.6, scores(0, 1, 400))
    save(paths.calibration, renewed)
    assert load(paths.calibration)["mf"] == renewed


@pytest.mark.parametrize("text", ["", "[]", "{", '{"mf": {}}', '{"mf": 3}'])
def test_a_file_that_cannot_be_read_was_never_written(paths: Paths, text: str) -> None:
    paths.calibration.write_text(text, encoding="utf-8")
    assert load(paths.calibration) == {}
    save(paths.calibration, baseline("mf", 0.5, [0.1, 0.9]))
    file = json.loads(paths.calibration.read_text(encoding="utf-8"))
    file["mf"]["percentiles"] = [1]
    paths.calibration.write_text(json.dumps(file), encoding="utf-8")
    assert load(paths.calibration) == {}


def test_only_a_threshold_that_is_in_use_can_be_off(paths: Paths) -> None:
    base = Baseline("mf", 0.71234567, 0.3, 2000, tuple(np.linspace(0, 1, 101).tolist()), 0.0)
    save(paths.calibration, base)
    ledger = Ledger(paths.ledger)
    for score in scores(0.5, 1, ENOUGH):
        ledger.record(Record(Decision("weak", Reason.SCORE, score, 0.7, "mf"), "small"))
    ledger.close()
    config = Config()
    found = current_drift(config.replace(**{"router.threshold": 0.712346}), paths)  # as calibrate prints it
    assert found is not None and found.drifted
    for settings in ({}, {"router.threshold": 0.3}, {"router.threshold": 0.712346, "router.name": "static"}):
        assert current_drift(config.replace(**settings), paths) is None
