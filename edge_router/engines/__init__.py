"""The engines that ship, by name. A factory takes (config, paths, progress), and is imported when used."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.util import find_spec

from edge_router.config.settings import Config
from edge_router.engines.base import Engine
from edge_router.engines.choice import Here, choose_engine
from edge_router.errors import BuildFailed, EngineUnavailable, InternalError
from edge_router.registry import Registry
from edge_router.system.paths import Paths
from edge_router.types import Progress

_logger = logging.getLogger(__name__)
_PROCESSOR = {"weak.engine": "tvm", "weak.device": "cpu"}


def weak_engines() -> Registry[Engine]:
    """Engines that can be the weak model."""
    registry: Registry[Engine] = Registry("weak engine")
    registry.add("tvm", "edge_router.engines.tvm.engine:load")
    registry.add("webgpu", "edge_router.engines.webgpu.load:load")
    registry.add("mlc", "edge_router.engines.mlc.load:load")
    registry.add("remote", "edge_router.engines.local_server.engine:load")
    registry.add("scripted", "edge_router.engines.scripted:load_weak")
    return registry


def resolved(config: Config) -> Config:
    """`config` with the engine that "auto" stands for; see `choice.choose_engine`.

    Where the device is "auto", too, a GPU is looked for; one in software does not count. MLC's engine would
    count it, so where there is no other that one is told to take the processor.
    """
    device = config.weak.device
    if config.weak.engine == "mlc" and device == "auto":
        from edge_router.device import gpus

        return config if gpus() else config.replace(**{"weak.device": "cpu"})
    if config.weak.engine != "auto":
        return config
    here = _here(config) if device == "auto" else _installed(config, cuda=device.startswith("cuda"))
    engine = choose_engine(device, here)
    if engine == "tvm" and device == "auto" and here.cuda:
        device = "cuda"
    return config.replace(**{"weak.engine": engine, "weak.device": device})


def load_weak(registry: Registry[Engine], config: Config, paths: Paths, progress: Progress) -> Engine:
    """The configured engine. A GPU that nobody asked for by name may fail: then the processor steps in.

    Raises what the engine's factory raises.
    """
    found = resolved(config)
    try:
        return registry.get(found.weak.engine)(found, paths, progress)
    except (EngineUnavailable, BuildFailed, InternalError) as error:
        asked = (config.weak.engine, config.weak.device)
        if asked != ("auto", "auto") or (found.weak.engine, found.weak.device) == ("tvm", "auto"):
            raise
        if isinstance(error, InternalError):
            _logger.error("%s", error, exc_info=error)
        progress.note(f"{error}; the processor does the work")
    return registry.get("tvm")(found.replace(**_PROCESSOR), paths, progress)


def _here(config: Config) -> Here:
    """Cheap where there is no GPU to be seen."""
    from edge_router.device import gpus

    found = gpus()
    if not found:
        return Here()
    own = _installed(config, cuda=found[0].maker == "nvidia")
    return replace(own, webgpu=_drives_a_gpu(), gpu=found[0].maker)


def _installed(config: Config, *, cuda: bool) -> Here:
    """`cuda`: whether to look for that, too."""
    from edge_router.engines.tvm.device import has_cuda

    mlc = config.mlc.python is not None or _is_installed("mlc_llm")
    return Here(mlc, _is_installed("wgpu"), cuda and has_cuda())


def _drives_a_gpu() -> bool:
    """Whether WebGPU finds one that is not in software."""
    if not _is_installed("wgpu"):
        return False
    from edge_router.engines.webgpu.adapters import adapters
    from edge_router.errors import EdgeRouterError

    try:
        return any(adapter.kind != "software" for adapter in adapters())
    except EdgeRouterError:
        return False


def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


def strong_engines() -> Registry[Engine]:
    """Engines that can be the strong model."""
    registry: Registry[Engine] = Registry("strong engine")
    registry.add("openai", "edge_router.engines.fleet.engine:load")
    registry.add("scripted", "edge_router.engines.scripted:load_strong")
    return registry
