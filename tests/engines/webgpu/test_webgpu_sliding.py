"""Models that forget what lies before their window: what they say there, and what stays in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from edge_router.compile.webgpu.build import build_program
from edge_router.engines.local.scheduling.sequences import SequencePool
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.webgpu_program import PAGE_SIZE, Windows, footprint, pages_per_sequence

CLOSE = {"auto": 0.02, "int8": 0.1}  # of logits whose standard deviation is about 1
WINDOW, CONTEXT, CHUNK = 40, 512, 32


@pytest.fixture(
    scope="module", params=[(0, "auto"), (18, "auto"), (18, "int8")], ids="{0[0]} sinks, {0[1]}".format
)
def made(
    request: pytest.FixtureRequest, adapter: Adapter, tiny_model: Any
) -> Iterator[tuple[WebGpuRunner, int, str]]:
    config = tiny_model.config
    numbers = {**config["model_config"], "model_type": config["model_type"], "context_window_size": CONTEXT}
    sinks, kept = request.param
    numbers |= {"sliding_window_size": WINDOW, "attention_sink_size": sinks, "kv_cache": kept}
    program = build_program(numbers, "q4f16_1")
    assert (program.window, program.sinks) == (WINDOW, sinks)
    runner = WebGpuRunner(adapter, program, Windows(CONTEXT, CHUNK, 2), tiny_model.read)
    yield runner, sinks, kept
    runner.close()


@pytest.fixture
def runner(made: tuple[WebGpuRunner, int, str]) -> WebGpuRunner:
    made[0].reset()
    return made[0]


@pytest.fixture
def wanted(made: tuple[WebGpuRunner, int, str], tiny_model: Any, reference_llama: Any) -> Any:
    """wanted(tokens, start=-1): logits from there on, of a float32 model with that window and those sinks."""
    reference = reference_llama(tiny_model.directory, WINDOW, made[1], rounds=made[2] == "int8")

    def logits(tokens: Sequence[int], start: int = -1) -> np.ndarray:
        found: np.ndarray = reference.logits(tokens, start % len(tokens))
        return found if start >= 0 else found[0]

    return logits


@pytest.fixture
def close(made: tuple[WebGpuRunner, int, str]) -> float:
    return CLOSE[made[2]]


def text(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 288, length).tolist()


def read(runner: WebGpuRunner, sequence: int, tokens: Sequence[int], chunk: int = CHUNK) -> np.ndarray:
    for start in range(0, len(tokens), chunk):
        logits = runner.prefill(sequence, tokens[start : start + chunk])
    return logits.copy()


@pytest.mark.parametrize("length", [30, WINDOW, WINDOW + 1, 100, 333])
def test_a_prompt_may_be_longer_than_the_window(
    runner: WebGpuRunner, wanted: Any, close: float, length: int
) -> None:
    tokens = text(1, length)
    for sequence, chunk in enumerate((CHUNK, 7)):
        runner.add_sequence(sequence)
        np.testing.assert_allclose(read(runner, sequence, tokens, chunk), wanted(tokens), atol=close)


def test_an_answer_may_cross_the_edge(runner: WebGpuRunner, wanted: Any, close: float) -> None:
    tokens = text(2, 75)
    runner.add_sequence(0)
    read(runner, 0, tokens[:33])
    found = [runner.decode([0], [token])[0].copy() for token in tokens[33:]]
    np.testing.assert_allclose(found, wanted(tokens, 33), atol=close)


def test_conversations_in_turn_do_not_meet(runner: WebGpuRunner, wanted: Any, close: float) -> None:
    first, second = text(3, 120), text(4, 61)
    for sequence, tokens in enumerate((first[:97], second[:38])):
        runner.add_sequence(sequence)
        read(runner, sequence, tokens)
    both = [runner.decode([0, 1], pair).copy() for pair in zip(first[97:], second[38:], strict=True)]
    np.testing.assert_allclose([rows[0] for rows in both], wanted(first, 97), atol=close)
    np.testing.assert_allclose([rows[1] for rows in both], wanted(second, 38), atol=close)


def test_what_no_token_can_see_gives_its_pages_back(runner: WebGpuRunner) -> None:
    windows = Windows(CONTEXT, CHUNK, 2)
    most = pages_per_sequence(WINDOW, windows)
    assert runner.free_tokens == 2 * most * PAGE_SIZE < 2 * CONTEXT
    held = sum(size for _, size in runner._executor.key_values) * 2 * most
    assert footprint(runner._program, windows).key_values == held
    tokens = text(5, 500)
    runner.add_sequence(0)
    for start in range(0, 480, CHUNK):
        runner.prefill(0, tokens[start : start + CHUNK])
        assert runner.free_tokens >= most * PAGE_SIZE
    for token in tokens[480:]:
        runner.decode([0], [token])
    runner.remove_sequence(0)
    assert runner.free_tokens == 2 * most * PAGE_SIZE


def test_a_fork_continues_from_what_is_still_there(runner: WebGpuRunner, wanted: Any, close: float) -> None:
    tokens, other = text(6, 160), text(7, 50)
    runner.add_sequence(0)
    read(runner, 0, tokens)
    assert runner.holds(0, 150) and not runner.holds(0, 60)
    runner.fork_sequence(0, 1, 150)
    np.testing.assert_allclose(read(runner, 1, other[:20]), wanted(tokens[:150] + other[:20]), atol=close)
    np.testing.assert_allclose(read(runner, 0, other[20:45]), wanted(tokens + other[20:45]), atol=close)
    runner.pop_tokens(0, 21)
    np.testing.assert_allclose(
        read(runner, 0, other[45:]), wanted(tokens + other[20:24] + other[45:]), atol=close
    )


def test_a_conversation_goes_on(runner: WebGpuRunner, wanted: Any, close: float) -> None:
    """Through the pool that the scheduler has: what is kept serves the next turn, what is gone is not used."""
    pool = SequencePool(runner, 4)
    tokens = text(8, 130)
    held = pool.begin(tokens)
    read(runner, held.sequence, tokens)
    held.tokens += tokens
    pool.finish(held)
    longer = tokens + text(9, 30)
    again = pool.begin(longer)
    assert again is held
    np.testing.assert_allclose(read(runner, again.sequence, longer[130:]), wanted(longer), atol=close)
    again.tokens += longer[130:]
    pool.finish(again)
    other = pool.begin(tokens[:60] + text(10, 5))  # its beginning is forgotten
    assert other.tokens == []


def test_all_of_it_passes_the_check_of_a_new_gpu(runner: WebGpuRunner) -> None:
    assert runner.mismatches() == []
