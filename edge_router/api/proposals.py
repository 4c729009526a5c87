"""A model and windows for this machine: what `plan` lists first, with a longer context where it has room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

from edge_router.api.model_plans import ModelPlan, Planning
from edge_router.api.model_ranking import best_first, grade, is_special, shortlist
from edge_router.catalog import ModelCard, find_model, model_cards
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.errors import UnsupportedArchitecture
from edge_router.records import dataclass
from edge_router.system.paths import Paths

CONTEXT = 8192  # tokens; what is proposed where there is room, for most conversations end before


@dataclass(frozen=True, slots=True)
class Proposal:
    """A model that fits, and the `settings` that take it, beside what was set already.

    `larger` are models that fit, too, but would be slow; the smallest first.
    """

    plan: ModelPlan
    settings: Mapping[str, object]
    larger: tuple[ModelPlan, ...] = ()


def propose(
    config: Config | None = None,
    *,
    roomy: bool = True,
    paths: Paths | None = None,
    **settings: Unpack[SettingArguments],
) -> Proposal | None:
    """What `plans` lists first, or the model that was chosen; None where none fits.

    `roomy`: with a longer context than its card gives unasked, where that fits and stays fast enough.
    `config.replace(**proposal.settings)` takes it. Raises what `plan` does for a model that was chosen.
    """
    config = configured(config, settings)
    planning = Planning.of(config, paths or Paths.default())
    chosen = config.origin("weak.model") != "default"
    cards = [find_model(config.weak.model)] if chosen else filter(planning.runs, candidates())
    found = [one for one in best_first(map(planning.report, cards)) if one.best is not None]
    if not found:
        return None
    best = found[0]
    if roomy:
        longer = planning.report(_roomy(best.card, config))
        best = longer if chosen or grade(longer) == 0 else best
    slow = [one for one in shortlist(found) if one.is_whole and grade(one) and _bytes(one) > _bytes(best)]
    return Proposal(best, _settings_of(best, config), tuple(sorted(slow, key=_bytes)))


def _settings_of(report: ModelPlan, config: Config) -> dict[str, object]:
    """What is to be set for it; a card's name as the card spells it."""
    plan, name = report.shown.settings, report.shown.model
    found: dict[str, object] = {
        "weak.model": name,
        "weak.context_window_size": plan.context_window_size,
        "weak.prefill_chunk_size": plan.prefill_chunk_size,
        **({"weak.kv_cache": plan.kv_cache} if plan.kv_cache != "auto" else {}),
    }
    spelled = config.weak.model.casefold() == name.casefold()
    return {
        key: value
        for key, value in found.items()
        if config.origin(key) == "default" or (key == "weak.model" and spelled)
    }


def candidates() -> list[ModelCard]:
    """The models that can be compiled here, but for those made for one purpose."""
    return [card for card in model_cards().values() if not is_special(card) and _runs(card)]


def _runs(card: ModelCard) -> bool:
    from edge_router.compile.weights.parameters import parameters

    try:
        parameters(card.config, card.name)
    except UnsupportedArchitecture:
        return False
    return True


def _roomy(card: ModelCard, config: Config) -> ModelCard:
    """With a longer context than a card gives unasked."""
    if config.weak.context_window_size is not None:
        return card
    return replace(card, context_window_size=min(CONTEXT, card.max_context))


def _bytes(report: ModelPlan) -> int:
    return report.shown.bytes("parameters")
