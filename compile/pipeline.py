"""From a model card to something that runs: weights are fetched and quantized, a library is compiled.

What is there already is found by its fingerprint in a few milliseconds, without TVM, numpy or a network. What
is not is made in a process of its own, so that nothing of the compiler stays in this one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from edge_router.catalog import ModelCard, concerning
from edge_router.compile import build_process
from edge_router.compile.build_context import Workshop
from edge_router.compile.make_library import LibraryStep
from edge_router.compile.make_weights import WeightsStep
from edge_router.compile.recipe import BuildSettings, doubts, recipe
from edge_router.compile.weights.ready import chat_config
from edge_router.errors import ArtifactError, WeightsError
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress, Step

__all__ = ["BuildSettings", "CompiledModel", "ensure", "make"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """`config` is mlc-chat-config.json with the windows that the library was compiled for.

    `library` is what runs the weights; for a GPU through WebGPU a program, see `edge_router.webgpu_program`.
    `by_mlc`: mlc_llm's own compiler made it.
    """

    card: ModelCard
    model_dir: Path
    library: Path
    config: Mapping[str, object]
    weights_key: str
    library_key: str
    by_mlc: bool = False


def ensure(
    card: ModelCard,
    settings: BuildSettings,
    *,
    paths: Paths,
    progress: Progress | None = None,
    build: bool = True,
    offline: bool = False,
    before: Callable[[], object] = lambda: None,
) -> CompiledModel:
    """The model of `card`, ready to run on this machine; whatever is missing is made now.

    `before` is called ahead of that, only where something is missing; what it raises ends it there.

    With `build` False nothing is fetched or made: `ArtifactMissing` instead. Otherwise raises what fetching
    (`WeightsError`), reading (`InvalidModel`, `UnsupportedArchitecture`), compiling (`BuildFailed`,
    `UnsupportedTarget`) and storing (`StorageError`) raise; nothing half-made stays.
    """
    shown = _Once(progress or SilentProgress())
    with concerning(card):
        if build:
            for doubt in doubts(card, settings):
                _logger.warning(doubt)
            found = _find(card, settings, paths, shown)
            if found is None:
                before()
            if found is None and build_process.build(
                build_process.Job(card, settings, paths, offline), shown
            ):
                found = _find(card, settings, paths, shown)
            if found is not None:
                return found
        return make(card, settings, paths, shown, build=build, offline=offline)


def _find(card: ModelCard, settings: BuildSettings, paths: Paths, progress: Progress) -> CompiledModel | None:
    """What is here already, and undamaged."""
    with suppress(ArtifactError, WeightsError):
        return make(card, settings, paths, progress, build=False, offline=True)
    return None


def make(
    card: ModelCard, settings: BuildSettings, paths: Paths, progress: Progress, *, build: bool, offline: bool
) -> CompiledModel:
    """Like `ensure`, in this process."""
    workshop = Workshop(card.name, paths, progress, build=build, offline=offline)
    weights = WeightsStep(recipe(card, settings), workshop)
    model_dir, weights_key = weights.make()
    config = weights.recipe.applied(chat_config(model_dir))
    step = LibraryStep(weights.recipe, workshop, config, model_dir)
    library, library_key = step.make()
    card = weights.recipe.card
    return CompiledModel(card, model_dir, library, config, weights_key, library_key, step.by_mlc)


class _Once:
    """A `Progress` that repeats no note: this process and the building one meet the same damage."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._noted = progress, set[str]()

    def step(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:
        return self._progress.step(name, total, unit)

    def note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._progress.note(text)
