"""`edge-router label`: what both of your models make of your own prompts, for adapting a router to them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.chat.building import make_ready
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.sentences import quoted

if TYPE_CHECKING:
    from edge_router.labelling.label_files import LabelFile
    from edge_router.routing.evaluation import Evaluation

app = typer.Typer(add_completion=False, rich_markup_mode=None)

BASE = "mf"  # the router that is adapted
ENOUGH = 300  # labels from which adapting has been seen to help


class JudgeChoice(StrEnum):
    EXACT = "exact"
    CHOICE = "choice"
    STRONG = "strong"


@app.command()
def label(
    ctx: typer.Context,
    prompts: Annotated[
        Path, typer.Argument(metavar="PROMPTS", help=".txt with a prompt per line, .jsonl, .csv or .parquet.")
    ],
    judge: Annotated[
        JudgeChoice,
        typer.Option(help="exact or choice: against the column of right answers; strong: it compares both."),
    ],
    target: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE.jsonl", help="Default: beside PROMPTS, .labels.jsonl."),
    ] = None,
    answers: Annotated[str, typer.Option(metavar="COLUMN", help="Where the right answers are.")] = "answer",
    budget: Annotated[
        float | None,
        typer.Option(metavar="MONEY", min=0, help="Stop before the whole file costs more; needs prices."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N prompts.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The longest answer, in tokens.")] = 512,
    adapt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Then adapt the router mf to the labels, under this name."),
    ] = None,
    strong_share: Annotated[
        float, typer.Option(min=0, max=1, help="With --adapt: what its threshold sends to the strong model.")
    ] = 0.5,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what is missing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The sums as a JSON object.")] = False,
) -> None:
    """Let both models answer your own prompts, judge the answers, and write what adapting a router needs.

    All prompts go to the strong model. Ctrl-C loses nothing: the same command goes on. Prices are
    strong.price_in and strong.price_out, of a million tokens. A strong model that judges tends to like its
    own answers; where right answers are known, exact and choice are the better judges.
    """
    session = Session(ctx, json=json)
    config = session.config()
    from edge_router.labelling.label_files import InvalidLabelling, LabelRun
    from edge_router.labelling.pairs import read_output

    try:
        run = LabelRun.of(
            prompts,
            judge.value,
            config,
            output=target,
            answers=answers,
            budget=budget,
            limit=limit,
            max_tokens=max_tokens,
        )
    except InvalidLabelling as error:
        raise typer.BadParameter(str(error)) from error
    if adapt is not None:
        from edge_router.cli.verbs.train import own_folder

        own_folder(session, adapt)  # refused now, not after hours
    make_ready(session, config, yes=yes)
    try:
        with session.controller(config) as controller:
            found = run.done_by(controller, session.progress)
    except KeyboardInterrupt:
        file = run.how.output
        count = len(list(read_output(file)))
        output.say(f"{count} of {len(run.tasks)} prompts are in {file}; the same command goes on from there.")
        raise
    adapted = None if adapt is None else _adapt(session, found.output, adapt, strong_share)
    _tell(found, json=json, adapted=adapted)


def _adapt(session: Session, file: Path, name: str, strong_share: float) -> Evaluation:
    from edge_router.cli.verbs.train import adapt_to, own_folder
    from edge_router.compile.training.adapt import AdaptSettings
    from edge_router.routing.labels.reading import read_labelled
    from edge_router.routing.routers import graph_cards

    base, folder = graph_cards(session.paths.routers).get(BASE)(), own_folder(session, name)
    return adapt_to(session, read_labelled(file), AdaptSettings(base, folder, name, strong_share))


def _tell(labelled: LabelFile, *, json: bool, adapted: Evaluation | None) -> None:
    found, file = labelled.found, labelled.output
    for line in found.problems:
        output.say(f"warning: no label for {line}", style="yellow")
    if found.left:
        output.say(
            f"{found.left} prompts are left: the next one could cost more than there is.", style="yellow"
        )
    sums = found.to_dict()
    if json:
        measured = {"adapted": adapted.to_dict()} if adapted is not None else {}
        output.write_json({**labelled.to_dict(), **measured})
        return
    output.write(f"{file}\n")
    cost = f", {found.cost:.4f} spent" if labelled.priced else ""
    weak, strong = sums["weak_quality"], sums["strong_quality"]
    count = len(found.scores)
    output.say(f"{count} labels, {found.new} prompts in this run: weak {weak}, strong {strong}{cost}.")
    if adapted is not None:
        from edge_router.cli.verbs.evaluate import show

        show(adapted, json=False)
        return
    if count < ENOUGH:
        output.say(f"Adapting begins to pay at about {ENOUGH} labels.", style="dim")
    output.say(
        f"Adapt a router to them:    edge-router train --adapt {quoted(file)} --name mine", style="dim"
    )
    calibrate = f"edge-router calibrate --router mine --strong-share 0.3 --prompts {quoted(file)}"
    output.say(f"Then choose its threshold: {calibrate}", style="dim")
