"""Step (h): the same logits through the engine webgpu on the GPU's Vulkan, where that can be had."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
from common import PACK, Results, answer, calls_of, chat, folder, manifest

CLOSE = 0.02  # of a logit, over the standard deviation of all
_LOADER = "libvulkan.so.1"
_DRIVERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/*/share/vulkan/icd.d")


def main() -> None:
    results = Results("logits")
    with results.trying("vulkan"):
        _find_loader()
        _find_driver()
        from edge_router.engines.webgpu.adapters import adapters
        from edge_router.errors import EngineUnavailable

        try:
            found = adapters()
        except EngineUnavailable as error:
            results.figures("vulkan", not_run=str(error))
            return
        if not found:
            results.figures("vulkan", not_run="no adapter is here")
        real = [adapter for adapter in found if adapter.kind != "software"]
        for adapter in (real or found)[:1]:
            results.figures("vulkan", adapter=adapter.name, kind=adapter.kind, driver=adapter.driver)
            for name in manifest()["vulkan"]:
                with results.trying(f"{name} vulkan"):
                    _compare(results, name, adapter)


def _compare(results: Results, name: str, adapter: object) -> None:
    from edge_router.engines.webgpu.runner import WebGpuRunner
    from edge_router.engines.webgpu.weights import DirectoryWeights
    from edge_router.webgpu_program import Windows, read_program

    place, sizes = folder(name), chat(name)
    windows = Windows(sizes["context_window_size"], sizes["prefill_chunk_size"], 4)
    program = read_program(place / "program.json")
    runner = WebGpuRunner(adapter, program, windows, DirectoryWeights(place).read)  # type: ignore[arg-type]
    wanted = np.load(place / "wanted.npz")
    errors = []
    for number, logits in enumerate(answer(runner, calls_of(name))):
        if logits is not None:
            right = wanted[str(number)]
            errors.append(float(np.abs(logits - right).max() / right.std()))
    runner.close()
    results.check(f"{name} vulkan", max(errors) < CLOSE, largest_error=max(errors), half=runner.half)


def _find_loader() -> None:
    """The system's, else the packed one, which whoever asks for it by name then gets."""
    for name in (_LOADER, *map(str, PACK.glob(f"vulkan/**/{_LOADER}"))):
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return


def _find_driver() -> None:
    """Where NVIDIA's description of its driver lies elsewhere than the loader looks."""
    found = [path for place in _DRIVERS for path in Path("/").glob(f"{place[1:]}/nvidia*.json")]
    if found and "VK_DRIVER_FILES" not in os.environ:
        os.environ["VK_DRIVER_FILES"] = str(found[0])


if __name__ == "__main__":
    main()
