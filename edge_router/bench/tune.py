"""The shaders that decide the speed, in other layouts than the one in use: which is the fastest on this GPU?

Each is run alone, on as many copies of its matrix as no GPU's own memory for reuse can hold.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_router.config.settings import Config
from edge_router.engines.webgpu.adapters import Adapter, adapters, choose
from edge_router.engines.webgpu.gpu import GpuDevice, Step
from edge_router.errors import EngineUnavailable
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.types import Progress
from edge_router.webgpu_program import Expression, Program, read_program

if TYPE_CHECKING:
    from edge_router.compile.webgpu.wgsl import Shader

_AWAY = 256 << 20  # bytes; what is read once more after so many others comes from memory again
_ROWS = 256  # of a prompt
_TIMES = 5
_THREADS, _MATRIX_ROWS, _TILES = (32, 64, 128, 256), (1, 2, 4), (16, 32, 64)


@dataclass(frozen=True, slots=True)
class Trial:
    """One shader in one layout: `seconds` of a launch, in which it reads `bytes_read` of weights."""

    shader: str
    layout: str
    seconds: float
    bytes_read: int
    used: bool  # in programs, as things are

    @property
    def bytes_per_s(self) -> float:
        return self.bytes_read / self.seconds

    def to_dict(self) -> dict[str, object]:
        return {
            "shader": self.shader,
            "layout": self.layout,
            "microseconds": round(1e6 * self.seconds, 2),
            "gigabytes_per_s": round(self.bytes_per_s / 1e9, 2),
            "used": self.used,
        }


def tune(config: Config, paths: Paths, progress: Progress) -> tuple[str, list[Trial]]:
    """The adapter's name, and what was measured there: of each shader the fastest layout first.

    Builds what is missing. Raises what building and opening the device raise.
    """
    from edge_router.engines import resolved
    from edge_router.engines.tvm.engine import built

    config = resolved(config)
    if config.weak.engine != "webgpu":
        raise EngineUnavailable(config.weak.engine, "only shaders for vulkan, metal and d3d12 can be tuned")
    program = read_program(built(config, paths, progress).library)
    adapter = choose(config.weak.device, adapters())
    return str(adapter), sweep(adapter, program, progress)


def sweep(adapter: Adapter, program: Program, progress: Progress) -> list[Trial]:
    """Every product of a decoded token and of a prompt, each in every layout that the GPU can run."""
    wanted = [*_of_one_row(program), *_of_many_rows(program, adapter.has_float16)]
    gpu = GpuDevice(adapter, clock=True)
    try:
        with progress.step("measure", total=len(wanted), unit="shaders") as step:
            found = []
            for trial in wanted:
                found.append(trial.measured(gpu))
                step.advance()
    finally:
        gpu.close()
    order = list(dict.fromkeys(trial.shader for trial in found))
    return sorted(found, key=lambda trial: (order.index(trial.shader), trial.seconds))


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    layout: str
    shader: Shader
    sizes: tuple[int, ...]  # bytes of its buffers
    matrix: tuple[int, int]  # which of them are the weights, from and to
    n: int
    used: bool

    def measured(self, gpu: GpuDevice) -> Trial:
        read = sum(self.sizes[slice(*self.matrix)])
        copies = 1 if gpu.adapter.kind == "software" else max(1, -(-_AWAY // read))
        steps = self._steps(gpu, copies)
        _seconds(gpu, steps[:1])  # drivers finish compiling at the first use
        spans = [seconds for _ in range(_TIMES) for seconds in _seconds(gpu, steps)]
        return Trial(self.name, self.layout, statistics.median(spans), read, self.used)

    def _steps(self, gpu: GpuDevice, copies: int) -> list[Step]:
        pipeline, layout = gpu.pipeline(self.shader.compiled)
        values = {"n": self.n}
        scalars = np.array(
            [*(Expression(it)(values) for it in self.shader.scalars), 0, 0, 0, 0][:4], np.uint32
        )
        uniform = gpu.buffer(16, "uniform")
        gpu.write(uniform, scalars)
        others = [gpu.buffer(size) for size in self.sizes]
        grid = (Expression(self.shader.grid)(values), 1, 1)
        steps = []
        for _ in range(copies):
            buffers = list(others)
            for number in range(*self.matrix):
                buffers[number] = gpu.buffer(self.sizes[number])
            bound = [(buffer, 0, size) for buffer, size in zip(buffers, self.sizes, strict=True)]
            bound += [(uniform, 0, 16)] if self.shader.scalars else []
            steps.append((pipeline, gpu.bind(layout, bound), grid))
        return steps


def _seconds(gpu: GpuDevice, steps: Sequence[Step]) -> list[float]:
    """Of each; without a clock the mean of all, with what submitting takes."""
    import time

    if gpu.has_clock:
        return [float(seconds) for seconds in gpu.timed(steps)]
    begin = time.perf_counter()
    gpu.submit(gpu.encode(steps))
    gpu.wait()
    return [(time.perf_counter() - begin) / len(steps)]


def _of_one_row(program: Program) -> Iterator[_Candidate]:
    from edge_router.compile.webgpu.shaders.matvec import Layout, MatVec, matvec
    from edge_router.compile.webgpu.tunables import LANES

    for name, shape in _products(program, "decode", MatVec):
        used = Layout.of(shape)
        for threads in _THREADS:
            for lanes in (lanes for lanes in LANES if lanes <= threads):
                for rows in _MATRIX_ROWS:
                    layout = Layout(threads, lanes, rows)
                    yield _Candidate(
                        name=name,
                        layout=f"{threads} threads, {lanes} lanes, {rows} rows",
                        shader=matvec(shape, layout),
                        sizes=_sizes(shape, 1),
                        matrix=_matrix(shape),
                        n=1,
                        used=layout == used,
                    )


def _of_many_rows(program: Program, float16: bool) -> Iterator[_Candidate]:
    from edge_router.compile.webgpu.shaders.matmul import MatMul, matmul
    from edge_router.compile.webgpu.tunables import TILE

    for name, shape in _products(program, "prefill", MatMul):
        for tile in _TILES:
            for half in (False, True)[: 1 + float16]:
                other = MatMul(**{**_values(shape), "rows": tile, "half": half})
                yield _Candidate(
                    name=name,
                    layout=f"tiles of {tile} rows, {'float16' if half else 'float32'}",
                    shader=matmul(other),
                    sizes=_sizes(shape, _ROWS),
                    matrix=_matrix(shape),
                    n=_ROWS,
                    used=tile == TILE and not half,
                )


def _products(program: Program, function: str, kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """Each shader that multiplies, and its shape."""
    for name in dict.fromkeys(launch.shader for launch in program.functions[function].launches):
        about = program.shaders[name].about
        if about.get("op") == "product" and name.startswith(kind.__name__.lower()):
            yield name, kind(**{field.name: about[field.name] for field in fields(kind)})


def _values(shape: Any) -> dict[str, Any]:
    return {field.name: getattr(shape, field.name) for field in fields(shape)}


def _sizes(shape: Any, n: int) -> tuple[int, ...]:
    """Bytes of x, [norm weight], words, scales, [bias], [residual] and y, in the shaders' order."""
    rows, wide = shape.outputs * (2 if shape.gate else 1), shape.first + shape.outputs
    y = n * max(wide, getattr(shape, "stride", 0)) * 4
    found = [n * shape.inputs * 4]
    found += [shape.inputs * 4] if getattr(shape, "norm", None) is not None else []
    found += [rows * shape.inputs // 2, -(-rows * shape.inputs // 32 * 2 // 4) * 4]
    found += [wide * 4] if shape.bias else []
    found += [y] if shape.residual else []
    return tuple(max(16, size) for size in (*found, y))


def _matrix(shape: Any) -> tuple[int, int]:
    at = 1 if getattr(shape, "norm", None) is None else 2
    return at, at + 2
