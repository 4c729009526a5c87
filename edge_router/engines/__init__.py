"""The engines that ship, by name. A factory takes (config, paths, progress), and is imported when used."""

from __future__ import annotations

from importlib.util import find_spec

from edge_router.config import Config
from edge_router.engines.base import Engine
from edge_router.registry import Registry

GPU_DEVICES = ("vulkan", "metal", "d3d12")  # what of `weak.device` the engine webgpu serves


def weak_engines() -> Registry[Engine]:
    """Engines that can be the weak model."""
    registry: Registry[Engine] = Registry("weak engine")
    registry.add("tvm", "edge_router.engines.tvm:load")
    registry.add("webgpu", "edge_router.engines.webgpu.load:load")
    registry.add("scripted", "edge_router.engines.scripted:load_weak")
    return registry


def resolved(config: Config) -> Config:
    """`config` with the engine that "auto" stands for: webgpu for a GPU that it can drive, else tvm.

    Where the device is "auto", too, a GPU is looked for; one in software does not count.
    """
    if config.weak.engine != "auto":
        return config
    device = config.weak.device
    on_gpu = device in GPU_DEVICES or (device == "auto" and _has_gpu())
    return config.replace(**{"weak.engine": "webgpu" if on_gpu else "tvm"})


def _has_gpu() -> bool:
    """Cheap where there is none to be seen or no way to drive it."""
    from edge_router.device import gpus

    if find_spec("wgpu") is None or not gpus():
        return False
    from edge_router.engines.webgpu.adapters import adapters
    from edge_router.errors import EdgeRouterError

    try:
        return any(adapter.kind != "software" for adapter in adapters())
    except EdgeRouterError:
        return False


def strong_engines() -> Registry[Engine]:
    """Engines that can be the strong model."""
    registry: Registry[Engine] = Registry("strong engine")
    registry.add("openai", "edge_router.engines.openai:load")
    registry.add("scripted", "edge_router.engines.scripted:load_strong")
    return registry
