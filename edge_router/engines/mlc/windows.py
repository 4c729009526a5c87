"""How many tokens MLC's engine is given room for, and its `EngineConfig`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge_router.config.settings import Config
from edge_router.engines.mlc import NAME
from edge_router.errors import ConfigError
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.types import Progress


@dataclass(frozen=True, slots=True)
class MlcWindows:
    """Tokens; `total` of all conversations. `utilization` is the budget's share of the device's memory.

    `sliding` and `sinks` are as asked, of a model whose cache forgets; None leaves them to the library.
    """

    context: int
    chunk: int
    total: int
    utilization: float | None = None
    sliding: int | None = None
    sinks: int | None = None


def windows_for(
    model: str, chat: Mapping[str, Any], config: Config, paths: Paths, progress: Progress, *, forgets: bool
) -> MlcWindows:
    """As compiled, or as long as fits into what is free.

    `forgets`: whether MLC's cache drops what lies before a sliding window; a library of ours masks it.
    """
    from edge_router.vram import WindowRequest
    from edge_router.vram.backends import PAGE
    from edge_router.vram.budget import memory_budget_for
    from edge_router.vram.fitting import fit

    context, chunk = chat["context_window_size"], chat["prefill_chunk_size"]
    together, weak = sequences(config), config.weak
    asked = (weak.sliding_window_size, weak.attention_sink_size) if forgets else (None, None)
    try:
        room = memory_budget_for(config, paths)
    except ConfigError:
        if config.weak.vram_budget is not None:
            raise
        # What is free is not known here, and no budget was set.
        return MlcWindows(context, chunk, room_of(context) * together, None, *asked)
    wish = WindowRequest.of(chat, together)
    window = int(chat.get("sliding_window_size") or -1) if forgets else -1
    numbers = {"model_type": chat["model_type"], **chat["model_config"], "sliding_window_size": window}
    place = replace(room.place, backend=replace(room.place.backend, forgets=window > 0))
    room = replace(room, place=place)
    fitted = fit(model, numbers, wish, room, held=0, router_loaded=True, engine=NAME)
    if fitted.note is not None:
        progress.note(fitted.note)
    settings = fitted.plan.settings
    # Rounded down: what MLC takes for its own must stay below the budget.
    share = math.floor(1000 * fitted.plan.budget / room.whole) / 1000 if room.whole else None
    kept = (settings.pages - 1) * PAGE if window > 0 else room_of(settings.context_window_size) * together
    return MlcWindows(settings.context_window_size, settings.prefill_chunk_size, kept, share, *asked)


def room_of(context: int) -> int:
    """Tokens that a conversation of `context` takes in MLC's KV cache: whole pages, and one more.

    Without a free page nothing goes on there, however much of its last one a conversation has left: one that
    is alone would wait for ever.
    """
    from edge_router.vram.backends import PAGE

    return (-(-context // PAGE) + 1) * PAGE


def sequences(config: Config) -> int:
    """One, where nobody says how many: MLC's libraries are compiled for as many as are asked."""
    return config.weak.max_sequences or 1


def engine_config(config: Config, windows: MlcWindows) -> dict[str, object]:
    """The fields of MLC's `EngineConfig` that are not left to MLC, which leaves no page free in any mode."""
    together, asked = sequences(config), config.mlc.gpu_memory_utilization
    values: dict[str, object] = {
        "max_num_sequence": together,
        "max_single_sequence_length": windows.context,
        "max_total_sequence_length": windows.total,
        "prefill_chunk_size": windows.chunk,
        "sliding_window_size": windows.sliding,
        "attention_sink_size": windows.sinks,
        "gpu_memory_utilization": asked if asked is not None else windows.utilization,
    }
    return {name: value for name, value in values.items() if value is not None}
