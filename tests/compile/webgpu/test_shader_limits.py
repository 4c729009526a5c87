"""No shader needs more than what WebGPU promises on every device."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_router.compile.webgpu.shaders.append import append
from edge_router.compile.webgpu.shaders.attend_many import attend_many
from edge_router.compile.webgpu.shaders.attend_one import attend_one, combine
from edge_router.compile.webgpu.shaders.heads import Heads
from edge_router.compile.webgpu.shaders.matfew import matfew
from edge_router.compile.webgpu.shaders.matmul import MatMul, matmul
from edge_router.compile.webgpu.shaders.matvec import MatVec, matvec
from edge_router.compile.webgpu.shaders.rows import Table, take
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.gpu import GpuDevice
from edge_router.webgpu_program import Shader

PROMISED = {
    "max-compute-workgroup-storage-size": 16384,
    "max-compute-invocations-per-workgroup": 256,
    "max-compute-workgroup-size-x": 256,
    "max-storage-buffers-per-shader-stage": 8,
    "max-storage-buffer-binding-size": 134217728,
    "max-uniform-buffer-binding-size": 65536,
}


@pytest.fixture(scope="module")
def least(adapter: Adapter) -> Iterator[GpuDevice]:
    """A device with no more than that."""
    gpu = GpuDevice(adapter)
    gpu._device.destroy()
    gpu._device = adapter.handle.request_device_sync(required_limits=PROMISED)
    assert {name: gpu._device.limits[name] for name in PROMISED} == PROMISED
    yield gpu
    gpu.close()


def every_shape() -> list[Heads]:
    file = Path(__file__).with_name("test_attention_shaders.py")
    spec = importlib.util.spec_from_file_location("attention_shapes", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("attention_shapes", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return [*module.SHAPES.values(), Heads(8, 4, 256, 0.0625, window=512, cap=50.0, norm=1e-6)]


MATRICES = [
    MatVec(576, 960, norm=1e-5),
    MatVec(4096, 128256, norm=1e-5, bias=True),
    MatVec(14336, 4096, residual=True),
    MatVec(4096, 14336, norm=1e-5, gate="silu"),
    MatVec(64, 48, norm=1e-6, gate="gelu_tanh"),
]


ITEM = {"vec4<f16>": 8, "f32": 4, "u32": 4, "vec2<f32>": 8, "vec4<f32>": 16}


def shared_bytes(source: str) -> int:
    """Of a workgroup's memory; wgpu does not count it."""
    constants = {name: int(value) for name, value in re.findall(r"const (\w+) = (\d+)u;", source)}
    found = re.findall(r"var<workgroup> \w+: array<([\w<>]+), ([^>]+)>;", source)
    assert len(found) == source.count("var<workgroup>")
    return sum(ITEM[kind] * eval(count.replace("u", ""), {}, constants) for kind, count in found)


def made(shader: Any) -> Shader:
    assert shared_bytes(shader.source) <= PROMISED["max-compute-workgroup-storage-size"]
    return shader.compiled


@pytest.mark.parametrize("heads", every_shape(), ids=lambda heads: heads.name)
def test_attention(least: GpuDevice, heads: Heads) -> None:
    shaders = [append(heads), attend_many(heads), attend_one(heads), attend_one(heads, 8), combine(heads, 8)]
    for shader in shaders:
        least.pipeline(made(shader))


@pytest.mark.parametrize("shape", MATRICES, ids=lambda shape: shape.name)
def test_matrices(least: GpuDevice, shape: MatVec) -> None:
    least.pipeline(made(matvec(shape)))
    least.pipeline(made(matfew(shape)))
    for rows in (16, 32, 64):
        many = MatMul(shape.inputs, shape.outputs, rows, shape.gate, shape.bias, shape.residual)
        least.pipeline(made(matmul(many)))
    assert shared_bytes(matmul(replace(many, half=True)).source) <= 8192
    least.pipeline(made(take(Table(shape.inputs, shape.outputs))))
