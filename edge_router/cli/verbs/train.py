"""`edge-router train`: a router from the scores of many models, or one adapted to the user's own pair."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output

if TYPE_CHECKING:
    from edge_router.catalog import RouterCard
    from edge_router.compile.train_router import TrainSettings
    from edge_router.compile.training.adapt import AdaptSettings
    from edge_router.compile.training.curve import CurvePoint
    from edge_router.routing.evaluation import Evaluation
    from edge_router.routing.labels.rows import Labelled


class RouterKind(StrEnum):
    """What a router is; `training.settings.Kind` as an option."""

    mf = "mf"
    bert = "bert"
    sw_ranking = "sw_ranking"
    static = "static"


class LeaveOut(StrEnum):
    source = "source"
    subset = "subset"


app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def train(
    ctx: typer.Context,
    pool: Annotated[
        Path | None,
        typer.Argument(metavar="[POOL]", help="A .parquet file: prompts and scores of many models."),
    ] = None,
    adapt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead: your own labelled prompts, as evaluate reads them."),
    ] = None,
    base: Annotated[str, typer.Option(metavar="NAME", help="The router that is adapted.")] = "mf",
    only: Annotated[
        str | None,
        typer.Option(metavar="COLUMN=VALUE", help="Of that file only these rows: benchmark=gsm8k."),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --adapt: draw what more labels bring, APGR over labels."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="FOLDER", help="Gets a folder named as the router."),
    ] = None,
    name: Annotated[str, typer.Option(help="The router's name.")] = "mine",
    strong_share: Annotated[
        float, typer.Option(min=0, max=1, help="What the default threshold sends to the strong model.")
    ] = 0.5,
    evaluation: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Labelled prompts to measure it on; repeatable.")
    ] = None,
    kind: Annotated[
        RouterKind, typer.Option(help="What is trained on a pool; see models/routers/LOG.md.")
    ] = RouterKind.mf,
    leave_out: Annotated[
        LeaveOut | None,
        typer.Option(help="Write nothing; say what it is worth on each part of POOL when not fitted on it."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    seed: Annotated[int, typer.Option(help="For what is drawn at random.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="The measures as JSON, as evaluate gives them.")
    ] = False,
) -> None:
    """Train a router, or adapt one to your own two models, and measure it.

    Adapting takes prompts with weak_score and strong_score, 30 or more, better a few hundred, and seconds;
    it needs pip install 'edge-router[adapt]', and training on a POOL 'edge-router[train]' with torch. Without
    --output the router is written where it is found by its name.
    """
    session = Session(ctx, json=json)
    if (pool is None) == (adapt is None):
        raise typer.BadParameter("say what to learn from: POOL or --adapt FILE")
    if adapt is None and (curve or only):
        raise typer.BadParameter("--curve and --only belong to --adapt FILE")
    if adapt is not None and leave_out:
        raise typer.BadParameter("--leave-out belongs to POOL")
    folder = folder or own_folder(session, name)
    if adapt is not None:
        _adapt(session, _labels(adapt, only), base, folder, name, strong_share, seed, curve)
    elif pool is not None:
        from edge_router.cli.verbs.evaluate import show
        from edge_router.compile.train_router import TrainSettings, train

        settings = TrainSettings(
            pool,
            folder,
            name,
            kind.value,
            evaluation=tuple(evaluation or ()),
            strong_share=strong_share,
            threads=threads,
            seed=seed,
        )
        if leave_out is not None:
            _tell_transfer(session, settings, leave_out)
            return
        done = train(settings, session.progress, paths=session.paths)
        output.say(f"Written to {folder / name}, threshold {done.card.default_threshold:.6g}.")
        if done.evaluation is not None:
            show(done.evaluation, json=json)


def _tell_transfer(session: Session, settings: TrainSettings, by: LeaveOut) -> None:
    from edge_router.compile.train_router import measure_transfer

    found = measure_transfer(settings, by.value, session.progress, paths=session.paths)
    if session.json:
        output.write_json({name: asdict(one) for name, one in found.items()})
        return
    columns = ("left out", "n", "APGR", "within subsets", "easier ones", "within those", "mean")
    rows = [
        (
            name,
            f"{one.n:,}",
            *(
                "-" if value is None else f"{value:.3f}"
                for value in (one.whole, one.within, one.easy_whole, one.easy_within, one.mean)
            ),
        )
        for name, one in found.items()
    ]
    means = [one.mean for one in found.values() if one.mean is not None]
    if means:
        rows.append(("mean", "", "", "", "", "", f"{sum(means) / len(means):.3f}"))
    output.table(columns, rows, right=columns[1:])


def _labels(file: Path, only: str | None) -> Labelled:
    from edge_router.routing.labels.reading import read_labelled

    data = read_labelled(file)
    for warning in data.warnings:
        output.say(f"warning: {warning}", style="yellow")
    if only is None:
        return data
    column, equals, value = only.partition("=")
    if not equals:
        raise typer.BadParameter(f"--only {only}: write COLUMN=VALUE, such as benchmark=gsm8k")
    return data.only(column, value)


def _adapt(
    session: Session,
    data: Labelled,
    base: str,
    folder: Path,
    name: str,
    strong_share: float,
    seed: int,
    curve: Path | None,
) -> None:
    from edge_router.cli.verbs.evaluate import check_picture, show
    from edge_router.compile.training.adapt import AdaptSettings
    from edge_router.routing.routers import graph_cards

    check_picture(curve)
    card = graph_cards(session.paths.routers).get(base)()
    measured = adapt_to(session, data, AdaptSettings(card, folder, name, strong_share, seed=seed))
    if curve is None:
        show(measured, json=session.json)
        return
    points = _curve(session, data, card, seed, curve)
    if session.json:
        learnt = [point.to_dict() for point in points]
        output.write_json({**measured.to_dict(), "learning_curve": learnt})
        return
    show(measured, json=False)
    rows = [(f"{point.labels:,}", f"{point.apgr:.3f}", f"{point.spread:.3f}") for point in points]
    output.write("\n")
    output.table(("labels", "APGR", "spread"), rows, right=("labels", "APGR", "spread"))


def adapt_to(session: Session, data: Labelled, settings: AdaptSettings) -> Evaluation:
    """Writes the router; what the base and the new one are worth on these prompts."""
    from edge_router.compile.training.adapt import adapt
    from edge_router.routing.evaluation import Evaluation

    done, name = adapt(data, settings, session.progress), settings.name
    output.say(
        f"Written to {settings.output / name}, threshold {done.card.default_threshold:.6g}. "
        f"{name} is measured on prompts that it was not fitted on (cross-validation)."
    )
    return Evaluation({data.name: {settings.base.name: done.before, name: done.after}})


def _curve(
    session: Session, data: Labelled, card: RouterCard, seed: int, file: Path
) -> tuple[CurvePoint, ...]:
    """Drawn into `file` too; the base router is a level line, for a logarithmic axis has no 0."""
    from edge_router.cli.terminal.chart import Point, chart
    from edge_router.cli.verbs.evaluate import write_picture
    from edge_router.compile.training.curve import learning_curve

    found = learning_curve(data, card, seed=seed, progress=session.progress)
    first, *rest = found
    adapted = [Point(p.labels, p.apgr, p.apgr - p.spread, p.apgr + p.spread) for p in rest]
    ends = [Point(p.x, first.apgr) for p in (adapted[0], adapted[-1])] if adapted else []
    series = {"adapted": adapted, f"{card.name}, not adapted": ends}
    picture = chart(f"{data.name}: what labels bring", "labelled prompts", "APGR", series)
    write_picture(file, picture, "The learning curve is")
    return found


def own_folder(session: Session, name: str) -> Path:
    """Where the user's routers lie; one there must not take the name of one that ships."""
    from edge_router.routing.routers import routers

    own = session.paths.routers
    if name in routers(own) and not (own / name).is_dir():
        raise typer.BadParameter(f"{name!r} is the name of a router that ships; choose another --name")
    return own
