"""Where engine tvm computes: on the processor, or why not on a GPU. What a GPU does is in tests/compile/gpu."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edge_router.compile.gpu import nvrtc
from edge_router.compile.gpu.machine_code import with_machine_code
from edge_router.engines.tvm import device as tvm_device
from edge_router.engines.tvm.device import Device, has_cuda, loading, machine_code, open_device
from edge_router.errors import EngineUnavailable

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("asked", ["cpu", "auto", "cpu:0"])
def test_the_processor(asked: str) -> None:
    device = open_device(asked)
    assert device == Device()
    given = tvm_device_array()
    there = device.put(given, None)
    assert np.array_equal(device.get(there), given)


def tvm_device_array() -> np.ndarray:
    from edge_router.engines.tvm.buffers import aligned

    array = aligned((4,), np.int32)
    array[:] = [1, 2, 3, 4]
    return array


@pytest.mark.parametrize(
    ("drivers", "runtimes", "reason"),
    [
        (False, True, "no NVIDIA driver is installed"),
        (True, False, r"CUDA's run time \(version 13\) is not installed: pip install 'edge-router\[cuda\]'"),
    ],
)
def test_what_cuda_lacks_is_named(
    drivers: bool, runtimes: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {tvm_device._DRIVERS: drivers}
    monkeypatch.setattr(tvm_device, "_loads", lambda names: found.get(names, runtimes))
    with pytest.raises(EngineUnavailable, match=reason):
        open_device("cuda")
    assert not has_cuda()


@pytest.mark.skipif(sys.platform == "darwin", reason="there TVM has one")
def test_metal_where_tvm_has_none() -> None:
    with pytest.raises(EngineUnavailable, match="no runtime for metal"):
        open_device("metal")


def test_machine_code_is_taken_from_the_library_or_made(monkeypatch: pytest.MonkeyPatch) -> None:
    source = with_machine_code("// source", {"sm_89": b"code"})
    assert machine_code("sm_89", source) == b"code"
    monkeypatch.setattr(nvrtc, "available", lambda: False)
    with pytest.raises(
        EngineUnavailable, match=r"no machine code for sm_90: pip install 'edge-router\[cuda\]'"
    ):
        machine_code("sm_90", source)
    monkeypatch.setattr(nvrtc, "available", lambda: True)
    monkeypatch.setattr(nvrtc, "to_cubin", lambda source, architecture: architecture.encode())
    assert machine_code("sm_90", source) == b"sm_90"


def test_tvm_can_be_imported_after_a_library_was_loaded() -> None:
    """It registers what makes machine code, and refuses to where that is there already."""
    script = (
        "from edge_router.engines.tvm import device as tvm_device;"
        "tvm_device._architecture = lambda ffi, device: 'sm_89';"
        "ask = tvm_device.load_runtime().get_global_func;"
        "scope = tvm_device.loading(tvm_device.Device('cuda', 2));"
        "scope.__enter__(); assert ask('tvm_callback_cuda_compile', allow_missing=True);"
        "scope.__exit__(None, None, None); import tvm"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_nothing_changes_for_the_processor() -> None:
    ask = tvm_device.load_runtime().get_global_func
    before = ask("tvm_callback_cuda_compile", allow_missing=True)
    with loading(Device()):
        assert (ask("tvm_callback_cuda_compile", allow_missing=True) is None) == (before is None)
