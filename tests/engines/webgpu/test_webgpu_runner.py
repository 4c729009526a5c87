"""The runner on a random model: what it computes, held against the reference, and its sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edge_router.engines.webgpu import runner as runner_module
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.gpu import GpuDevice
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.errors import EngineUnavailable, GenerationFailed, OutOfMemory
from edge_router.webgpu_program import PAGE_SIZE, Windows, footprint

CLOSE = 0.02  # of logits whose standard deviation is about 1; float32 but for the KV cache


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 288, count).tolist()


def read(runner: WebGpuRunner, sequence: int, given: Sequence[int]) -> np.ndarray:
    """Append them chunk by chunk; a copy of the last logits."""
    for start in range(0, len(given), runner.prefill_chunk_size):
        logits = runner.prefill(sequence, given[start : start + runner.prefill_chunk_size])
    return logits.copy()


def test_what_it_says_of_itself(runner: WebGpuRunner) -> None:
    assert (runner.vocab_size, runner.context_window_size, runner.prefill_chunk_size) == (288, 128, 48)
    assert (runner.max_sequences, runner.page_size) == (3, PAGE_SIZE)


def test_chunks_and_single_tokens_are_the_references(empty: WebGpuRunner, tiny_model: Any) -> None:
    given = tokens(128)
    expected = tiny_model.logits(given)
    empty.add_sequence(0)
    for begin, end in [(0, 1), (1, 48), (48, 49), (49, 97)]:
        logits = empty.prefill(0, given[begin:end])
        assert logits.shape == (288,) and logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected[end - 1], atol=CLOSE)
    for place in range(97, 128):
        logits = empty.decode([0], [given[place]])
        assert logits.shape == (1, 288)
        np.testing.assert_allclose(logits[0], expected[place], atol=CLOSE)


def test_greedy_decoding_is_the_references(empty: WebGpuRunner, tiny_model: Any) -> None:
    prompt = tokens(30, seed=1)
    empty.add_sequence(7)
    logits, answer = read(empty, 7, prompt), list[int]()
    while len(answer) < 40:
        answer.append(int(logits.argmax()))
        logits = empty.decode([7], [answer[-1]])[0]
    assert answer == tiny_model.reference().greedy(prompt, 40)


def test_sequences_decode_together(empty: WebGpuRunner, tiny_model: Any) -> None:
    given = {number: tokens(length, seed=number) for number, length in enumerate((60, 3, 17))}
    for number, sequence in given.items():
        empty.add_sequence(number)
        read(empty, number, sequence[:-2])
    for last in (-2, -1):
        order = [2, 0, 1]
        logits = empty.decode(order, [given[number][last] for number in order])
        for row, number in zip(logits, order, strict=True):
            known = given[number][: len(given[number]) + last + 1]
            np.testing.assert_allclose(row, tiny_model.logits(known)[-1], atol=CLOSE)


def test_a_fork_shares_what_came_before(empty: WebGpuRunner, tiny_model: Any) -> None:
    shared, free = tokens(40), empty.free_tokens
    empty.add_sequence(0)
    read(empty, 0, shared)
    for child, position in ((1, 37), (2, 32)):
        empty.fork_sequence(0, child, position)
    assert (
        free - empty.free_tokens == (3 + 1) * PAGE_SIZE
    )  # a page of its own for what child 1 shares in part
    for sequence, position in ((1, 37), (2, 32), (0, 40)):
        more = tokens(5, seed=10 + sequence)
        logits = read(empty, sequence, more)
        np.testing.assert_allclose(logits, tiny_model.logits([*shared[:position], *more])[-1], atol=CLOSE)


def test_popped_tokens_are_forgotten(empty: WebGpuRunner, tiny_model: Any) -> None:
    given = tokens(60)
    empty.add_sequence(0)
    read(empty, 0, given)
    empty.fork_sequence(0, 1, 48)
    for count, left in ((1, 59), (23, 36), (4, 32)):
        empty.pop_tokens(0, count)
        more = tokens(2, seed=count)
        logits = read(empty, 0, more)
        np.testing.assert_allclose(logits, tiny_model.logits([*given[:left], *more])[-1], atol=CLOSE)
        empty.pop_tokens(0, 2)
    # What 0 wrote over a page that it shares with 1 is not seen there.
    np.testing.assert_allclose(
        read(empty, 1, tokens(1)), tiny_model.logits([*given[:48], *tokens(1)])[-1], atol=CLOSE
    )


def test_a_whole_context_fits_and_no_more(empty: WebGpuRunner) -> None:
    for number in range(3):
        empty.add_sequence(number)
        read(empty, number, tokens(128))
    assert empty.free_tokens == 0
    empty.add_sequence(3)
    with pytest.raises(MemoryError):
        empty.prefill(3, [1])
    empty.remove_sequence(1)
    assert empty.free_tokens == 128
    read(empty, 3, tokens(128))


def test_a_smaller_vocabulary_hides_the_rest(adapter: Adapter, tiny_model: Any) -> None:
    made = WebGpuRunner(adapter, tiny_model.program, Windows(32, 16), tiny_model.read, vocab_size=260)
    made.add_sequence(0)
    assert made.vocab_size == 260
    assert made.prefill(0, [1, 2]).shape == (260,)
    assert made.decode([0], [5]).shape == (1, 260)
    made.close()
    made.close()


def test_after_an_error_of_the_device_all_is_made_anew(adapter: Adapter, tiny_model: Any) -> None:
    made = WebGpuRunner(adapter, tiny_model.program, Windows(64, 32), tiny_model.read)
    made.add_sequence(0)
    before = made.prefill(0, tokens(20)).copy()
    assert made._gpu is not None
    made._gpu._device.destroy()  # what a driver's reset leaves behind
    with pytest.raises((GenerationFailed, EngineUnavailable)):
        made.decode([0], [3])
    made.reset()
    made.add_sequence(0)
    np.testing.assert_array_equal(made.prefill(0, tokens(20)), before)
    made.close()


def test_out_of_memory_leaves_nothing_behind(
    adapter: Adapter, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, closed, buffer, close = list[int](), list[GpuDevice](), GpuDevice.buffer, GpuDevice.close

    def full(gpu: GpuDevice, size: int, usage: str = "storage") -> Any:
        made.append(size)
        if len(made) == 12:
            raise OutOfMemory("webgpu", "no room", size)
        return buffer(gpu, size, usage)

    monkeypatch.setattr(GpuDevice, "buffer", full)
    monkeypatch.setattr(GpuDevice, "close", lambda gpu: (closed.append(gpu), close(gpu)))
    with pytest.raises(OutOfMemory):
        WebGpuRunner(adapter, tiny_model.program, Windows(64, 32), tiny_model.read)
    assert len(closed) == 1
    again = WebGpuRunner(adapter, tiny_model.program, Windows(64, 32), tiny_model.read)
    again.add_sequence(0)
    assert np.isfinite(again.prefill(0, tokens(20))).all()
    again.close()


@pytest.mark.parametrize("windows", [Windows(64, 32), Windows(300, 48, 3)])
def test_what_is_allocated_is_what_was_counted(
    adapter: Adapter, tiny_model: Any, monkeypatch: pytest.MonkeyPatch, windows: Windows
) -> None:
    sizes, buffer = list[int](), GpuDevice.buffer

    def counted(gpu: GpuDevice, size: int, usage: str = "storage") -> Any:
        sizes.append(size)
        return buffer(gpu, size, usage)

    monkeypatch.setattr(GpuDevice, "buffer", counted)
    WebGpuRunner(adapter, tiny_model.program, windows, tiny_model.read).close()
    fence, logits = 16, windows.sequences * 288 * 4  # logits come back through a buffer that wgpu makes
    assert sum(sizes) == footprint(tiny_model.program, windows).total + fence - logits


def test_a_long_past_is_shared_out(
    empty: WebGpuRunner, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "FAR", 60)
    given, ran = tokens(100), list[str]()
    run = empty._executor.run
    monkeypatch.setattr(empty._executor, "run", lambda name, n: (ran.append(name), run(name, n))[1])
    expected = tiny_model.logits(given)
    empty.add_sequence(0)
    read(empty, 0, given[:58])
    for place in range(58, 100):
        logits = empty.decode([0], [given[place]])[0]
        np.testing.assert_allclose(logits, expected[place], atol=CLOSE)
    assert ran == ["prefill", "prefill_few", *["decode"] * 2, *["decode_far"] * 40]
