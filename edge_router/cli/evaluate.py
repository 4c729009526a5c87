"""`edge-router evaluate`: how good routers are on prompts for which both models' answers were judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli import output
from edge_router.cli.session import Session

if TYPE_CHECKING:
    from edge_router.evaluation import Evaluation

app = typer.Typer(add_completion=False, rich_markup_mode=None)

COLUMNS = ("benchmark", "router", "n", "APGR", "95 % interval", "CPT 20 %", "CPT 50 %", "CPT 80 %")


@app.command()
def evaluate(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help=".parquet, .csv or .jsonl with prompt, weak_score, strong_score; benchmark if any.",
        ),
    ],
    router: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A router; repeatable. Default: the configured one."),
    ] = None,
    by: Annotated[str, typer.Option(metavar="COLUMN", help="What the rows are grouped by.")] = "benchmark",
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the curves.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """How good routers are on labelled prompts: APGR, CPT and the curve.

    Beside each router stand the controls: length, random, and an oracle that knows both answers.
    """
    session = Session(ctx, json=json)
    config = session.config()
    from edge_router import evaluation, plugins
    from edge_router.labels import read_labelled
    from edge_router.routers import routers

    known = plugins.extend(routers(), plugins.ROUTERS)
    names = dict.fromkeys([*(router or [config.router.name]), "length"])
    scorers = {name: known.get(name)(threads=config.router.threads).score_texts for name in names}
    groups: dict[str, Mapping[str, evaluation.Metrics]] = {}
    warnings: list[str] = []
    for file in files:
        with session.progress.step(f"evaluate on {file.name}"):
            found = evaluation.evaluate(read_labelled(file), scorers, by=by)
        groups |= found.groups
        warnings += found.warnings
    whole = evaluation.Evaluation(groups, tuple(warnings))
    show(whole, json=json)
    if plot is not None:
        from edge_router.cli.plot import svg
        from edge_router.disk import storage_errors, write_text

        with storage_errors(plot.parent):
            write_text(plot, svg(whole))
        output.say(f"The curves are in {plot}.")


def show(evaluation: Evaluation, *, json: bool) -> None:
    """To stdout; the warnings to stderr."""
    for warning in evaluation.warnings:
        output.say(f"warning: {warning}", style="yellow")
    if json:
        output.write_json(evaluation.to_dict())
        return
    rows = [
        (
            group,
            name,
            str(metrics.n),
            _number(metrics.apgr),
            f"{_number(metrics.apgr_low)} to {_number(metrics.apgr_high)}",
            *(_share(value) for value in (metrics.cpt20, metrics.cpt50, metrics.cpt80)),
        )
        for group, found in evaluation.groups.items()
        for name, metrics in found.items()
    ]
    output.table(COLUMNS, rows, right=("n", "APGR", "CPT 20 %", "CPT 50 %", "CPT 80 %"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
