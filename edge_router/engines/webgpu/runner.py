"""A program and its weights as a `ModelRunner`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from edge_router.engines.local.runner import Logits, TopK
from edge_router.engines.local.scheduling.pages import PageTable
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.check import Mismatch, mismatches
from edge_router.engines.webgpu.executor import Executor, ReadWeight, control_words
from edge_router.engines.webgpu.gpu import GpuDevice
from edge_router.engines.webgpu.saving import GpuPages
from edge_router.records import dataclass
from edge_router.webgpu_program import (
    CANDIDATES,
    FAR,
    FEW_ROWS,
    PAGE_SIZE,
    ROW_WORDS,
    Program,
    Windows,
    pages_per_sequence,
)

_NOBODY = 0xFFFFFFFF  # in place of a token
_TRIALS = 4  # of each arithmetic
_AHEAD_S = 0.02  # of work that the GPU may do by itself: nobody sees that tokens come in so small groups


@dataclass(frozen=True, slots=True)
class _Foretold:
    """What the GPU went on with by itself: `tokens` follow one another, the first at `position`."""

    sequence: int
    position: int
    tokens: npt.NDArray[np.uint32]
    logits: npt.NDArray[np.float32]


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
        self.candidates = CANDIDATES
        self.half = False  # whether long prompts are read with float16 arithmetic
        self._program, self._windows, self._read = program, windows, read
        self._adapter = adapter
        self._start(loaded)

    def _start(self, loaded: Callable[[int], None] = lambda count: None) -> None:
        self._gpu: GpuDevice | None = GpuDevice(self._adapter)
        try:
            self._executor = Executor(
                self._gpu,
                self._program,
                self._windows,
                self._read,
                tokens=self.vocab_size,
                loaded=loaded,
            )
        except BaseException:
            self._gpu.close()
            raise
        self._pages = PageTable(self._executor.pages, self._executor.copy_page)
        self._tables: list[list[int]] = [[] for _ in range(self._windows.sequences)]  # as they are on the GPU
        self._foretold: _Foretold | None = None
        self._decoded = 0  # rows of the last call
        self._damaged = False

    def mismatches(self) -> list[Mismatch]:
        """What this GPU computes wrongly; see `check`. Before any sequence is there."""
        return mismatches(self._executor, self._program, self._windows)

    def half_speed(self) -> float | None:
        """How many times as fast float16 reads a prompt; None where this GPU has none.

        Before any sequence is there.
        """
        if not self._executor.has("prefill_half"):
            return None
        rows = np.zeros((self.prefill_chunk_size, ROW_WORDS), np.uint32)
        rows[:, 1] = np.arange(len(rows))
        rows[:, 2] = control_words(self._windows)
        pages = np.arange(self._windows.pages_per_sequence, dtype=np.uint32)
        self._executor.write_control(pages, control_words(self._windows))
        self._tables[0] = []
        seconds: dict[str, list[float]] = {"prefill": [], "prefill_half": []}
        for _ in range(_TRIALS):
            for function, found in seconds.items():
                self._run(function, rows)
                found.append(self._executor.seconds_per_row(function) or 0.0)
        plain, half = (min(found[1:]) for found in seconds.values())  # the first finishes compiling
        return plain / half

    @property
    def free_tokens(self) -> int:
        return self._pages.free_tokens

    def add_sequence(self, sequence: int) -> None:
        self._pages.add(sequence)

    def fork_sequence(self, parent: int, child: int, position: int) -> None:
        with self._watched():
            self._pages.fork(parent, child, position)

    def pop_tokens(self, sequence: int, count: int) -> None:
        self._changed(sequence)
        self._pages.pop(sequence, count)

    def remove_sequence(self, sequence: int) -> None:
        self._changed(sequence)
        self._pages.remove(sequence)

    def holds(self, sequence: int, position: int) -> bool:
        return self._pages.forgotten(sequence) <= self._seen_from(position)

    def new_pages(self, sequence: int, length: int, count: int) -> int:
        most = pages_per_sequence(self._program.window, self._windows)
        return min(self._pages.needed(sequence, count), most - self._pages.owned(sequence))

    def prefill(self, sequence: int, tokens: Sequence[int]) -> Logits:
        self._changed(sequence)
        with self._watched():
            begin = self._grow(sequence, len(tokens))
            rows = np.zeros((len(tokens), ROW_WORDS), np.uint32)
            rows[:, 0] = tokens
            rows[:, 1] = np.arange(begin, begin + len(tokens))
            rows[:, 2] = self._show(0, sequence)
            many = "prefill_half" if self.half else "prefill"
            logits: Logits = self._run("prefill_few" if len(tokens) <= FEW_ROWS else many, rows)[0]
            return logits

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> Logits:
        self._changed(*sequences)
        with self._watched():
            function, rows = self._rows(sequences, tokens)
            return self._run(function, rows)

    def decode_likeliest(
        self, sequences: Sequence[int], tokens: Sequence[int], temperatures: Sequence[float | None]
    ) -> Sequence[TopK]:
        known = self._known(sequences, tokens, temperatures)
        if known is not None:
            return [known]
        with self._watched():
            function, rows = self._rows(sequences, tokens)
            self._decoded = len(rows)
            cold = [0.0 if temperature is None else 1 / temperature for temperature in temperatures]
            rows[:, 3] = np.asarray(cold, np.float32).view(np.uint32)
            self._executor.write_control(rows, 0)
            if any(cold):
                words = self._executor.choose(function, len(rows), "likeliest")
                return [_likeliest(row) for row in words]
            return self._best(function, sequences, rows)

    def last_logits(self) -> Logits:
        with self._watched():
            return self._executor.logits(self._decoded)[:, : self.vocab_size]

    def _best(self, function: str, sequences: Sequence[int], rows: npt.NDArray[np.uint32]) -> Sequence[TopK]:
        """Of one sequence perhaps some tokens at once: the GPU feeds each to itself."""
        times = self._ahead(function, int(rows[0, 1])) if len(rows) == 1 else 1
        words = self._executor.choose(function, len(rows), "best", times)
        pairs = words[:, : 2 * PAGE_SIZE].reshape(len(rows), PAGE_SIZE, 2)
        if times > 1:
            position, slot = int(rows[0, 1]) + 1, int(rows[0, 1]) % PAGE_SIZE
            chosen = np.ascontiguousarray(pairs[0, slot : slot + times].T)
            self._foretold = _Foretold(sequences[0], position, chosen[0], chosen[1].view(np.float32))
        found = np.ascontiguousarray(pairs[np.arange(len(rows)), rows[:, 1] % PAGE_SIZE])
        return [
            _one(token, logit) for token, logit in zip(found[:, 0], found[:, 1].view(np.float32), strict=True)
        ]

    def _ahead(self, function: str, position: int) -> int:
        """How many tokens at once: within a page, so that none has to be found for them."""
        seconds = self._executor.seconds_per_row(function)
        room = min(PAGE_SIZE - position % PAGE_SIZE, self.context_window_size - position)
        return 1 if not seconds else max(1, min(room, int(_AHEAD_S / seconds)))

    def _known(
        self, sequences: Sequence[int], tokens: Sequence[int], temperatures: Sequence[float | None]
    ) -> TopK | None:
        """What follows a token, where the GPU has found it already."""
        told = self._foretold
        if told is not None and list(sequences) == [told.sequence] and temperatures[0] is None:
            at = self._pages.length(told.sequence) - told.position
            if at < len(told.tokens) - 1 and told.tokens[at] == tokens[0]:
                self._pages.grow(told.sequence, 1)
                return _one(told.tokens[at + 1], told.logits[at + 1])
        self._changed(*sequences)
        return None

    def _changed(self, *sequences: int) -> None:
        """What was foretold of these is not what they go on with."""
        if self._foretold is not None and self._foretold.sequence in sequences:
            self._foretold = None

    def _rows(self, sequences: Sequence[int], tokens: Sequence[int]) -> tuple[str, npt.NDArray[np.uint32]]:
        """The function for them, and what it is told of each."""
        rows = np.zeros((len(tokens), ROW_WORDS), np.uint32)
        for number, (sequence, token) in enumerate(zip(sequences, tokens, strict=True)):
            position = self._grow(sequence, 1)
            rows[number] = token, position, self._show(number, sequence), 0
        if len(tokens) > 1:
            return "batch", rows
        return "decode" if position < FAR else "decode_far", rows

    @property
    def saving(self) -> GpuPages | None:
        if self._gpu is None:
            return None
        adapter = self._adapter
        told = {"adapter": adapter.name, "backend": adapter.backend, "driver": adapter.driver}
        most = pages_per_sequence(self._program.window, self._windows)
        arithmetic = {**told, "half": self.half}
        return GpuPages(self._gpu, self._executor.key_values, self._pages, most, arithmetic)

    def reset(self) -> None:
        """After an error of the device everything on it is made anew."""
        if self._damaged:
            self._close_gpu()
            self._start()
        self._foretold = None
        self._pages.clear()

    def close(self) -> None:
        self._close_gpu()

    def _run(self, function: str, rows: np.typing.NDArray[np.uint32]) -> Logits:
        self._executor.write_control(rows, 0)
        return self._executor.run(function, len(rows))[:, : self.vocab_size]

    def _seen_from(self, position: int) -> int:
        """The first token behind the sinks that the one at `position` looks back at."""
        program = self._program
        return max(program.sinks, position - (program.window - program.sinks) + 1) if program.window else 0

    def _grow(self, sequence: int, count: int) -> int:
        """Room for `count` more tokens, after what they can't see was forgotten; where the first goes."""
        if self._program.window:
            seen = self._seen_from(self._pages.length(sequence))
            self._pages.forget(sequence, self._program.sinks, seen)
        return self._pages.grow(sequence, count)

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
            # Nobody looks at what is gone.
            self._executor.write_control(np.maximum(np.asarray(pages, np.int32), 0).view(np.uint32), place)
            self._tables[slot] = list(pages)
        return place

    def _close_gpu(self) -> None:
        if self._gpu is not None:
            self._gpu.close()
            self._gpu = None


def _one(token: np.uint32, logit: np.float32) -> TopK:
    return TopK(np.array([token], np.int64), np.array([logit]), 1.0)


def _likeliest(words: npt.NDArray[np.uint32]) -> TopK:
    tokens, logits, rest = np.split(words, [CANDIDATES, 2 * CANDIDATES])
    count = int((tokens != _NOBODY).sum())  # a small vocabulary has fewer
    return TopK(
        tokens[:count].astype(np.int64), logits[:count].view(np.float32), float(rest[:1].view(np.float32)[0])
    )
