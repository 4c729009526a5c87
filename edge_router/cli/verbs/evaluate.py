"""`edge-router evaluate`: how good routers are on prompts for which both models' answers were judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal import picture as pictures

if TYPE_CHECKING:
    from edge_router.cli.terminal.picture import Picture
    from edge_router.routing.evaluation import Evaluation

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
    by: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="What the rows are grouped by; several with commas."),
    ] = "benchmark",
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="Only N prompts of each group: for routers that take long."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves: .svg or .png.")] = None,
    latency: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Time the routers too; draw APGR over milliseconds."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """How good routers are on labelled prompts: APGR, CPT and the curve.

    Beside each router stand the controls: length, random, and an oracle that knows both answers. Pictures
    are SVG files, or PNG with: pip install 'edge-router[plot]'.
    """
    session = Session(ctx, json=json)
    config = session.config()
    for picture in (plot, latency):
        check_picture(picture)
    from edge_router.bench import evaluations

    found = evaluations.evaluate(
        files,
        config,
        routers=router or (),
        by=by,
        sample=sample,
        latency=latency is not None,
        paths=session.paths,
        progress=session.progress,
    )
    show(found.found, json=json)
    if plot is not None:
        from edge_router.cli.verbs.plot import curves

        write_picture(plot, curves(found.found), "The curves are")
    if latency is not None:
        from edge_router.cli.terminal.chart import latency_chart

        for name, times in found.times.items():
            output.say(
                f"{name}: p50 {times.p50:.2f} ms, p95 {times.p95:.2f} ms, {times.n} prompts", style="dim"
            )
        medians = {name: times.p50 for name, times in found.times.items()}
        write_picture(latency, latency_chart(found.found, medians), "APGR over latency is")


def check_picture(file: Path | None) -> None:
    """Before any work is done for it."""
    if file is None:
        return
    try:
        pictures.check(file)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def write_picture(file: Path, picture: Picture, what: str) -> None:
    pictures.write(picture, file)
    output.say(f"{what} in {file}.")


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
