"""Shaders alone on whatever adapter there is, against numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from edge_router.compile.webgpu.wgsl import Shader
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.gpu import GpuDevice
from edge_router.webgpu_program import Expression

Arrays = Sequence[np.ndarray]
Run = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def gpu(adapter: Adapter) -> Iterator[GpuDevice]:
    made = GpuDevice(adapter)
    yield made
    made.close()


@pytest.fixture
def run(gpu: GpuDevice) -> Run:
    """run(shader, arrays, n=1): the last array after one launch with n rows; all are changed in place.

    What else a shader's scalars depend on comes by name.
    """

    def launched(shader: Shader, arrays: Arrays, n: int = 1, **others: int) -> np.ndarray:
        buffers = []
        for array in arrays:
            size = max(16, -(-array.nbytes // 4) * 4)
            buffers.append((gpu.buffer(size), 0, size))
            gpu.upload(buffers[-1][0], array)
        if shader.scalars:
            values = [Expression(text)({"n": n, **others}) for text in shader.scalars]
            uniform = gpu.buffer(16, "uniform")
            gpu.write(uniform, np.array([*values, 0, 0, 0][:4], np.uint32))
            bound = [*buffers, (uniform, 0, 16)]
        else:
            bound = buffers
        pipeline, layout = gpu.pipeline(shader.compiled)
        blocks = Expression(shader.grid)({"n": n, **others})
        gpu.submit(gpu.encode([(pipeline, gpu.bind(layout, bound), (blocks, 1, 1))]))
        for (buffer, _, size), array, writes in zip(buffers, arrays, shader.writes, strict=True):
            if writes:
                raw = gpu.read(buffer, size)[: array.nbytes]
                array[...] = raw.view(array.dtype).reshape(array.shape)
        return arrays[-1]

    return launched


class Quantized:
    """A random matrix in q4f16_1: what a GPU is given, and what it means."""

    def __init__(self, rows: int, columns: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.words = rng.integers(0, 1 << 32, (rows, columns // 8), np.uint32)
        self.scales = rng.normal(0, 0.05, (rows, columns // 32)).astype(np.float16)
        shifts = np.arange(0, 32, 4, dtype=np.uint32)
        codes = ((self.words[..., None] >> shifts) & 15).reshape(rows, columns).astype(np.float64)
        self.values = (codes - 7) * np.repeat(self.scales.astype(np.float64), 32, axis=1)

    def part(self, first: int, last: int) -> list[np.ndarray]:
        return [np.ascontiguousarray(self.words[first:last]), np.ascontiguousarray(self.scales[first:last])]

    @property
    def arrays(self) -> list[np.ndarray]:
        return [self.words, self.scales]


@pytest.fixture
def quantized() -> type[Quantized]:
    return Quantized


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.fixture
def gates() -> dict[str, Any]:
    return {"silu": _silu, "gelu_tanh": _gelu}
