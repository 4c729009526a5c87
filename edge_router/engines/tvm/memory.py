"""Memory of a model of engine tvm: planned at each load, watched where it is taken bit by bit."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from edge_router.config.settings import Config
from edge_router.device import free_memory
from edge_router.device.process import can_reserve, give_back, resident_bytes
from edge_router.engines.local.forms.constraint import tokenizer_bytes
from edge_router.engines.local.scheduling.jobs import UnloadPolicy
from edge_router.engines.tvm.runtime import load_runtime
from edge_router.errors import OutOfMemory
from edge_router.system.paths import Paths
from edge_router.types import Progress
from edge_router.vram import Plan, Settings, WindowRequest
from edge_router.vram.budget import MemoryBudget, memory_budget_for
from edge_router.vram.fitting import fit
from edge_router.vram.library import library_bytes

# Reserved and never touched, so no part of a plan: TVM's index arrays, twice (vram.backends), and what the C
# library sets aside for each thread.
_INDEX = 2 * (128 << 20)
_THREAD = 64 << 20

_SLACK = 8  # a share of what is untouched; a plan that takes all that is free must not be made again at once

_CALM_S = 10.0  # between two times that an answer is interrupted, so that it gets on whatever others do

OBJECTS, LOADER = ".tar", "tvm_ffi_orcjit"  # see compile.link, which writes such libraries


class Residence:
    """The place of one model. `plan` is None before `settings` was asked for.

    `chat` is its mlc-chat-config, with the windows that are wanted. The tokenizer is loaded already. `forms`:
    answers are held to forms, for which a second tokenizer comes beside it.
    """

    def __init__(
        self,
        model: str,
        chat: Mapping[str, object],
        library: Path,
        config: Config,
        paths: Paths,
        progress: Progress,
        *,
        threads: int,
        forms: bool = True,
    ) -> None:
        self.plan: Plan | None = None
        self._forms = forms
        self._grows = True
        self._calm_until = 0.0  # time.monotonic()
        self._model, self._library, self._threads = model, library, threads
        self._config, self._paths, self._progress = config, paths, progress
        inner = cast("Mapping[str, object]", chat["model_config"])
        stated = {"sliding_window_size": chat.get("sliding_window_size")}
        self._numbers = {"model_type": chat["model_type"], **inner, **stated}
        self._wish = WindowRequest.of(chat, config.weak.max_sequences)

    @property
    def rest(self) -> UnloadPolicy:
        return UnloadPolicy(self._config.weak.unload_after_s, self.pressed)

    def settings(self) -> Settings:
        """What to allocate, given what is free now; a context that had to be shortened is told.

        Raises `EngineUnavailable`, `OutOfMemory`.
        """
        _load_all_but_the_model(self._library)
        room = self._room()
        give_back()
        held = resident_bytes()
        fitted = fit(
            self._model,
            self._numbers,
            self._wish,
            room,
            held=held,
            router_loaded="onnxruntime" in sys.modules,
            coming=tokenizer_bytes(self._numbers) if self._forms and self.plan is None else 0,
        )
        if fitted.note is not None:
            self._progress.note(fitted.note)
        more = fitted.plan.total - held
        self._grows = not room.place.backend.own_memory  # a GPU's memory is taken at once, when loading
        if self._grows and not can_reserve(more + _INDEX + (self._threads + 1) * _THREAD):
            raise OutOfMemory("tvm", "the system refuses so much more memory", more)
        self.plan = fitted.plan
        return fitted.plan.settings

    def _room(self) -> MemoryBudget:
        room = memory_budget_for(self._config, self._paths)
        library = library_bytes(self._library, self._wish.most_sequences)
        return replace(room, place=replace(room.place, library=library))

    def pressed(self) -> bool:
        """Whether much of what the plan has not touched yet is no longer free, for others have taken it."""
        if self.plan is None or not self._grows:
            return False
        untouched = self.plan.total - self.plan.bytes("margin") - resident_bytes()
        now = time.monotonic()
        if untouched - untouched // _SLACK <= free_memory() or now < self._calm_until:
            return False
        self._calm_until = now + _CALM_S
        return True


def _load_all_but_the_model(library: Path) -> None:
    """What the process holds is measured, and that should be everything that the plan does not count."""
    load_runtime()
    if library.suffix == OBJECTS and find_spec(LOADER) is not None:
        import_module(LOADER).default_session()
