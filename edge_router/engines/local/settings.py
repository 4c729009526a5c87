"""What the configuration and a model's card say of an engine, once it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_router.config import Config
from edge_router.engines.local.engine import LocalEngine
from edge_router.prompts.directory import longest_answer

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel


def settle(engine: LocalEngine, compiled: CompiledModel, config: Config) -> None:
    """Before anybody asks it."""
    card, weak = compiled.card, config.weak
    engine.weights_key = compiled.weights_key
    engine.longest_context = card.max_context
    engine.longest_answer = longest_answer(compiled.config)
    engine.ends_loops = weak.end_loops
    engine.thinks = card.thinking if weak.thinking is None else weak.thinking
    engine.calls_tools = weak.tools == "yes"
