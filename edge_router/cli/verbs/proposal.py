"""A model and windows for this machine: what `config init` proposes."""

from __future__ import annotations

from dataclasses import replace

from edge_router.catalog import ModelCard, model_cards
from edge_router.cli import output
from edge_router.cli.verbs.planning import Planning, Report, chart
from edge_router.config import Config
from edge_router.errors import UnsupportedArchitecture
from edge_router.paths import Paths

CONTEXT = 8192  # tokens; what is proposed where there is room, for most conversations end before
LEAST_CONTEXT = 4096  # tokens
LEAST_SPEED = 12.0  # tokens per second, by the bandwidth: a reader's pace once half of it is lost
_SPECIAL = ("gorilla", "DeepSeek-R1")  # made for one purpose: function calls, long trains of thought


def propose(config: Config, paths: Paths) -> tuple[Report, Planning] | None:
    """The largest model that fits and is fast enough, or the one that was chosen; None where none fits.

    Raises `EdgeRouterError` for a chosen model that can't be planned.
    """
    planning = Planning.of(config, paths)
    if config.origin("weak.model") != "default":
        from edge_router.catalog import find_model

        return _fitting([planning.report(_roomy(find_model(config.weak.model), config))], planning)
    return _fitting([planning.report(_roomy(card, config)) for card in _candidates()], planning)


def settings_of(report: Report) -> dict[str, object]:
    """What is to be set for it."""
    plan = report.shown.settings
    return {
        "weak.model": report.shown.model,
        "weak.context_window_size": plan.context_window_size,
        "weak.prefill_chunk_size": plan.prefill_chunk_size,
    }


def show(report: Report, planning: Planning) -> None:
    """On stderr, for stdout belongs to the file's name."""
    plan = report.shown.settings
    speed = f", at most {report.tokens_per_s:.0f} tok/s" if report.tokens_per_s is not None else ""
    output.say(f"This machine has room for {report.shown.model} in {plan.quantization}:")
    output.say(f"context {plan.context_window_size}, prefill chunk {plan.prefill_chunk_size}{speed}")
    output.say("")
    for line in chart(report.shown):
        output.say(line)
    output.say("")
    output.say(planning.explanation(), style="dim")


def _candidates() -> list[ModelCard]:
    """The models that can be compiled here, the largest first."""
    return [card for card in model_cards().values() if not card.name.startswith(_SPECIAL) and _runs(card)]


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


def _fitting(reports: list[Report], planning: Planning) -> tuple[Report, Planning] | None:
    """The largest of the good ones; where there is none, the smallest that fits at all."""
    found = [report for report in reports if report.best is not None]
    good = [report for report in found if _is_good(report)]
    if not found:
        return None
    return (max(good, key=_weight) if good else min(found, key=_weight)), planning


def _is_good(report: Report) -> bool:
    """With everything that was asked for it, and neither a speed nor a context that speaks against it."""
    fast = (report.tokens_per_s or LEAST_SPEED) >= LEAST_SPEED
    return report.asked.fits and fast and report.wish.context_window_size >= LEAST_CONTEXT


def _weight(report: Report) -> int:
    return report.shown.bytes("parameters")
