"""Which GPU is taken, and what is said where there is none."""

from __future__ import annotations

import sys
from importlib.metadata import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from edge_router.engines.webgpu.adapters import Adapter, adapters, choose
from edge_router.errors import EngineUnavailable, MissingExtra


def handle(name: str, kind: str, backend: str) -> Any:
    info = {"device": name, "adapter_type": kind, "backend_type": backend, "description": "1.2"}
    return SimpleNamespace(info=info, features={"shader-f16"}, limits={"max-buffer-size": 1 << 28})


def machine(monkeypatch: pytest.MonkeyPatch, *handles: Any) -> tuple[Adapter, ...]:
    gpu = SimpleNamespace(enumerate_adapters_sync=lambda: list(handles))
    monkeypatch.setitem(sys.modules, "wgpu", SimpleNamespace(gpu=gpu))
    return adapters()


LAPTOP = (
    handle("llvmpipe", "CPU", "Vulkan"),
    handle("Iris", "IntegratedGPU", "D3D12"),
    handle("GeForce", "DiscreteGPU", "D3D12"),
    handle("GeForce", "DiscreteGPU", "OpenGL"),
    handle("GeForce", "DiscreteGPU", "Vulkan"),
    handle("Iris", "IntegratedGPU", "Vulkan"),
    handle("Cloud", "VirtualGPU", "Vulkan"),
    handle("Odd", "Other", "Vulkan"),
)


def test_the_best_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine(monkeypatch, *LAPTOP)
    assert [(adapter.name, adapter.backend) for adapter in found] == [
        ("GeForce", "vulkan"),
        ("GeForce", "d3d12"),
        ("Iris", "vulkan"),
        ("Iris", "d3d12"),
        ("Cloud", "vulkan"),
        ("Odd", "vulkan"),
        ("llvmpipe", "vulkan"),
    ]
    assert found[0].driver == "1.2" and found[0].features == {"shader-f16"}
    assert str(found[0]) == "GeForce (vulkan)"
    assert str(found[-1]) == "llvmpipe (vulkan, in software)"


@pytest.mark.parametrize(
    ("device", "name", "backend"),
    [
        ("auto", "GeForce", "vulkan"),
        ("vulkan", "GeForce", "vulkan"),
        ("d3d12", "GeForce", "d3d12"),
        ("cpu", "llvmpipe", "vulkan"),
        ("vulkan:1", "Iris", "vulkan"),
        ("d3d12:1", "Iris", "d3d12"),
        ("vulkan:x", "GeForce", "vulkan"),
    ],
)
def test_what_is_asked_for(monkeypatch: pytest.MonkeyPatch, device: str, name: str, backend: str) -> None:
    chosen = choose(device, machine(monkeypatch, *LAPTOP))
    assert (chosen.name, chosen.backend) == (name, backend)


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("auto", "no GPU here; there is llvmpipe"),
        ("metal", "no metal adapter here; there is llvmpipe"),
        ("cuda", "no cuda adapter"),
        ("vulkan:1", "no vulkan:1 adapter here; there is llvmpipe"),
    ],
)
def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, device: str, says: str) -> None:
    software = machine(monkeypatch, LAPTOP[0])
    with pytest.raises(EngineUnavailable, match=says):
        choose(device, software)
    assert choose("vulkan", software).kind == "software"  # whoever names a backend takes what is there
    with pytest.raises(EngineUnavailable, match=r"here$"):
        choose(device, ())


def test_without_wgpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wgpu", None)
    with pytest.raises(MissingExtra) as caught:
        adapters()
    assert caught.value.extra == "webgpu"


def test_a_library_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("no instance")

    module = SimpleNamespace(gpu=SimpleNamespace(enumerate_adapters_sync=broken))
    monkeypatch.setitem(sys.modules, "wgpu", module)
    with pytest.raises(EngineUnavailable, match="no instance"):
        adapters()


def test_pythons_for_which_wgpu_has_no_wheels_get_no_package() -> None:
    wanted = metadata("edge-router")["Requires-Python"]
    assert wanted == ">=3.11" == metadata("wgpu")["Requires-Python"].replace(" ", "")
