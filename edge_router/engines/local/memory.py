"""Memory of an engine on this machine's processor: planned before it loads, and errors when it runs out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from edge_router.config import Config
from edge_router.device.process import can_reserve, resident_bytes
from edge_router.engines.tvm_runtime import load_runtime
from edge_router.errors import OutOfMemory
from edge_router.paths import Paths
from edge_router.types import Progress
from edge_router.vram import Plan, Wish
from edge_router.vram.fitting import fit
from edge_router.vram.room import room_for

# Reserved and never touched, so no part of a plan: TVM's index arrays, twice (vram.backends), and what the C
# library sets aside for each thread, with its stack.
_INDEX = 2 * (128 << 20)
_THREAD = (64 + 8) << 20

OBJECTS, LOADER = ".tar", "tvm_ffi_orcjit"  # see compile.link, which writes such libraries


def planned(
    model: str,
    chat: Mapping[str, object],
    library: Path,
    config: Config,
    paths: Paths,
    progress: Progress,
    *,
    threads: int,
) -> Plan:
    """What to allocate for the model with the mlc-chat-config `chat`, given what is free now.

    A context that had to be shortened is told. Raises `EngineUnavailable`, `OutOfMemory`.
    """
    _load_all_but_the_model(library)
    room = room_for(config, paths)
    held = resident_bytes()
    inner = cast("Mapping[str, object]", chat["model_config"])
    windows = Wish(
        context_window_size=cast(int, chat["context_window_size"]),
        prefill_chunk_size=cast(int, chat["prefill_chunk_size"]),
        max_sequences=config.weak.max_sequences,
        quantizations=(str(chat["quantization"]),),
    )
    fitted = fit(
        model,
        {"model_type": chat["model_type"], **inner},
        windows,
        room,
        held=held,
        router_loaded="onnxruntime" in sys.modules,
    )
    if fitted.note is not None:
        progress.note(fitted.note)
    more = fitted.plan.total - held + _INDEX + (threads + 1) * _THREAD
    if not can_reserve(more):
        raise OutOfMemory("tvm", "the system refuses so much more memory", fitted.plan.total - held)
    return fitted.plan


def _load_all_but_the_model(library: Path) -> None:
    """What the process holds is measured, and that should be everything that the plan does not count."""
    load_runtime()
    if library.suffix == OBJECTS and find_spec(LOADER) is not None:
        import_module(LOADER).default_session()


def is_exhausted(error: BaseException) -> bool:
    """Whether a library's error says that there was no memory left. TVM passes on what C++ calls it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "bad_alloc" in text or "out of memory" in text
