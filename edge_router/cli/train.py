"""`edge-router train`: a router from prompts and the scores that models got on them."""

from __future__ import annotations

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
        Path, typer.Argument(metavar="POOL", help="A .parquet file: prompts and scores of models.")
    ],
    folder: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", help="Gets a folder named as the router.")
    ],
    name: Annotated[str, typer.Option(help="The router's name.")] = "mf",
    evaluation: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Labelled prompts to measure it on; repeatable.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
    seed: Annotated[int, typer.Option(help="For what is drawn at random.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="The measures as JSON, as evaluate gives them.")
    ] = False,
) -> None:
    """Train a router and measure it.

    Writes FOLDER/NAME with the graph, the tokenizer and the card. Needs: pip install 'edge-router[train]'.
    """
    session = Session(ctx, json=json)
    from edge_router.cli.evaluate import show
    from edge_router.compile.train_router import TrainSettings, train

    settings = TrainSettings(pool, folder, name, tuple(evaluation or ()), threads=threads, seed=seed)
    done = train(settings, session.progress, paths=session.paths)
    output.say(f"Written to {folder / name}, threshold {done.card.default_threshold:.6g}.")
    if done.evaluation is not None:
        show(done.evaluation, json=json)
