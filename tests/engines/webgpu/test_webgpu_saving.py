"""What lies in a GPU's KV cache goes to a file and comes back, to the bit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.engines.base import answered
from edge_router.engines.local.scheduling.prefixes import Keeper
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.load import open_model
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.store.prefixes import PrefixStore
from edge_router.webgpu_program import Windows


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 288, count).tolist()


def test_pages_come_back_to_the_bit_wherever_they_lie(empty: WebGpuRunner) -> None:
    given, length = tokens(110), 64
    pages = empty.saving
    assert pages is not None
    for sequence in range(3):
        empty.add_sequence(sequence)
    for sequence, count in ((1, 20), (2, 20), (1, 20)):  # pages that do not lie side by side
        empty.prefill(sequence, tokens(count, seed=sequence))
    for start in (0, 32):
        empty.prefill(0, given[start : start + 32])
    saved: list[bytes] = []
    pages.save(0, length, lambda data: saved.append(bytes(data)))
    assert sum(map(len, saved)) == pages.saved_bytes(length)
    wanted = empty.prefill(0, given[length:100]).copy()
    empty.remove_sequence(1)
    rest = memoryview(b"".join(saved))

    def read(target: memoryview) -> None:
        nonlocal rest
        target[:] = rest[: target.nbytes]
        rest = rest[target.nbytes :]

    empty.add_sequence(3)
    pages.restore(3, length, read)
    assert not rest and len(list(empty._pages.runs(3, length))) > 1
    assert np.array_equal(empty.prefill(3, given[length:100]), wanted)
    for token in given[100:]:
        one = empty.decode([0], [token]).copy()
        assert np.array_equal(empty.decode([3], [token]), one)
    form = dict(pages.saved_form)
    empty.half = not empty.half
    assert empty.saving is not None and dict(empty.saving.saved_form) != form
    empty.half = not empty.half


def test_a_restart_says_the_same_and_reads_only_what_is_new(
    adapter: Adapter, tiny_model: Any, tmp_path: Path
) -> None:
    system = "Name the berth, and promise no time. " * 6
    said: dict[str, list[str]] = {"read": [], "new": [], "kept": []}
    known = []
    for way, texts in said.items():
        engine = open_model(
            tiny_model.directory, tiny_model.file, adapter, windows=Windows(512, 64), model_id="tiny"
        )
        if way != "read":
            store = PrefixStore(tmp_path, 1 << 30)
            engine.keeper = Keeper(store, {}, lambda request: True, engine.prompts.beginning)
        try:
            for sampling in (SamplingParams(temperature=0.0), SamplingParams(temperature=0.8, seed=3)):
                messages = (Message("system", system), Message("user", "Which one?"))
                request = ChatRequest(messages, sampling=sampling, max_tokens=20)
                reply = collect(answered(engine, request, threading.Event()))
                texts.append(reply.text)
                known.append(reply.usage.cached_tokens if reply.usage is not None else 0)
        finally:
            engine.close()
    assert said["read"] == said["new"] == said["kept"]
    assert known[0] == known[2] == 0 and known[4] >= 64
