"""Many models in one table, the best first: what a person would take, then what is slow, cut or too large."""

from __future__ import annotations

from collections.abc import Sequence

from edge_router.api.model_plans import ModelPlan
from edge_router.api.model_ranking import class_of, shortlist
from edge_router.cli.terminal import output
from edge_router.cli.verbs.planning import cut_words
from edge_router.parsing.sizes import binary
from edge_router.routing.routers.fitting import strength_of

MOST = 16  # rows that a person reads
NEAREST = 5  # of those that do not fit, where none does
_SPARE = ("longest", "answers", "memory", "fetch")  # which a narrow window does without, the first first
_COLUMNS = ("model", "fits", "params", "class", "context", "tok/s", "fetch", "memory", "longest", "answers")
_ABILITIES = {"tools": "tools", "think": "thinking"}
LEGEND = (
    "The best first. class: how often its answer does beside a strong model's, judged by its size unless its "
    "card says more (top 80 % of ordinary prompts, strong 70, good 55, fair 35); fetch: about; "
    "context: as the card has it, a longer one is planned with --context-window-size. "
    "One is taken by: edge-router config set weak.model=NAME"
)


def shown(ordered: Sequence[ModelPlan], *, everything: bool) -> list[ModelPlan]:
    """Of plans, the best first, those worth showing; where nothing fits, those that lack the least."""
    if everything:
        return list(ordered)
    return shortlist(ordered)[:MOST] or list(ordered[:NEAREST])


def write(reports: Sequence[ModelPlan]) -> None:
    """The table on stdout. `fits` stands there where it is not always yes, `tok/s` where one is known."""
    left_out = set[str]()
    if all(report.is_whole for report in reports):
        left_out.add("fits")
    if all(report.tokens_per_s is None for report in reports):
        left_out.add("tok/s")
    kept = [index for index, name in enumerate(_COLUMNS) if name not in left_out]
    rows = [
        (
            *(_row(report)[index] for index in kept),
            *("yes" if ability in report.card.abilities else "" for ability in _ABILITIES.values()),
        )
        for report in reports
    ]
    columns = (*(_COLUMNS[index] for index in kept), *_ABILITIES)
    right = [name for name in columns if name not in ("model", "fits", "class", *_ABILITIES)]
    output.table(columns, rows, right=right, spare=_SPARE)


def footer(reports: Sequence[ModelPlan], of: int) -> list[str]:
    """What has to be said beside the table; `of` so many models."""
    lines = [LEGEND] if any(report.best for report in reports) else []
    if not lines and reports:
        nearest, lacking = reports[0].shown.model, binary(reports[0].shown.lacking)
        lines.append(f"Nothing fits; {nearest} comes nearest and lacks {lacking}.")
    lines += [f"{report.card.name}: {words}." for report in reports if (words := why_cut(report))]
    if of > len(reports):
        lines.append(f"{of - len(reports)} more (older, for one purpose, or too large) with: --all")
    return lines


def why_cut(report: ModelPlan) -> str:
    """What was made smaller, from what, and why; "" for a plan that is as it was asked, or none at all."""
    if not (changed := cut_words(report)):
        return ""
    takes, there = binary(report.asked.total), binary(report.asked.budget)
    return f"{' and '.join(changed)}, for as asked it takes {takes} and {there} are there"


def _row(report: ModelPlan) -> tuple[str, ...]:
    settings, speed = report.shown.settings, report.tokens_per_s
    strength = strength_of(report.card)
    return (
        report.shown.model,
        "no" if report.best is None else "yes" if report.is_whole else "cut",
        count(report.planner.shape.parameters),
        class_of(report.card),
        str(settings.context_window_size),
        "-" if speed is None else f"{speed:.0f}",
        "here" if report.here else binary(report.download_bytes),
        binary(report.shown.total),
        str(report.largest_context or "-"),
        "-" if strength is None else f"{strength:.0%}",
    )


def count(parameters: int) -> str:
    """As names of models have it: 8.2B, 596M."""
    return f"{parameters / 1e9:.1f}B" if parameters >= 0.9995e9 else f"{parameters / 1e6:.0f}M"
