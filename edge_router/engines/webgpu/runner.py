"""A program and its weights as a `ModelRunner`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from edge_router.engines.local.runner import Logits
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.check import Mismatch, mismatches
from edge_router.engines.webgpu.executor import Executor, ReadWeight, control_words
from edge_router.engines.webgpu.gpu import Gpu
from edge_router.engines.webgpu.pages import PageTable
from edge_router.program import FAR, FEW_ROWS, PAGE_SIZE, ROW_WORDS, Program, Windows


class WebGpuRunner:
    """Make, use and close it in one thread. `read` gives the weights; `vocab_size` of them count, if given.

    Raises `EngineUnavailable`, `OutOfMemory`.
    """

    def __init__(
        self,
        adapter: Adapter,
        program: Program,
        windows: Windows,
        read: ReadWeight,
        *,
        vocab_size: int | None = None,
        loaded: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.vocab_size = vocab_size or program.vocab_size
        self.context_window_size = windows.context
        self.prefill_chunk_size = min(windows.chunk, windows.context)
        self.max_sequences = windows.sequences
        self.page_size = PAGE_SIZE
        self._program, self._windows, self._read = program, windows, read
        self._adapter = adapter
        self._start(loaded)

    def _start(self, loaded: Callable[[int], None] = lambda count: None) -> None:
        self._gpu: Gpu | None = Gpu(self._adapter)
        try:
            self._executor = Executor(self._gpu, self._program, self._windows, self._read, loaded=loaded)
        except BaseException:
            self._gpu.close()
            raise
        self._pages = PageTable(self._windows.pages, self._executor.copy_page)
        self._tables: list[list[int]] = [[] for _ in range(self._windows.sequences)]  # as they are on the GPU
        self._damaged = False

    def mismatches(self) -> list[Mismatch]:
        """What this GPU computes wrongly; see `check`. Before any sequence is there."""
        return mismatches(self._executor, self._program, self._windows)

    @property
    def free_tokens(self) -> int:
        return self._pages.free_tokens

    def add_sequence(self, sequence: int) -> None:
        self._pages.add(sequence)

    def fork_sequence(self, parent: int, child: int, position: int) -> None:
        with self._watched():
            self._pages.fork(parent, child, position)

    def pop_tokens(self, sequence: int, count: int) -> None:
        self._pages.pop(sequence, count)

    def remove_sequence(self, sequence: int) -> None:
        self._pages.remove(sequence)

    def prefill(self, sequence: int, tokens: Sequence[int]) -> Logits:
        with self._watched():
            begin = self._pages.grow(sequence, len(tokens))
            rows = np.zeros((len(tokens), ROW_WORDS), np.uint32)
            rows[:, 0] = tokens
            rows[:, 1] = np.arange(begin, begin + len(tokens))
            rows[:, 2] = self._show(0, sequence)
            function = "prefill_few" if len(tokens) <= FEW_ROWS else "prefill"
            logits: Logits = self._run(function, rows)[0]
            return logits

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> Logits:
        with self._watched():
            rows = np.zeros((len(tokens), ROW_WORDS), np.uint32)
            for number, (sequence, token) in enumerate(zip(sequences, tokens, strict=True)):
                position = self._pages.grow(sequence, 1)
                rows[number] = token, position, self._show(number, sequence), 0
            if len(tokens) > 1:
                return self._run("batch", rows)
            return self._run("decode" if position < FAR else "decode_far", rows)

    def reset(self) -> None:
        """After an error of the device everything on it is made anew."""
        if self._damaged:
            self._close_gpu()
            self._start()
        self._pages.clear()

    def close(self) -> None:
        self._close_gpu()

    def _run(self, function: str, rows: np.typing.NDArray[np.uint32]) -> Logits:
        self._executor.write_control(rows, 0)
        return self._executor.run(function, len(rows))[:, : self.vocab_size]

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Whatever goes wrong but a lack of pages, the device is not trusted any more; see `reset`."""
        try:
            yield
        except MemoryError:
            raise
        except BaseException:
            self._damaged = True
            raise

    def _show(self, slot: int, sequence: int) -> int:
        """Put the sequence's page table where row `slot` finds it; the place, in words."""
        place = control_words(self._windows) + slot * self._windows.pages_per_sequence
        pages = self._pages.pages(sequence)
        if self._tables[slot] != pages:
            self._executor.write_control(np.asarray(pages, np.uint32), place)
            self._tables[slot] = list(pages)
        return place

    def _close_gpu(self) -> None:
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None
