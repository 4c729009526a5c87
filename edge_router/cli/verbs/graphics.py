"""What `doctor` says of the GPUs that the engine webgpu could use."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from edge_router.cli.findings import Finding, Found
from edge_router.cli.terminal import output

if TYPE_CHECKING:
    from edge_router.engines.webgpu.adapters import Adapter

SECTION = "This machine"


def webgpu() -> Found:
    if find_spec("wgpu") is None:
        mend = "install it where a GPU is to run the weak model: python -m pip install 'edge-router[webgpu]'"
        yield Finding(SECTION, "webgpu", f"wgpu is not installed; {mend}")
        return
    from edge_router.engines.webgpu.adapters import adapters
    from edge_router.engines.webgpu.residence import memory_free

    found = adapters()
    for adapter in found:
        free = memory_free(adapter) if adapter.kind == "discrete" else None
        yield Finding(SECTION, "webgpu", _described(adapter, free))
    if not found:
        yield Finding(SECTION, "webgpu", "no adapter: a GPU shows itself when its driver is installed")


def _described(adapter: Adapter, free: int | None) -> str:
    """One adapter: what it is, its memory where it has its own, and what limits a context."""
    words = [f"{adapter}, {adapter.kind}"] if adapter.kind != "software" else [str(adapter)]
    if free is not None:
        words.append(f"{output.size(free)} free")
    words.append(f"buffers of {output.size(adapter.largest_binding)} at most")
    words.append("float16 arithmetic" if adapter.has_float16 else "no float16 arithmetic: float32 is used")
    if adapter.kind == "software":
        words.append('taken only when it is asked for, as with "chat --device vulkan"')
    return ", ".join(words)
