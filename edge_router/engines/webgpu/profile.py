"""Where a token's time goes: on the GPU by shader, and in Python."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping

from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.executor import Executor, ReadWeight, control_words
from edge_router.engines.webgpu.gpu import GpuDevice
from edge_router.records import dataclass
from edge_router.webgpu_program import PAGE_SIZE, KeyValues, Program, Weight, Windows

_TIMES = 20  # of each measurement; the median counts
_TOKEN = ("decode", "best")  # the functions that it takes
_CONTEXT = 256  # tokens before the one that is measured


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one greedily decoded token behind `context` others.

    Times in milliseconds, of the GPU None without a clock.
    `encode_ms`: Python's part that runs while the GPU works; `python_ms`: the part that the GPU waits for.
    """

    adapter: str
    launches: int
    context: int
    encode_ms: float
    python_ms: float
    gpu_ms: float | None
    bytes_read: int  # weights, and the KV cache of the context
    shaders: Mapping[str, float]  # ms of all launches of each, the slowest first

    @property
    def bytes_per_s(self) -> float | None:
        return None if not self.gpu_ms else 1000 * self.bytes_read / self.gpu_ms

    def to_dict(self) -> dict[str, object]:
        def tidy(value: float | None) -> float | None:
            return None if value is None else round(value, 4)

        speed = self.bytes_per_s
        return {
            "adapter": self.adapter,
            "launches_per_token": self.launches,
            "context": self.context,
            "encode_ms": tidy(self.encode_ms),
            "python_ms": tidy(self.python_ms),
            "gpu_ms": tidy(self.gpu_ms),
            "gigabytes_per_s": None if speed is None else round(speed / 1e9, 1),
            "shaders_ms": {name: tidy(value) for name, value in self.shaders.items()},
        }


def profile(adapter: Adapter, program: Program, windows: Windows, read: ReadWeight) -> Profile:
    """Loads the model on a device of its own. Raises `EngineUnavailable`, `OutOfMemory`."""
    gpu = GpuDevice(adapter, clock=True)
    try:
        return _measured(gpu, Executor(gpu, program, windows, read), program, windows)
    finally:
        gpu.close()


def _measured(gpu: GpuDevice, executor: Executor, program: Program, windows: Windows) -> Profile:
    import numpy as np

    context = min(windows.context - 1, _CONTEXT)
    pages = np.arange(windows.pages_per_sequence, dtype=np.uint32) % executor.pages
    executor.write_control(pages, control_words(windows))
    executor.write_control(np.array([[1, context, control_words(windows), 0]], np.uint32), 0)
    executor.choose("decode", 1, "best")  # drivers finish compiling at the first use
    host = [executor.time_host(*_TOKEN) for _ in range(_TIMES)]
    shaders = _shaders(executor) if gpu.has_clock else {}
    return Profile(
        adapter=str(gpu.adapter),
        launches=sum(len(program.functions[name].launches) for name in _TOKEN),
        context=context,
        encode_ms=1000 * statistics.median(encode for encode, _ in host),
        python_ms=1000 * statistics.median(wait for _, wait in host),
        gpu_ms=sum(shaders.values()) if gpu.has_clock else None,
        bytes_read=_bytes_read(program, context),
        shaders=shaders,
    )


def _shaders(executor: Executor) -> dict[str, float]:
    rounds = [executor.time_steps(*_TOKEN, n=1) for _ in range(_TIMES)]
    sums: dict[str, float] = {}
    for number, (launch, _) in enumerate(rounds[0]):
        middle = 1000 * statistics.median(steps[number][1] for steps in rounds)
        sums[launch.shader] = sums.get(launch.shader, 0.0) + middle
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _bytes_read(program: Program, context: int) -> int:
    """By a token, each weight once: of a table that is only looked up a row counts for nothing."""
    used = Counter(name for launch in program.functions["decode"].launches for name in launch.buffers)
    looked_up = {
        name
        for launch in program.functions["decode"].launches
        if program.shaders[launch.shader].about.get("op") == "take"
        for name in launch.buffers
    }
    total = 0
    for name, item in program.buffers.items():
        if isinstance(item, Weight) and used[name] > (name in looked_up):
            total += item.bytes
        elif isinstance(item, KeyValues):
            total += item.page_bytes * context // PAGE_SIZE
    return total
