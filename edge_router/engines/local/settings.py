"""What the configuration and a model's card say of an engine, once it is there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from edge_router.catalog.cards import ModelCard
from edge_router.config.settings import Config
from edge_router.engines.local.engine import LocalEngine
from edge_router.errors import InvalidData
from edge_router.prompts.directory import longest_answer
from edge_router.system.paths import Paths

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel


def settle(engine: LocalEngine, compiled: CompiledModel, config: Config, paths: Paths) -> None:
    """Before anybody asks it."""
    card, weak = compiled.card, config.weak
    engine.weights_key = compiled.weights_key
    engine.longest_context = card.max_context
    engine.longest_answer = longest_answer(compiled.config)
    engine.ends_loops = weak.end_loops
    engine.prompts.thinks = thinks(card, config)
    engine.calls_tools = weak.tools == "yes" or (weak.tools == "auto" and _calls_well(engine, paths))


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
