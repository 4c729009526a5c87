"""Which engine "auto" stands for. Pure, and tested as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge_router.config.settings import Config
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.device.graphics import Maker

SERVED = "remote"  # the engine whose models lie in a server, under names that only that knows
WEBGPU_DEVICES = ("vulkan", "metal", "d3d12")  # what of `weak.device` the engine webgpu drives
MLC_DEVICES = ("rocm", "opencl")  # what only the engine mlc drives

DEVICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {  # names that `weak.device` may have, by engine
        "auto": ("auto", "cpu", "cuda", "metal", "vulkan", "d3d12", "rocm", "opencl"),
        "tvm": ("auto", "cpu", "cuda", "metal"),
        "webgpu": ("auto", "cpu", *WEBGPU_DEVICES),
        "mlc": ("auto", "cpu", "cuda", "metal", "vulkan", *MLC_DEVICES),
    }
)


def weak_name(config: Config) -> str:
    """What the weak model is called before it is loaded: a folder's or file's name, a server's own."""
    return config.weak.model if config.weak.engine == SERVED else Path(config.weak.model).name


@dataclass(frozen=True, slots=True)
class Here:
    """What this machine offers: mlc_llm installed, a GPU for WebGPU, what TVM's runtime for CUDA takes.

    `gpu` is the maker of the first GPU seen.
    """

    mlc: bool = False
    webgpu: bool = False
    cuda: bool = False
    gpu: Maker | None = None


def choose_engine(device: str, here: Here) -> str:
    """The name of the engine for `weak.device`.

    MLC's engine is preferred on Vulkan and ROCm, and taken where no other drives the GPU. A device that was
    asked for by name gets an engine that could drive it even if something is missing: that engine says what.
    """
    device = device.partition(":")[0]
    if device == "auto":
        return _for_any(here)
    if device in MLC_DEVICES:
        return "mlc"
    if device == "cuda":
        return "mlc" if here.mlc and not here.cuda else "tvm"
    if device == "vulkan":
        return "mlc" if here.mlc else "webgpu"
    if device == "metal":
        return "mlc" if here.mlc and not here.webgpu else "webgpu"
    return "webgpu" if device in WEBGPU_DEVICES else "tvm"


def _for_any(here: Here) -> str:
    """MLC's engine takes ROCm or Vulkan on GPUs of AMD and Intel, and CUDA or Vulkan on NVIDIA's."""
    if here.cuda and here.gpu == "nvidia":
        return "tvm"
    if here.mlc and here.gpu is not None and not (here.gpu == "apple" and here.webgpu):
        return "mlc"
    return "webgpu" if here.webgpu else "tvm"
