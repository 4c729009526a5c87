"""A model and windows for this machine: what `config init` proposes."""

from __future__ import annotations

from dataclasses import replace

from edge_router.catalog import ModelCard, model_cards
from edge_router.cli import output
from edge_router.cli.verbs.planning import LEAST_SPEED, SPECIAL, Planning, Report, chart, size_of
from edge_router.config.settings import Config
from edge_router.errors import UnsupportedArchitecture
from edge_router.records import dataclass
from edge_router.system.paths import Paths

CONTEXT = 8192  # tokens; what is proposed where there is room, for most conversations end before
LEAST_CONTEXT = 4096  # tokens


@dataclass(frozen=True, slots=True)
class Proposal:
    """`larger` are models that fit, too, but would be slow or have a short context; the smallest first."""

    report: Report
    planning: Planning
    larger: tuple[Report, ...] = ()


def propose(config: Config, paths: Paths) -> Proposal | None:
    """The largest model that fits and is fast enough, or the one that was chosen; None where none fits.

    Raises `EdgeRouterError` for a chosen model that can't be planned.
    """
    planning = Planning.of(config, paths)
    if config.origin("weak.model") != "default":
        from edge_router.catalog import find_model

        return _fitting([planning.report(_roomy(find_model(config.weak.model), config))], planning)
    return _fitting([planning.report(_roomy(card, config)) for card in _candidates()], planning)


def settings_of(report: Report, config: Config) -> dict[str, object]:
    """What is to be set for it, beside what was set already; a card's name as the card spells it."""
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


def show(proposal: Proposal) -> None:
    """On stderr, for stdout belongs to the file's name."""
    report, plan = proposal.report, proposal.report.shown.settings
    speed = pace(report)
    output.say(f"This machine has room for {report.shown.model} in {plan.quantization}:")
    windows = f"context {plan.context_window_size}, prefill chunk {plan.prefill_chunk_size}"
    output.say(windows + (f", at most {speed}" if speed else ""))
    output.say("")
    for line in chart(report.shown):
        output.say(line)
    output.say("")
    output.say(proposal.planning.explanation(), style="dim")
    if proposal.larger:
        count = len(proposal.larger)
        some = (proposal.larger[place] for place in sorted({0, count // 2, count - 1}))
        named = [f"{one.shown.model} fits, at {pace(one) or 'an unknown speed'}" for one in some]
        output.say(f"Of the larger ones, {'; '.join(named)}.", style="dim")


def pace(report: Report) -> str:
    """How fast it would be, in words; "" where that is not known."""
    speed = report.tokens_per_s
    if speed is None:
        return ""
    count = round(speed)
    if count < 1:
        return "less than 1 token/s"
    return f"{count} token{'' if count == 1 else 's'}/s"


def _candidates() -> list[ModelCard]:
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


def _fitting(reports: list[Report], planning: Planning) -> Proposal | None:
    """The largest of the good ones; where there is none, the smallest that fits at all."""
    found = [report for report in reports if report.best is not None]
    good = [report for report in found if _is_good(report)]
    if not found:
        return None
    chosen = max(good, key=size_of) if good else min(found, key=size_of)
    larger = sorted((one for one in found if size_of(one)[0] > size_of(chosen)[0]), key=size_of)
    return Proposal(chosen, planning, tuple(larger))


def _is_good(report: Report) -> bool:
    """With everything that was asked for it, and neither a speed nor a context that speaks against it."""
    fast = (report.tokens_per_s or LEAST_SPEED) >= LEAST_SPEED
    return report.asked.fits and fast and report.wish.context_window_size >= LEAST_CONTEXT
