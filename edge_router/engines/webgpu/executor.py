"""Runs a program on a device: every buffer, pipeline and bind group is made once, at load."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.engines.local.runner import Logits
from edge_router.engines.webgpu.adapters import ENGINE
from edge_router.engines.webgpu.gpu import Copy, GpuDevice, Grid, Step
from edge_router.errors import EngineUnavailable
from edge_router.webgpu_program import (
    PAGE_SIZE,
    PICKED_WORDS,
    ROW_WORDS,
    Expression,
    KeyValues,
    Launch,
    Program,
    ProgramFunction,
    Rotary,
    Weight,
    Windows,
    pages_per_sequence,
)
from edge_router.webgpu_program.memory import (
    UNIFORM_SLOT,
    buffer_bytes,
    function_scratch,
    scratch_sizes,
    spare_bytes,
    uniform_bytes,
)

Tensor = npt.NDArray[Any]
ReadWeight = Callable[[Weight], Tensor]  # as it is to lie on the device
ReadBuffer = Callable[[str, int, int], npt.NDArray[np.uint8]]  # name, first byte, bytes
Watch = Callable[[Launch, ReadBuffer], None]

_SUBMIT_S = 0.4  # of work at once: systems reset a GPU that is busy for about two seconds
_FIRST_PIECES = 16  # of a call whose time is not known yet


class Executor:
    """`program` on `gpu` for `windows`; `read` gives the weights, `tokens` of the vocabulary have a meaning.

    Raises `EngineUnavailable`, `OutOfMemory`.
    """

    def __init__(
        self,
        gpu: GpuDevice,
        program: Program,
        windows: Windows,
        read: ReadWeight,
        *,
        tokens: int | None = None,
        loaded: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._gpu, self._program, self._windows = gpu, program, windows
        self.tokens = tokens or program.vocab_size
        self._bound: dict[str, _Bound] = {}
        self._buffers = self._allocate()
        usable = {
            name: it for name, it in program.shaders.items() if gpu.adapter.has_float16 or not it.float16
        }
        self._pipelines = {name: gpu.pipeline(shader) for name, shader in usable.items()}
        self._bind()
        self._fill(read, loaded)
        self._seconds_per_row: dict[str, float] = {}
        # The commands of the next token, made while the last one was computed, and what they are for.
        self._ready: tuple[list[Step], Copy | None, Any] | None = None

    def has(self, function: str) -> bool:
        """Whether this GPU can run it."""
        return function in self._bound

    @property
    def pages(self) -> int:
        """Of the KV cache."""
        return pages_per_sequence(self._program.window, self._windows) * self._windows.sequences

    @property
    def key_values(self) -> list[tuple[Any, int]]:
        """Each buffer of the KV cache, with the bytes of a page."""
        found = self._program.buffers.items()
        return [(self._buffers[name][0], it.page_bytes) for name, it in found if isinstance(it, KeyValues)]

    def write_control(self, words: npt.NDArray[np.uint32], at: int) -> None:
        """`at` in words; see `program.Control`."""
        self._gpu.write(self._buffers["control"][0], words, at * 4)

    def run(self, function: str, n: int) -> Logits:
        """Logits of the call's output rows, shape (rows, vocab_size)."""
        begin = time.perf_counter()
        self._submit(function, n, self.steps(function, n=n))
        logits = self.logits(self._bound[function].output_rows({"n": n}))
        self._seconds_per_row[function] = (time.perf_counter() - begin) / n
        return logits

    def choose(self, function: str, n: int, pick: str, times: int = 1) -> npt.NDArray[np.uint32]:
        """Let `pick` choose from the logits; see `program.Picked`: shape (n, PICKED_WORDS).

        With "best" a call for one row can go on by itself, `times` tokens in all.
        """
        begin = time.perf_counter()
        size = n * PICKED_WORDS * 4
        landing = (self._buffers["picked"][0], 0, self._landing, 0, size)
        self._submit(function, n, self.steps(function, pick, n=n) * times, landing)
        raw = self._gpu.collect(self._landing, size)
        self._seconds_per_row[function] = (time.perf_counter() - begin) / (n * times)
        return raw.view(np.uint32).reshape(n, PICKED_WORDS)

    def steps(self, *functions: str, n: int) -> list[Step]:
        """What these functions launch, one after the other."""
        values = {"n": n, "tokens": self.tokens}
        return [step for name in functions for step in self._bound[name].steps(values)]

    def logits(self, rows: int) -> Logits:
        """Of the last call."""
        raw = self._gpu.read(self._buffers["logits"][0], rows * self._program.vocab_size * 4)
        return raw.view(np.float32).reshape(rows, self._program.vocab_size)

    def seconds_per_row(self, function: str) -> float | None:
        """Of its last call, from the start to the result."""
        return self._seconds_per_row.get(function)

    def _submit(self, function: str, n: int, steps: list[Step], copy: Copy | None = None) -> None:
        """In pieces that take not too long. A decoded token is one, the same each time and so made ahead."""
        if not function.startswith("decode"):
            *first, last = _pieces(steps, self._piece_count(function, n))
            for piece in first:
                self._gpu.submit(self._gpu.encode(piece))
            self._gpu.submit(self._gpu.encode(last, copy))
            return
        ready, self._ready = self._ready, None
        same = ready is not None and ready[:2] == (steps, copy)
        self._gpu.submit(ready[2] if ready is not None and same else self._gpu.encode(steps, copy))
        self._ready = steps, copy, self._gpu.encode(steps, copy)

    def time_steps(self, *functions: str, n: int) -> list[tuple[Launch, float]]:
        """Seconds of the GPU for each launch; see `GpuDevice.timed`."""
        launches = [launch for name in functions for launch in self._program.functions[name].launches]
        return list(zip(launches, self._gpu.timed(self.steps(*functions, n=n)).tolist(), strict=True))

    def time_host(self, *functions: str) -> tuple[float, float]:
        """Seconds of this thread for a row: to encode the launches; to submit and read what was chosen.

        The launches are as many, but of nothing, so that nobody waits for the GPU.
        """
        hollow = [(pipeline, group, (0, 0, 0)) for pipeline, group, _ in self.steps(*functions, n=1)]
        copy = (self._buffers["picked"][0], 0, self._landing, 0, PICKED_WORDS * 4)
        begin = time.thread_time()
        commands = self._gpu.encode(hollow, copy)
        encoded = time.thread_time()
        self._gpu.submit(commands)
        self._gpu.collect(self._landing, PICKED_WORDS * 4)
        return encoded - begin, time.thread_time() - encoded

    def run_watched(self, function: str, n: int, wanted: Callable[[Launch], bool], watch: Watch) -> Logits:
        """The same, for checks: `watch` is called after each launch that is `wanted`."""
        bound, pending = self._bound[function], list[Step]()

        def read(name: str, start: int, size: int) -> npt.NDArray[np.uint8]:
            return self._gpu.read(bound.buffers[name][0], size, start)

        launches = self._program.functions[function].launches
        for launch, step in zip(launches, self.steps(function, n=n), strict=True):
            pending.append(step)
            if wanted(launch):
                self._gpu.submit(self._gpu.encode(pending))
                pending.clear()
                watch(launch, read)
        self._gpu.submit(self._gpu.encode(pending))
        return self.logits(bound.output_rows({"n": n}))

    def copy_page(self, source: int, target: int) -> None:
        """A page of the KV cache, in all layers. WebGPU can't copy within a buffer, so by way of another."""
        copies = []
        for buffer, size in self.key_values:
            copies.append((buffer, source * size, self._spare, 0, size))
            copies.append((self._spare, 0, buffer, target * size, size))
        self._gpu.copy(copies)

    # ---- loading -------------------------------------------------------------------------------------------

    def _allocate(self) -> dict[str, tuple[Any, int]]:
        """Name -> buffer and size; scratch buffers are shared by all functions, by rank of size."""
        sizes = {
            name: buffer_bytes(item, self._windows, self.pages)
            for name, item in self._program.buffers.items()
        }
        scratch = scratch_sizes(self._program, self._windows)
        largest = max([*sizes.values(), *scratch])
        if largest > self._gpu.largest_binding:
            name = next((name for name, size in sizes.items() if size == largest), "a scratch buffer")
            raise EngineUnavailable(
                ENGINE,
                f"{self._gpu.adapter} shows a shader {self._gpu.largest_binding} bytes of a buffer at most, "
                f"and {name} has {largest}; {self._what_would_fit(name, largest)}",
            )
        self._scratch = [(self._gpu.buffer(size), size) for size in scratch]
        self._spare = self._gpu.buffer(spare_bytes(self._program))
        self._landing = self._gpu.buffer(sizes["picked"], "landing")
        return {name: (self._gpu.buffer(size), size) for name, size in sizes.items()}

    def _what_would_fit(self, name: str, size: int) -> str:
        """Windows with which the buffer, of `size` bytes now, is small enough to be seen."""
        item, most = self._program.buffers.get(name), self._gpu.largest_binding
        match item:
            case KeyValues():
                tokens = most // item.page_bytes // self._windows.sequences * PAGE_SIZE
                return f"a context_window_size of {tokens} would fit"
            case Weight():
                return "a smaller model would fit"
        return f"a prefill_chunk_size of {self._windows.chunk * most // size} would fit"

    def _bind(self) -> None:
        for name, function in self._program.functions.items():
            if any(launch.shader not in self._pipelines for launch in function.launches):
                continue
            needed = function_scratch(self._program, name, self._windows)
            ranked = sorted(needed, key=lambda key: -needed[key])
            own = dict(zip(ranked, self._scratch, strict=False))
            self._bound[name] = _Bound(
                self._gpu,
                function,
                self._pipelines,
                {**self._buffers, **own},
                uniform_bytes(self._program, name),
            )

    def _fill(self, read: ReadWeight, loaded: Callable[[int], None]) -> None:
        for name, item in self._program.buffers.items():
            buffer, _ = self._buffers[name]
            if isinstance(item, Weight):
                data = read(item)
                if data.nbytes != item.bytes:
                    raise EngineUnavailable(
                        ENGINE, f"{item.tensor} has {data.nbytes} bytes, not {item.bytes}"
                    )
                self._gpu.upload(buffer, data)
                loaded(data.nbytes)
            elif isinstance(item, Rotary):
                self._gpu.upload(buffer, rotary_table(item, self._windows.context))
        self._gpu.wait()

    def _piece_count(self, function: str, n: int) -> int:
        known = self._seconds_per_row.get(function)
        return _FIRST_PIECES if known is None else 1 + int(known * n / _SUBMIT_S)


class _Bound:
    """One function with its buffers bound; for other `values` only grids and uniforms are computed again."""

    def __init__(
        self,
        gpu: GpuDevice,
        function: ProgramFunction,
        pipelines: Mapping[str, tuple[Any, Any]],
        buffers: Mapping[str, tuple[Any, int]],
        uniforms: int,
    ) -> None:
        self._gpu, self.buffers, self.output_rows = gpu, buffers, function.output_rows
        sets = dict.fromkeys(launch.scalars for launch in function.launches if launch.scalars)
        self._slots = {scalars: number for number, scalars in enumerate(sets)}
        self._uniforms = gpu.buffer(uniforms, "uniform") if uniforms else None
        groups: dict[tuple[object, ...], Any] = {}
        self._bound: list[tuple[Any, Any, tuple[Expression, Expression, Expression]]] = []
        for launch in function.launches:
            pipeline, layout = pipelines[launch.shader]
            key = (launch.shader, launch.buffers, launch.scalars)
            if key not in groups:
                bound = [(buffers[name][0], 0, buffers[name][1]) for name in launch.buffers]
                if launch.scalars:
                    at = self._slots[launch.scalars] * UNIFORM_SLOT
                    bound.append((self._uniforms, at, _uniform_size(len(launch.scalars))))
                groups[key] = gpu.bind(layout, bound)
            self._bound.append((pipeline, groups[key], launch.grid))
        self._values: Mapping[str, int] = {}
        self._steps = list[Step]()

    def steps(self, values: Mapping[str, int]) -> list[Step]:
        if values != self._values:
            if self._uniforms is not None:
                table = np.zeros((len(self._slots), UNIFORM_SLOT // 4), np.int32)
                for scalars, slot in self._slots.items():
                    table[slot, : len(scalars)] = [scalar(values) for scalar in scalars]
                self._gpu.write(self._uniforms, table)
            grids = {grid: self._grid(grid, values) for _, _, grid in self._bound}
            self._steps = [(pipeline, group, grids[grid]) for pipeline, group, grid in self._bound]
            self._values = values
        return self._steps

    def _grid(self, grid: tuple[Expression, Expression, Expression], values: Mapping[str, int]) -> Grid:
        """Folded where it is wider than the device allows: block = z * width + x."""
        x, y, z = (part(values) for part in grid)
        if x > self._gpu.widest_grid:
            z = -(-x // self._gpu.widest_grid)
            x = -(-x // z)
        return x, y, z


def rotary_table(rotary: Rotary, positions: int) -> npt.NDArray[np.float32]:
    """Shape (positions, 2 * frequencies): cosines, then sines."""
    angles = np.arange(positions)[:, None] * np.asarray(rotary.frequencies, np.float64)
    table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * rotary.scale
    return table.astype(np.float32)


def _pieces(steps: list[Step], count: int) -> list[list[Step]]:
    size = max(1, -(-len(steps) // count))
    return [steps[start : start + size] for start in range(0, len(steps), size)]


def _uniform_size(scalars: int) -> int:
    """Bytes; a uniform binding has whole vectors of four."""
    return -(-scalars // 4) * 16


def control_words(windows: Windows) -> int:
    """Where the page tables begin in the control buffer."""
    return windows.rows * ROW_WORDS
