"""Memory of a model on a GPU: planned against what is free whenever it is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from edge_router.config.settings import Config
from edge_router.device import free_memory, host
from edge_router.device.process import resident_bytes
from edge_router.device.vulkan import VulkanDevice, vulkan_devices
from edge_router.engines.local.scheduling.jobs import UnloadPolicy
from edge_router.engines.webgpu.adapters import ENGINE, Adapter
from edge_router.parsing.sizes import Share, binary, in_bytes, parse_size
from edge_router.system.paths import Paths
from edge_router.types import Progress
from edge_router.vram import ModelShape, Place, Plan, WindowRequest, backend
from edge_router.vram.budget import DEFAULT_BUDGET, MemoryBudget, router_bytes
from edge_router.vram.fitting import fit
from edge_router.webgpu_program import PAGE_SIZE, Windows

_POSITIONS = 1 << 17  # tokens of a conversation that forgets: its table of angles takes tens of MB
_UNKNOWN = 1 << 50  # bytes; where nobody tells what is free, the device says no by itself


class GpuResidence:
    """The place of one model on one adapter. `plan` is None before `windows` was asked for.

    `chat` is its mlc-chat-config, with the windows that are wanted.
    """

    def __init__(
        self,
        model: str,
        chat: Mapping[str, object],
        adapter: Adapter,
        config: Config,
        paths: Paths,
        progress: Progress,
    ) -> None:
        self.plan: Plan | None = None
        self._model, self._adapter, self._config = model, adapter, config
        self._paths, self._progress = paths, progress
        inner = cast("Mapping[str, object]", chat["model_config"])
        windows = ("sliding_window_size", "attention_sink_size")
        own = {name: chat[name] for name in windows if name in chat}
        self._numbers = {"model_type": chat["model_type"], **inner, **own}
        self._wish = WindowRequest.of(chat, config.weak.max_sequences)

    @property
    def rest(self) -> UnloadPolicy:
        return UnloadPolicy(self._config.weak.unload_after_s, lambda: False)

    def windows(self) -> Windows:
        """What to allocate; a context that had to be shortened is told. Raises `OutOfMemory`."""
        wish, room = self._within_bindings(), self._room()
        if room.free == _UNKNOWN:  # then nothing is known to be left over
            wish = replace(wish, most_sequences=wish.max_sequences)
        fitted = fit(
            self._model,
            self._numbers,
            wish,
            room,
            held=resident_bytes(),
            router_loaded="onnxruntime" in sys.modules,
            engine=ENGINE,
        )
        if fitted.note is not None:
            self._progress.note(fitted.note)
        self.plan, chosen = fitted.plan, fitted.plan.settings
        return Windows(chosen.context_window_size, chosen.prefill_chunk_size, chosen.max_sequences)

    def _within_bindings(self) -> WindowRequest:
        """A shader sees so much of a buffer and no more: of a layer's KV cache, and of activations."""
        wish, shape = self._wish, ModelShape.of(self._numbers, self._model)
        float16, float32 = 2, 4
        eight = wish.kv_caches[0] == "int8"  # with a scale for each token
        page = PAGE_SIZE * shape.kv_heads * (shape.head_dim + 4 if eight else shape.head_dim * float16)
        all_pages = self._adapter.largest_binding // page
        pages = all_pages // wish.max_sequences
        given = shape.experts.chosen * shape.hidden if shape.experts else 0  # of a token, by its experts
        widest = max(shape.intermediate, shape.query_width + 2 * shape.key_width, given)
        rows = self._adapter.largest_binding // (widest * float32)
        if shape.whole_window:  # what lies before it takes no page, but each position has its angles
            wish = replace(wish, context_window_size=min(wish.context_window_size, _POSITIONS))
            pages = max(pages, _POSITIONS // PAGE_SIZE)
        context = min(wish.context_window_size, max(1, pages) * PAGE_SIZE)
        chunk = min(wish.prefill_chunk_size, max(1, rows), context)
        for name, was, now in (
            ("context_window_size", wish.context_window_size, context),
            ("prefill_chunk_size", min(wish.prefill_chunk_size, context), chunk),
        ):
            if now < was:
                most = binary(self._adapter.largest_binding)
                self._progress.note(
                    f"{self._adapter} shows a shader {most} of a buffer, so {name} {was} became {now}"
                )
        together = min(wish.most_sequences, all_pages // -(-context // PAGE_SIZE))
        return replace(wish, context_window_size=context, prefill_chunk_size=chunk, most_sequences=together)

    def _room(self) -> MemoryBudget:
        """A GPU without memory of its own takes the machine's, like any process."""
        weak = self._config.weak
        own = self._adapter.kind == "discrete"
        free = memory_free(self._adapter) if own else free_memory()
        text = weak.vram_budget
        source = self._config.origin("weak.vram_budget")
        budget = DEFAULT_BUDGET if text is None else parse_size(text, source=source)
        place = Place(
            replace(backend(self._adapter.backend), own_memory=own),
            threads=weak.threads or host(self._paths.artifacts / "host.json").physical_cores,
            router=router_bytes(self._config.router, own_memory=own),
        )
        known = _UNKNOWN if free is None else free
        return MemoryBudget(place, in_bytes(budget, known), known, isinstance(budget, Share))


def memory_free(adapter: Adapter) -> int | None:
    """Bytes of the GPU's own memory, as Vulkan tells them: also for one that is driven otherwise.

    Where the driver tells only the size, that.
    """
    known = vulkan_devices()
    fitting = [device for device in known if _same(device, adapter)]
    if not fitting:
        return None
    device = fitting[0]
    return device.memory_total if device.memory_free is None else device.memory_free


def _same(device: VulkanDevice, adapter: Adapter) -> bool:
    return device.name == adapter.name or (device.vendor, device.device) == adapter.ids
