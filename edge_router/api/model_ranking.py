"""Which of several plans a person would take: by what fits, how good its answers are and what it can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edge_router.catalog import ModelCard
from edge_router.routing.routers.fitting import strength_of

if TYPE_CHECKING:
    from edge_router.api.model_plans import ModelPlan

SPECIAL = ("gorilla", "DeepSeek-R1")  # made for one purpose: function calls, long trains of thought
LEAST_SPEED = 12.0  # tokens per second, by the bandwidth: a reader's pace once half of it is lost
LEAST_CONTEXT = 4096  # tokens; with less a conversation ends soon
_LEAST_STRENGTH = (("top", 0.8), ("strong", 0.7), ("good", 0.55), ("fair", 0.35))
CLASSES = (*(name for name, _ in _LEAST_STRENGTH), "basic")  # of answers, the best first


def best_first(reports: Iterable[ModelPlan]) -> list[ModelPlan]:
    """What fits as asked and is fast enough: the best class first, in it what can do more, then the stronger,
    of two alike the one with less to fetch.

    Behind that what is slow, the fastest first; what fits cut, the longest context first; what does not fit,
    what lacks the least first. In each those made for one purpose come last.
    """

    def order(report: ModelPlan) -> tuple[float, ...]:
        card, parameters, place = report.card, report.planner.shape.parameters, grade(report)
        context, speed = report.shown.settings.context_window_size, report.tokens_per_s or 0.0
        within = (0.0, -speed, -context, report.shown.lacking)[place]
        rank, able, strength = CLASSES.index(class_of(card)), len(card.abilities), strength_of(card) or 0.0
        same = (report.download_bytes, -card.max_context, -parameters)
        return (place, is_special(card), within, rank, -able, -strength, *same)

    return sorted(reports, key=order)


def shortlist(ordered: Iterable[ModelPlan]) -> list[ModelPlan]:
    """Those among which a person would choose: what fits, serves any purpose and has no successor that does.

    What is fetched already stays. Empty where nothing fits.
    """
    fitting = [report for report in ordered if report.best is not None]
    grades = {report.card.name: grade(report) for report in fitting}
    chosen = [
        report
        for report in fitting
        if not is_special(report.card)
        and (report.here or grades.get(report.card.successor, len(grades)) > grade(report))
    ]
    return chosen or fitting


def grade(report: ModelPlan) -> int:
    """0: fits as asked, is fast enough and has a context for a conversation; 3: does not fit."""
    if report.best is None:
        return 3
    if not report.is_whole:
        return 2
    slow = (report.tokens_per_s or LEAST_SPEED) < LEAST_SPEED
    return int(slow or report.wish.context_window_size < LEAST_CONTEXT)


def class_of(card: ModelCard) -> str:
    """How good its answers are, in a word, by the share of ordinary prompts that it is left."""
    strength = strength_of(card) or 0.0
    return next((name for name, least in _LEAST_STRENGTH if strength >= least), CLASSES[-1])


def is_special(card: ModelCard) -> bool:
    """Made for one purpose."""
    return card.name.startswith(SPECIAL)
