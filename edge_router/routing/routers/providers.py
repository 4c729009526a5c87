"""Where a router's graph runs: which of onnxruntime's execution providers is here, and whether it works.

The CPU runs the int8 graph that ships, on one thread. A GPU's provider gets the same graph as float32, for
none has kernels for int8. onnxruntime may run on the CPU what another provider was asked for, so what counts
is what a session says afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from edge_router.errors import MissingExtra, ProviderUnavailable
from edge_router.records import dataclass
from edge_router.system.telemetry import load_onnxruntime

if TYPE_CHECKING:
    from onnxruntime import SessionOptions


CPU, AUTO = "cpu", "auto"
EXTRA = "router-gpu"


@dataclass(frozen=True, slots=True)
class Provider:
    """`execution`: onnxruntime's name for it, by which one that is built in is asked for. `attach` makes a
    session's options use a plugin, and raises where the provider is not here.
    """

    name: str
    execution: str
    attach: Callable[[SessionOptions], None]
    built_in: bool = True


def named(name: str) -> Provider:
    return PROVIDERS[name]


def _attach_cpu(options: SessionOptions) -> None:
    """What onnxruntime does by itself."""


def _attach_cuda(options: SessionOptions) -> None:
    onnxruntime = load_onnxruntime()
    with redirect_stdout(StringIO()):  # where it prints what it did not find
        onnxruntime.preload_dlls()  # CUDA's libraries, where they came as packages
    _require_built_in("cuda", "install onnxruntime-gpu instead of onnxruntime")


def _attach_coreml(options: SessionOptions) -> None:
    _require_built_in("coreml", "onnxruntime for macOS on Apple silicon has it")


def _require_built_in(name: str, where: str) -> None:
    onnxruntime = load_onnxruntime()
    if PROVIDERS[name].execution not in onnxruntime.get_available_providers():
        raise ProviderUnavailable(name, f"this onnxruntime is built without it; {where}")


def _attach_webgpu(options: SessionOptions) -> None:
    """A plugin: Vulkan, Metal or D3D12, whichever the system has."""
    onnxruntime = load_onnxruntime()
    execution = PROVIDERS["webgpu"].execution
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == execution]
    if not devices:
        _register_webgpu()
        devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == execution]
    if not devices:
        raise ProviderUnavailable("webgpu", "it finds no GPU here")
    options.add_provider_for_devices(devices[:1], {})


def _register_webgpu() -> None:
    onnxruntime = load_onnxruntime()
    try:
        import onnxruntime_ep_webgpu as plugin
    except ImportError as error:
        raise MissingExtra("onnxruntime-ep-webgpu", EXTRA, "running the router on WebGPU") from error
    try:
        onnxruntime.register_execution_provider_library("edge_router_webgpu", plugin.get_library_path())
    except Exception as error:  # onnxruntime's own classes have no common base
        if "already registered" in str(error):  # and found no GPU then
            return
        raise ProviderUnavailable("webgpu", f"its library cannot be loaded: {error}") from error


PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider(CPU, "CPUExecutionProvider", _attach_cpu),
        Provider("cuda", "CUDAExecutionProvider", _attach_cuda),
        Provider("coreml", "CoreMLExecutionProvider", _attach_coreml),
        Provider("webgpu", "WebGpuExecutionProvider", _attach_webgpu, built_in=False),
    )
}
GPU_PROVIDERS = tuple(name for name in PROVIDERS if name != CPU)  # in the order in which "auto" tries them
