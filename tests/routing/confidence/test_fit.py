"""Fitting and measuring, on numbers whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.errors import InvalidData, InvalidInput
from edge_router.routing.confidence import gate_store
from edge_router.routing.confidence.fit import SIGNALS, JudgedAnswer, Sample, gate, odds, plain, probe, unseen
from edge_router.routing.confidence.gate import Gate, LogisticRegression
from edge_router.routing.confidence.measure import auroc, measure
from edge_router.system.paths import Paths


def seen(n: int = 200, *, told: float = 2.0, kinds: int = 4, seed: int = 0) -> list[JudgedAnswer]:
    """Answers whose state tells with strength `told` whether they are right; of 24 numbers one does."""
    rng = np.random.default_rng(seed)
    found = []
    for place_ in range(n):
        state = rng.normal(size=24)
        right = bool(rng.random() < 1 / (1 + np.exp(-told * state[7])))
        logprobs = -rng.exponential(0.3 if right else 1.0, rng.integers(1, 6))
        found.append(JudgedAnswer(f"kind {place_ % kinds}", right, tuple(state), tuple(logprobs)))
    return found


def test_a_head_finds_what_decides() -> None:
    sample = Sample(seen(600), 4)
    head, _ = probe(sample.state, sample.right)
    assert np.argmax(np.abs(head.weights)) == 7 and head.weights[7] > 0


def test_a_plain_head_gives_calibrated_chances() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 5.0, (4000, 2))
    right = (rng.random(4000) < 1 / (1 + np.exp(-(values @ [0.4, -0.2] - 1)))).astype(float)
    head = plain(values, right)
    assert np.allclose(head.weights, [0.4, -0.2], atol=0.05) and abs(head.bias + 1) < 0.3
    chance = 1 / (1 + np.exp(-odds(head, values)))
    assert abs(chance.mean() - right.mean()) < 1e-6  # the bias has no penalty


def test_constant_and_huge_numbers_break_nothing() -> None:
    right = np.array([0.0, 1.0] * 30)
    head = plain(np.column_stack([np.ones(60), 1e6 * right]), right)
    assert (
        np.isfinite(head.weights).all()
        and auroc(-odds(head, np.column_stack([np.ones(60), 1e6 * right])), 1 - right) == 1
    )


def test_nothing_is_learnt_from_chance() -> None:
    """Whatever a fit has memorised does not help it on the answers that it was not shown."""
    sample = Sample(seen(300, told=0.0), 4)
    shuffled = [replace(one, logprobs=(-1.0,)) for one in sample.seen]
    found = unseen(Sample(shuffled, 4), np.zeros(300))
    for name in ("probe", "said + probe"):
        assert 0.38 < auroc(-found[name], 1 - sample.right) < 0.62
    head, inner = probe(sample.state, sample.right)
    assert auroc(-inner, 1 - sample.right) <= auroc(-odds(head, sample.state), 1 - sample.right)


def test_signals_add_up() -> None:
    worth = measure(
        Sample(seen(500), 4), np.zeros(500), np.ones(500), [one.kind for one in seen(500)]
    ).signals
    assert {*SIGNALS, "random", "length", "score", "oracle"} == set(worth)
    assert worth["said + probe"].auroc > max(worth["said"].auroc, worth["probe"].auroc) > 0.6
    assert worth["oracle"].auroc == 1 and worth["score"].auroc == worth["length"].auroc == 0.5
    assert worth["probe"].auroc_low < worth["probe"].auroc < worth["probe"].auroc_high
    assert worth["oracle"].apgr > worth["probe"].apgr > worth["random"].apgr
    assert worth["score"].other_kinds is None and (worth["probe"].other_kinds or 0) > 0.6


def test_without_a_state_or_without_tokens_the_rest_is_measured() -> None:
    blind = Sample([replace(one, state=()) for one in seen()], 4)
    mute = Sample(seen(), 0)
    scores = np.zeros(200)
    assert {"said"} == {
        n for n in measure(blind, scores, scores).signals if n in ("said", "probe", "said + probe")
    }
    assert {"probe"} == {
        n for n in measure(mute, scores, scores).signals if n in ("said", "probe", "said + probe")
    }
    assert gate(blind, ()).chance((), (-0.1,)) is not None
    assert gate(mute, range(24)).chance((0.0,) * 24, ()) is not None


@pytest.mark.parametrize("right", [0, 19, 181, 200])
def test_too_few_answers_of_one_kind_teach_nothing(right: int) -> None:
    answers = [replace(one, right=number < right) for number, one in enumerate(seen())]
    with pytest.raises(InvalidInput, match=f"{right} of 200"):
        Sample(answers, 4)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auroc_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    wrong = [float(value) for value, is_wrong in rows if is_wrong]
    right = [float(value) for value, is_wrong in rows if not is_wrong]
    if not wrong or not right:
        return
    pairs = [(w > r) + (w == r) / 2 for w in wrong for r in right]
    doubt = np.array([value for value, _ in rows], np.float64)
    assert auroc(doubt, np.array([w for _, w in rows], np.float64)) == pytest.approx(np.mean(pairs))


numbers = st.floats(-1e3, 1e3, allow_nan=False)


@given(state=st.lists(numbers, min_size=3, max_size=3), logprobs=st.lists(st.floats(-50, 0), max_size=9))
def test_a_gate_survives_its_file_and_gives_chances(
    tmp_path_factory: pytest.TempPathFactory, state: list[float], logprobs: list[float]
) -> None:
    made = Gate(
        4,
        (1, 5, 9),
        LogisticRegression((0.5, -1.0, 2.0), 0.1),
        LogisticRegression((1.0, 0.3), 2.0),
        LogisticRegression((0.7, 0.2, 0.4), 1.0),
    )
    file = tmp_path_factory.mktemp("gate") / "gate.json"
    file.write_text(made.to_json())
    assert Gate.read(file) == made
    for visible, said in ((state, logprobs), (state, []), ([], logprobs)):
        chance = made.chance(visible, said)
        assert (chance is None) == (not visible and not said)
        assert chance is None or 0 <= chance <= 1


def test_more_certain_words_never_lower_the_chance() -> None:
    fitted = gate(Sample(seen(500), 4), range(24))
    state = (0.0,) * 24
    assert (fitted.chance(state, (-0.1,) * 4) or 0) > (fitted.chance(state, (-2.0,) * 4) or 0)


@pytest.mark.parametrize("change", [{"format": 9}, {"probe": [1.0]}, {"said": "x"}, {"anchors": None}, None])
def test_a_damaged_gate_is_refused(tmp_path: Path, change: dict[str, object] | None) -> None:
    file = tmp_path / "gate.json"
    values = json.loads(gate(Sample(seen(), 4), range(24)).to_json())
    file.write_text(json.dumps({**values, **change}) if change is not None else "{")
    with pytest.raises(InvalidData):
        Gate.read(file)


def test_a_gate_is_kept_with_the_artifacts_and_replaced(paths: Paths) -> None:
    assert gate_store.find(paths, "a" * 32) is None
    first = gate(Sample(seen(), 4), range(24))
    for made in (first, replace(first, tokens=2)):
        gate_store.keep(made, paths, "a" * 32, {"model": "small"})
        assert gate_store.find(paths, "a" * 32) == made
    assert gate_store.find(paths, "b" * 32) is None
