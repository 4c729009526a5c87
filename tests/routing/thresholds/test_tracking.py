from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.routing.thresholds.tracking import ENOUGH, RATE, WINDOW, ShareTracker

scores = st.floats(0, 1)


def run(tracker: ShareTracker, traffic: Iterable[float]) -> list[bool]:
    sent = []
    for score in traffic:
        sent.append(score >= tracker.threshold)
        tracker.observe(score, sent=sent[-1])
    return sent


@given(st.lists(scores, min_size=1, max_size=300), scores)
def test_the_share_is_bounded_whatever_the_traffic_does(traffic: list[float], share: float) -> None:
    sent = run(ShareTracker(share, 0.5, router="mf"), traffic)
    assert abs(np.mean(sent) - share) <= (1 + RATE) / (RATE * len(sent)) + 1e-9


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_it_holds_through_shifts_of_traffic(share: float) -> None:
    """Easy questions, hard ones, then both: each part by itself comes near, the whole nearer."""
    rng = np.random.default_rng(0)
    parts = [
        rng.beta(2, 8, 1500),
        rng.beta(9, 3, 1500),
        rng.permutation(np.r_[rng.beta(2, 8, 750), rng.beta(9, 3, 750)]),
    ]
    sent = np.array(run(ShareTracker(share, 0.3, router="mf"), np.concatenate(parts)))
    assert sent.mean() == pytest.approx(share, abs=0.01)
    for part in np.split(sent, 3):
        assert part.mean() == pytest.approx(share, abs=0.03)


def test_within_steady_traffic_the_hardest_are_the_ones_sent() -> None:
    traffic = np.random.default_rng(1).random(2000)
    sent = np.array(run(ShareTracker(0.2, 0.5, router="mf"), traffic))[500:]
    assert traffic[500:][sent].min() > 0.6
    assert traffic[500:][sent].mean() > traffic[500:][~sent].mean() + 0.4


def test_one_score_for_all_is_still_held() -> None:
    assert np.mean(run(ShareTracker(0.25, 0.5, router="mf"), [0.4] * 800)) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("share", "sent"), [(0.0, 0), (1.0, 200)])
def test_nothing_and_everything(share: float, sent: int) -> None:
    assert sum(run(ShareTracker(share, 0.5, router="mf"), [1.0, 0.0] * 100)) == sent


def test_at_first_the_threshold_is_the_routers_own() -> None:
    tracker = ShareTracker(0.5, 0.37, router="mf")
    assert tracker.threshold == 0.37
    run(tracker, [0.3, 0.45] * (ENOUGH // 2))
    assert tracker.threshold == pytest.approx(0.375, abs=0.004)
    assert tracker.threshold != 0.37


def test_what_was_learnt_outlives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "state" / "share.json"
    first = ShareTracker(0.3, 0.5, router="mf", file=file)
    run(first, np.random.default_rng(2).random(WINDOW + 120))
    first.save()
    assert ShareTracker(0.3, 0.5, router="mf", file=file).threshold == first.threshold
    assert len(json.loads(file.read_text("utf-8"))["scores"]) == WINDOW
    assert ShareTracker(0.3, 0.5, router="static", file=file).threshold == 0.5


def test_it_saves_itself_now_and_then(tmp_path: Path) -> None:
    tracker = ShareTracker(0.3, 0.5, router="mf", file=tmp_path / "share.json")
    run(tracker, [0.5] * 120)
    assert len(json.loads((tmp_path / "share.json").read_text("utf-8"))["scores"]) == 100


@pytest.mark.parametrize(
    "content",
    [
        "nonsense",
        "[]",
        '{"router": "mf"}',
        '{"router": "mf", "level": 7, "scores": []}',
        '{"router": "mf", "level": 0.5, "scores": [2]}',
        '{"router": "mf", "level": 0.5, "scores": ["x"]}',
        '{"router": "mf", "level": NaN, "scores": []}',
    ],
)
def test_a_file_that_says_nothing_sensible_is_forgotten(tmp_path: Path, content: str) -> None:
    file = tmp_path / "share.json"
    file.write_text(content, encoding="utf-8")
    assert ShareTracker(0.3, 0.5, router="mf", file=file).threshold == 0.5


def test_a_file_that_cannot_be_written_fails_no_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    tracker = ShareTracker(0.3, 0.5, router="mf", file=tmp_path / "file" / "share.json")
    with caplog.at_level(logging.WARNING):
        run(tracker, [0.5] * 200)
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text


def test_from_several_threads_every_decision_counts() -> None:
    tracker = ShareTracker(0.2, 0.5, router="mf")
    traffic = np.random.default_rng(3).random((8, 250))
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda part: run(tracker, part), traffic))
    # Eight may be decided by one threshold before any of them has moved it.
    assert np.mean(sent) == pytest.approx(0.2, abs=(1 + 8 * RATE) / (RATE * 2000) + 1e-9)
