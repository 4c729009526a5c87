"""A model and windows for this machine: the largest that fits and is fast enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

from edge_router.api.model_plans import LEAST_SPEED, SPECIAL, ModelPlan, Planning, size_of
from edge_router.catalog import ModelCard, find_model, model_cards
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config
from edge_router.errors import UnsupportedArchitecture
from edge_router.records import dataclass
from edge_router.system.paths import Paths

CONTEXT = 8192  # tokens; what is proposed where there is room, for most conversations end before
LEAST_CONTEXT = 4096  # tokens


@dataclass(frozen=True, slots=True)
class Proposal:
    """A model that fits, and the `settings` that take it, beside what was set already.

    `larger` are models that fit, too, but would be slow or have a short context; the smallest first.
    """

    plan: ModelPlan
    settings: Mapping[str, object]
    larger: tuple[ModelPlan, ...] = ()


def propose(
    config: Config | None = None, *, paths: Paths | None = None, **settings: Unpack[SettingArguments]
) -> Proposal | None:
    """The largest model that fits and is fast enough, or the one that was chosen; None where none fits.

    `config.replace(**proposal.settings)` takes it. Raises what `plan` does for a model that was chosen.
    """
    config = configured(config, settings)
    planning = Planning.of(config, paths or Paths.default())
    chosen = config.origin("weak.model") != "default"
    cards = [find_model(config.weak.model)] if chosen else candidates()
    return _fitting([planning.report(_roomy(card, config)) for card in cards], config)


def _settings_of(report: ModelPlan, config: Config) -> dict[str, object]:
    """What is to be set for it; a card's name as the card spells it."""
    plan, name = report.shown.settings, report.shown.model
    found: dict[str, object] = {
        "weak.model": name,
        "weak.context_window_size": plan.context_window_size,
        "weak.prefill_chunk_size": plan.prefill_chunk_size,
    }
    spelled = config.weak.model.casefold() == name.casefold()
    return {
        key: value
        for key, value in found.items()
        if config.origin(key) == "default" or (key == "weak.model" and spelled)
    }


def candidates() -> list[ModelCard]:
    """The models that can be compiled here, the largest first."""
    return [card for card in model_cards().values() if not card.name.startswith(SPECIAL) and _runs(card)]


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


def _fitting(reports: list[ModelPlan], config: Config) -> Proposal | None:
    """The largest of the good ones; where there is none, the smallest that fits at all."""
    found = [report for report in reports if report.best is not None]
    good = [report for report in found if _is_good(report)]
    if not found:
        return None
    chosen = max(good, key=size_of) if good else min(found, key=size_of)
    larger = sorted((one for one in found if size_of(one)[0] > size_of(chosen)[0]), key=size_of)
    return Proposal(chosen, _settings_of(chosen, config), tuple(larger))


def _is_good(report: ModelPlan) -> bool:
    """With everything that was asked for it, and neither a speed nor a context that speaks against it."""
    fast = (report.tokens_per_s or LEAST_SPEED) >= LEAST_SPEED
    return report.asked.fits and fast and report.wish.context_window_size >= LEAST_CONTEXT
