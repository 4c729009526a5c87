"""What was read of a system message comes back from the disk: the same numbers, the same text."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.chat.events import Usage
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.config.settings import Config
from edge_router.engines.base import answered
from edge_router.engines.tvm.engine import TvmRunner, load
from edge_router.store import ArtifactStore
from edge_router.store.prefixes import KIND
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

SYSTEM = "".join(f"Rule {number}: name the berth, and promise no time. " for number in range(24))
WAYS = (SamplingParams(temperature=0.0), SamplingParams(temperature=0.8, top_p=0.9, seed=7))


def text(seed: int, length: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 40000, length).tolist()


def test_pages_come_back_to_the_bit_wherever_they_lie(built_model: Any) -> None:
    tokens, length = text(1, 300), 240
    runner = TvmRunner(
        built_model.model_dir, built_model.library, context_window_size=512, max_sequences=4, threads=1
    )
    try:
        pages = runner.saving
        assert pages is not None
        for sequence in range(3):
            runner.add_sequence(sequence)
        whole = runner.prefill(0, tokens[:280]).copy()
        runner.prefill(1, tokens[:length])
        apart = runner.prefill(1, tokens[length:280]).copy()
        assert np.array_equal(whole, apart)  # how it is cut changes no number
        saved: list[bytes] = []
        pages.save(1, length, lambda data: saved.append(bytes(data)))
        assert sum(map(len, saved)) == pages.saved_bytes(length)
        # Free pages that lie apart.
        runner.prefill(2, text(2, 40))
        for first in range(3, 9, 2):
            runner.add_sequence(first)
            runner.add_sequence(first + 1)
            for each in (first, first + 1):
                runner.prefill(each, text(each, 40))
            runner.remove_sequence(first)
        rest = memoryview(b"".join(saved))

        def read(target: memoryview) -> None:
            nonlocal rest
            size = target.nbytes
            target.cast("B")[:] = rest[:size]
            rest = rest[size:]

        runner.add_sequence(20)
        pages.restore(20, length, read)
        assert not rest and len(list(runner._cache._pages.runs(20, length))) > 1  # type: ignore[union-attr]
        assert np.array_equal(runner.prefill(20, tokens[length:280]), apart)
        for token in tokens[280:]:
            one, other = runner.decode([1, 20], [token, token])
            assert np.array_equal(one, other)
        runner.fork_sequence(20, 21, 100)
        runner.fork_sequence(1, 22, 100)
        one, other = (runner.prefill(each, tokens[100:150]).copy() for each in (21, 22))
        assert np.array_equal(one, other)
    finally:
        runner.close()


@pytest.fixture
def paths(built_home: Path, tmp_path: Path) -> Paths:
    """With the demo model built, and nothing kept."""
    shutil.copytree(built_home / "artifacts", tmp_path / "artifacts", ignore=shutil.ignore_patterns(KIND))
    (tmp_path / "downloads").symlink_to(built_home / "downloads")
    return Paths.under(tmp_path)


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def said(paths: Paths, keep: Any, notes: Notes, **weak: object) -> Iterator[tuple[str, Usage]]:
    """By a program that starts, asks and ends."""
    settings = {"weak.context_window_size": 1024, **{f"weak.{name}": value for name, value in weak.items()}}
    engine = load(Config.load(environ={}, overrides=settings), paths, notes)
    try:
        for sampling in WAYS:
            messages = (Message("system", SYSTEM), Message("user", "Which berth is free?"))
            request = ChatRequest(messages, sampling=sampling, max_tokens=24, keep=keep)
            reply = collect(answered(engine, request, threading.Event()))
            assert reply.usage is not None
            yield reply.text, reply.usage
    finally:
        engine.close()


def test_a_restart_says_the_same_and_reads_only_what_is_new(paths: Paths) -> None:
    notes, store = Notes(), ArtifactStore(paths.artifacts)
    wanted = [text for text, _ in said(paths, None, notes)]
    assert not store.scan(KIND).records
    assert [text for text, _ in said(paths, "cache", notes)] == wanted
    (record,) = store.scan(KIND).records
    again = list(said(paths, "cache", notes))
    assert [text for text, _ in again] == wanted
    first = again[0][1]
    assert first.cached_tokens == record.inputs["tokens"] > 200
    assert first.prompt_tokens - first.cached_tokens < 40
    # Another library reads anew, and beside it.
    other = list(said(paths, None, notes, keep_prefix="system", activations="int8", threads=1))
    assert other[0][1].cached_tokens in (0, first.cached_tokens)
    store.verify(record)
    file = record.path / "pages.bin"
    file.write_bytes(bytes(record.bytes))
    damaged = list(said(paths, "cache", notes))
    assert [text for text, _ in damaged] == wanted and damaged[0][1].cached_tokens == 0
    assert [line for line in notes.lines if "read again" in line]
