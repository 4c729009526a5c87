"""The device: what its library raises becomes ours, and both ways to record commands do the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_router.engines.webgpu import gpu as gpu_module
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.executor import Executor, rotary_table
from edge_router.engines.webgpu.gpu import GpuDevice
from edge_router.errors import EngineUnavailable, GenerationFailed, OutOfMemory
from edge_router.webgpu_program import Rotary, Shader, Windows

ADD = """
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
struct Scalars { by: u32 }
@group(0) @binding(2) var<uniform> scalars: Scalars;
@compute @workgroup_size(1)
fn add(@builtin(workgroup_id) place: vec3<u32>, @builtin(num_workgroups) width: vec3<u32>) {
  let at = place.z * width.x + place.x;
  if (at < arrayLength(&y)) { y[at] = x[at] + scalars.by; }
}
"""


@pytest.fixture
def gpu(adapter: Adapter) -> Iterator[GpuDevice]:
    made = GpuDevice(adapter)
    yield made
    made.close()


def added(gpu: GpuDevice, data: np.ndarray, by: int) -> np.ndarray:
    x, y, uniform = gpu.buffer(data.nbytes), gpu.buffer(data.nbytes), gpu.buffer(16, "uniform")
    gpu.upload(x, data)
    gpu.write(uniform, np.array([by, 0, 0, 0], np.uint32))
    pipeline, layout = gpu.pipeline(Shader(ADD, "add", (False, True), 1))
    group = gpu.bind(layout, [(x, 0, data.nbytes), (y, 0, data.nbytes), (uniform, 0, 16)])
    gpu.submit(gpu.encode([(pipeline, group, (data.size, 1, 1))] * 2))
    return gpu.read(y, data.nbytes).view(np.uint32)


def test_commands(gpu: GpuDevice, adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.arange(1000, dtype=np.uint32)
    np.testing.assert_array_equal(added(gpu, data, 7), data + 7)
    monkeypatch.setattr(gpu_module, "_fast_recorder", lambda: None)
    plain = GpuDevice(adapter)
    np.testing.assert_array_equal(added(plain, data, 9), data + 9)
    plain.close()


def test_a_library_that_changed_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_module._fast_recorder() is not None
    monkeypatch.setitem(sys.modules, "wgpu.backends.wgpu_native", None)
    assert gpu_module._fast_recorder() is None


@pytest.mark.parametrize("size", [1, 4, 5, 1000, 4099])
def test_uploads_of_any_size(gpu: GpuDevice, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, with a wait after each, and filled up to whole words."""
    monkeypatch.setattr(gpu_module, "_PIECE", 1024)
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    buffer = gpu.buffer(-(-size // 4) * 4 + 16)
    gpu.upload(buffer, data, 4)
    found = gpu.read(buffer, -(-size // 4) * 4, 4)
    np.testing.assert_array_equal(found[:size], data)
    assert not found[size:].any()


def test_copies(gpu: GpuDevice) -> None:
    one, other = gpu.buffer(32), gpu.buffer(32)
    gpu.upload(one, np.arange(8, dtype=np.uint32))
    gpu.copy([(one, 8, other, 0, 16), (other, 4, one, 0, 8)])
    np.testing.assert_array_equal(gpu.read(one, 16).view(np.uint32), [3, 4, 2, 3])


@pytest.mark.filterwarnings("ignore")
def test_a_shader_that_is_none(gpu: GpuDevice) -> None:
    with pytest.raises(EngineUnavailable, match="cannot compile add") as caught:
        gpu.pipeline(Shader("fn add() { nonsense }", "add", (), 0))
    assert caught.value.__cause__ is not None


def test_more_memory_than_there_is(gpu: GpuDevice) -> None:
    with pytest.raises(EngineUnavailable):  # OutOfMemory where the device gets as far as trying
        gpu.buffer(1 << 50)


def test_out_of_memory_has_the_size(gpu: GpuDevice) -> None:
    def refuse(**arguments: Any) -> Any:
        raise gpu._wgpu.GPUOutOfMemoryError("Not enough memory left.")

    gpu._device = type("Device", (), {"create_buffer": staticmethod(refuse), "destroy": lambda self: None})()
    with pytest.raises(OutOfMemory, match=r"has no room: Not enough memory left\.") as caught:
        gpu.buffer(1 << 20)
    assert caught.value.needed == 1 << 20


def test_work_on_a_lost_device(gpu: GpuDevice) -> None:
    buffer = gpu.buffer(16)
    gpu.close()
    with pytest.raises(GenerationFailed, match="cannot"):
        gpu.read(buffer, 4)


def test_a_device_that_does_not_start(adapter: Adapter) -> None:
    limits = {**adapter.limits, "max-buffer-size": 1 << 60}
    with pytest.raises(EngineUnavailable, match="cannot start"):
        GpuDevice(replace(adapter, limits=limits))


def test_an_adapter_with_less_than_shaders_need(adapter: Adapter) -> None:
    name = "max-compute-invocations-per-workgroup"
    with pytest.raises(EngineUnavailable, match=f"too small: {name} is 128, and 256 are needed"):
        GpuDevice(replace(adapter, limits={**adapter.limits, name: 128}))


def test_grids_wider_than_the_device_allows(adapter: Adapter, tiny_model: Any) -> None:
    narrow = replace(adapter, limits={**adapter.limits, "max-compute-workgroups-per-dimension": 65535})
    gpu = GpuDevice(narrow)
    executor = Executor(gpu, tiny_model.program, Windows(32, 16), tiny_model.read)
    launch = tiny_model.program.functions["prefill"].launches[0]
    (_, _, plain), *_ = executor._bound["prefill"].steps({"n": 16})
    assert plain == (16, 1, 1)
    x, y, z = executor._bound["prefill"]._grid(launch.grid, {"n": 200_000})
    assert x <= 65535 and y == 1 and x * z >= 200_000
    gpu.close()


def test_rotary_tables() -> None:
    table = rotary_table(Rotary((1.0, 0.5), 2.0), 3)
    assert table.shape == (3, 4) and table.dtype == np.float32
    np.testing.assert_allclose(table[0], [2, 2, 0, 0])
    np.testing.assert_allclose(
        table[2], 2 * np.array([np.cos(2), np.cos(1), np.sin(2), np.sin(1)]), rtol=1e-6
    )
