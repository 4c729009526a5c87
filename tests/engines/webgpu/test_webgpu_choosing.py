"""Choosing on the GPU: greedy decoding that goes on by itself, and the likeliest tokens for a sampler."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.engines.local.runner import ChoosingRunner
from edge_router.engines.webgpu import runner as runner_module
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.webgpu_program import CANDIDATES

CLOSE = 0.02  # of logits, as for the runner itself


def prompt(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 288, count).tolist()


@pytest.fixture(params=["one at a time", "by itself"])
def at_once(request: pytest.FixtureRequest, empty: WebGpuRunner, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the GPU may go on as long as it can."""
    monkeypatch.setattr(runner_module, "_AHEAD_S", 1e6 if request.param == "by itself" else 0.0)
    empty._executor._seconds_per_row.clear()
    return bool(request.param == "by itself")


@pytest.fixture
def chosen(empty: WebGpuRunner, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each call of the GPU was for."""
    calls, choose = list[int](), empty._executor.choose
    monkeypatch.setattr(
        empty._executor, "choose", lambda *given: (calls.append((*given, 1)[3]), choose(*given))[1]
    )
    return calls


def greedy(runner: WebGpuRunner, sequence: int, token: int, count: int) -> list[int]:
    """What follows `token`."""
    found: list[int] = []
    for _ in range(count):
        (best,) = runner.decode_likeliest([sequence], [token], [None])
        token = int(best.tokens[0])
        found.append(token)
    return found


def test_it_is_a_runner_that_chooses(empty: WebGpuRunner) -> None:
    assert isinstance(empty, ChoosingRunner)


def test_greedy_decoding_is_the_references(
    empty: WebGpuRunner, tiny_model: Any, at_once: bool, chosen: list[int]
) -> None:
    given = prompt(30, seed=1)
    empty.add_sequence(7)
    first = int(empty.prefill(7, given).argmax())
    answer = [first, *greedy(empty, 7, first, 39)]
    assert answer == tiny_model.reference().greedy(given, 40)
    assert chosen == ([1, 1, 16, 16, 16] if at_once else [1] * 39)  # up to the end of a page


def test_what_was_not_wanted_is_forgotten(empty: WebGpuRunner, tiny_model: Any, at_once: bool) -> None:
    given = prompt(20, seed=2)
    empty.add_sequence(0)
    empty.prefill(0, given)
    for _ in range(3):
        given.append(5)
        given += greedy(empty, 0, 5, 2)[:1]  # the second is not taken
    found = empty.decode([0], [9])[0]
    np.testing.assert_allclose(found, tiny_model.logits([*given, 9])[-1], atol=CLOSE)
    empty.pop_tokens(0, 3)
    given = given[:-2]
    found = greedy(empty, 0, 11, 4)
    assert found == tiny_model.reference().greedy([*given, 11], 4)


@pytest.mark.parametrize("between", ["prefill", "decode", "batch", "a sampler", "reset"])
def test_what_was_foretold_is_not_taken_for_another_text(
    empty: WebGpuRunner,
    tiny_model: Any,
    monkeypatch: pytest.MonkeyPatch,
    chosen: list[int],
    between: str,
) -> None:
    """Other tokens come, and then by chance the one that the GPU had gone on with at that place."""
    monkeypatch.setattr(runner_module, "_AHEAD_S", 1e6)
    given = prompt(32, seed=5)
    for number in (0, 1):
        empty.add_sequence(number)
        empty.prefill(number, given)
    greedy(empty, 0, 1, 1)  # how long it takes is known from now on
    greedy(empty, 0, 2, 1)
    told = empty._foretold
    assert told is not None and len(told.tokens) > 4
    other = (int(told.tokens[0]) + 1) % 288
    if between == "prefill":
        empty.prefill(0, [other])
    elif between == "decode":
        empty.decode([0], [other])
    elif between == "batch":
        empty.decode_likeliest([0, 1], [other, 7], [None, None])
    elif between == "a sampler":
        empty.decode_likeliest([0], [other], [0.7])
    else:
        empty.reset()
        empty.add_sequence(0)
        given = [*given[:31], 3]
        empty.prefill(0, [*given, 1, 2, other])
    following = int(told.tokens[1])
    wanted = tiny_model.reference().greedy([*given, 1, 2, other, following], 1)
    before = len(chosen)
    assert greedy(empty, 0, following, 1) == wanted
    assert len(chosen) == before + 1  # it was computed


def test_others_may_come_between(empty: WebGpuRunner, tiny_model: Any, at_once: bool) -> None:
    one, other = prompt(17, seed=3), prompt(33, seed=4)
    for number, tokens in enumerate((one, other)):
        empty.add_sequence(number)
        empty.prefill(number, tokens)
    first = greedy(empty, 0, 1, 3)
    second = greedy(empty, 1, 1, 3)
    empty.fork_sequence(0, 2, len(one) + 2)
    empty.remove_sequence(1)
    assert second == tiny_model.reference().greedy([*other, 1], 3)
    more = greedy(empty, 0, first[-1], 3)
    assert [*first, *more] == tiny_model.reference().greedy([*one, 1], 6)
    assert greedy(empty, 2, first[1], 2) == more_of(tiny_model, [*one, 1, first[0], first[1]], 2)


def more_of(tiny_model: Any, tokens: list[int], count: int) -> list[int]:
    found: list[int] = tiny_model.reference().greedy(tokens, count)
    return found


def test_to_the_end_of_the_context_and_no_farther(empty: WebGpuRunner, at_once: bool) -> None:
    empty.add_sequence(0)
    for start in (0, 40, 80):
        empty.prefill(0, prompt(40, seed=start))
    assert len(greedy(empty, 0, 3, 8)) == 8
    with pytest.raises((MemoryError, ValueError)):
        for number in range(1, 4):
            empty.add_sequence(number)
            for _ in range(3):
                empty.prefill(number, prompt(48))


@pytest.mark.parametrize("temperatures", [[0.5], [None, 0.7, 2.0]])
def test_the_likeliest_of_each_row(
    empty: WebGpuRunner, tiny_model: Any, temperatures: list[float | None]
) -> None:
    given = [prompt(length, seed=length) for length in (20, 5, 33)][: len(temperatures)]
    for number, tokens in enumerate(given):
        empty.add_sequence(number)
        empty.prefill(number, tokens)
    found = empty.decode_likeliest(list(range(len(given))), [7] * len(given), temperatures)
    logits = empty.last_logits()
    assert logits.shape == (len(given), 288)
    for row, known, tokens, temperature in zip(logits, found, given, temperatures, strict=True):
        np.testing.assert_allclose(row, tiny_model.logits([*tokens, 7])[-1], atol=CLOSE)
        order = np.argsort(-row, kind="stable")[:CANDIDATES]
        np.testing.assert_array_equal(known.tokens, order)
        np.testing.assert_array_equal(known.logits, row[order])
        if temperature is not None:
            total = np.exp((row.astype(np.float64) - row.max()) / temperature).sum()
            assert known.total == pytest.approx(total, rel=1e-4)


def test_several_greedy_rows(empty: WebGpuRunner, tiny_model: Any) -> None:
    given = [prompt(length, seed=length) for length in (15, 16, 40)]
    for number, tokens in enumerate(given):
        empty.add_sequence(number)
        empty.prefill(number, tokens)
    found = empty.decode_likeliest([2, 0, 1], [4, 4, 4], [None] * 3)
    wanted = [tiny_model.reference().greedy([*given[number], 4], 1) for number in (2, 0, 1)]
    assert [[int(best.tokens[0])] for best in found] == wanted
