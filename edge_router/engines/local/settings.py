"""What the configuration and a model's card say of an engine, once it is there."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_router.catalog.cards import ModelCard
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.prompt import system_messages
from edge_router.engines.local.scheduling.prefixes import Keeper
from edge_router.errors import InvalidData
from edge_router.guard.inspection import Guard
from edge_router.parsing.sizes import parse_size
from edge_router.prompts.directory import longest_answer
from edge_router.store.prefixes import PrefixStore
from edge_router.system.paths import Paths
from edge_router.types import Progress

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel

# Of a request, by setting.
_MARKS: Mapping[str, Container[str | None]] = {
    "marked": ("cache",),
    "cache_control": ("cache", "cache_control"),
    "system": (None, "cache", "cache_control"),
}


def settle(
    engine: LocalEngine, compiled: CompiledModel, config: Config, paths: Paths, progress: Progress
) -> None:
    """Before anybody asks it."""
    card, weak = compiled.card, config.weak
    engine.weights_key = compiled.weights_key
    engine.longest_context = card.max_context
    engine.longest_answer = longest_answer(compiled.config)
    engine.ends_loops = weak.end_loops
    engine.prompts.thinks = thinks(card, config)
    engine.calls_tools = weak.tools == "yes" or (weak.tools == "auto" and _calls_well(engine, paths))
    engine.keeper = _keeper(engine, compiled, config, paths, progress)


def keeps(config: Config) -> str:
    """Which requests' beginnings stay on the disk. Who wants no record of decisions wants none of these,
    unless he says so."""
    return config.weak.keep_prefix or ("marked" if config.ledger.enabled else "off")


def _keeper(
    engine: LocalEngine, compiled: CompiledModel, config: Config, paths: Paths, progress: Progress
) -> Keeper | None:
    mode, guard = keeps(config), Guard(config.guard)
    if mode == "off":
        return None
    marks, prompts = _MARKS[mode], engine.prompts  # not the engine, which holds what this is for

    def wants(request: ChatRequest) -> bool:
        return not request.private and request.raw_prompt is None and request.keep in marks

    def beginning(request: ChatRequest) -> Sequence[int]:
        """Nothing in which the guard finds something."""
        alone = replace(request, messages=system_messages(request))
        found = guard.inspect(alone, guard.screening()).found
        return () if found else prompts.beginning(request)

    most = parse_size(config.weak.keep_max_size, key="weak.keep_max_size")
    assert isinstance(most, int), "checked with the configuration"
    facts = {"model": compiled.card.name, "weights": compiled.weights_key, "library": compiled.library_key}
    store = PrefixStore(paths.artifacts, most, progress)
    return Keeper(store, facts, wants, beginning)


def thinks(card: ModelCard, config: Config) -> bool:
    """Whether a model thinks where nobody says, as far as its template has a word for it."""
    return card.thinking if config.weak.thinking is None else config.weak.thinking


def _calls_well(engine: LocalEngine, paths: Paths) -> bool:
    """Whether it was measured, and found good enough."""
    from edge_router.store.tool_skill import find

    if not engine.capabilities.learned_tools or engine.weights_key is None:
        return False
    try:
        found = find(paths, engine.weights_key)
    except InvalidData as error:
        logging.getLogger(__name__).warning("the weak model is asked to call no tools: %s", error)
        return False
    return found is not None and found.passed
