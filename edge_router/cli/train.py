"""`edge-router train`: a router from the scores of many models, or one adapted to the user's own pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edge_router.cli import output
from edge_router.cli.session import Session

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
    static: Annotated[
        bool,
        typer.Option("--static", help="A table of token vectors instead of an encoder's layers: 0.1 ms."),
    ] = False,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Train the encoder's layers too, not the head alone.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    seed: Annotated[int, typer.Option(help="For what is drawn at random.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="The measures as JSON, as evaluate gives them.")
    ] = False,
) -> None:
    """Train a router, or adapt one to your own two models, and measure it.

    Adapting takes prompts with weak_score and strong_score, a few hundred or more, and seconds. Without
    --output the router is written where it is found by its name. Needs: pip install 'edge-router[train]'.
    """
    session = Session(ctx, json=json)
    if (pool is None) == (adapt is None):
        raise typer.BadParameter("say what to learn from: POOL or --adapt FILE")
    folder = folder or _own_folder(session, name)
    if adapt is not None:
        _adapt(session, adapt, base, folder, name, strong_share, seed)
    elif pool is not None:
        from edge_router.cli.evaluate import show
        from edge_router.compile.train_router import FineTuning, TrainSettings, train

        settings = TrainSettings(
            pool, folder, name, tuple(evaluation or ()), strong_share=strong_share, threads=threads, seed=seed
        )
        settings = replace(
            settings,
            layers=() if static else settings.layers,
            fine_tuning=FineTuning() if fine_tune else None,
        )
        done = train(settings, session.progress, paths=session.paths)
        output.say(f"Written to {folder / name}, threshold {done.card.default_threshold:.6g}.")
        if done.evaluation is not None:
            show(done.evaluation, json=json)


def _adapt(
    session: Session, file: Path, base: str, folder: Path, name: str, strong_share: float, seed: int
) -> None:
    from edge_router.cli.evaluate import show
    from edge_router.compile.training.adapt import AdaptSettings, adapt
    from edge_router.evaluation import Evaluation
    from edge_router.labels import read_labelled
    from edge_router.routers import graph_cards

    card = graph_cards(session.paths.routers).get(base)()
    data = read_labelled(file)
    for warning in data.warnings:
        output.say(f"warning: {warning}", style="yellow")
    done = adapt(data, AdaptSettings(card, folder, name, strong_share, seed=seed), session.progress)
    output.say(
        f"Written to {folder / name}, threshold {done.card.default_threshold:.6g}. "
        f"{name} is measured on prompts that it was not fitted on (cross-validation)."
    )
    show(Evaluation({data.name: {base: done.before, name: done.after}}), json=session.json)


def _own_folder(session: Session, name: str) -> Path:
    """Where the user's routers lie; one there must not take the name of one that ships."""
    from edge_router.routers import routers

    own = session.paths.routers
    if name in routers(own) and not (own / name).is_dir():
        raise typer.BadParameter(f"{name!r} is the name of a router that ships; choose another --name")
    return own
