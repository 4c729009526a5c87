"""`edge-router calibrate`: the threshold that sends a given share of your traffic to the strong model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.calibrate.confidence import QUESTIONS, TOKENS, calibrate_confidence, check_options
from edge_router.cli.calibrate.similarity import calibrate_cache
from edge_router.cli.calibrate.tiers import calibrate_tiers, tell
from edge_router.cli.calibrate.tool_calling import CASES, calibrate_tools
from edge_router.cli.calibrate.typed_questions import calibrate_decisions
from edge_router.cli.session import Session, choose_model
from edge_router.cli.terminal import output
from edge_router.config.settings import Config

if TYPE_CHECKING:
    from edge_router.api.calibrations import CalibratedThreshold, CalibratedTiers
    from edge_router.routing.thresholds.calibration import Calibration

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def calibrate(
    ctx: typer.Context,
    strong_share: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0, max=1, help="Of the calls, for the strong model; 0 to 1."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A sample: .txt with a prompt per line, .jsonl, .csv or .parquet."),
    ] = None,
    ledger: Annotated[bool, typer.Option("--ledger", help="The scores of what you asked so far.")] = False,
    last: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of the ledger only the last N scores.")
    ] = None,
    router: Annotated[str | None, typer.Option(metavar="NAME", help="Another router.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Another weak model than the configured one."),
    ] = None,
    tier_shares: Annotated[
        str | None,
        typer.Option(metavar="SHARES", help="Of more than two models: weak=0.6,NAME=0.3,NAME=0.1."),
    ] = None,
    tier_price: Annotated[
        float | None,
        typer.Option(metavar="MONEY", min=0, help="Of the tiers that are set, for 1,000 queries."),
    ] = None,
    confidence: Annotated[
        bool,
        typer.Option(
            "--confidence", help="Of the weak model's answers instead, by how unsure it is of them."
        ),
    ] = False,
    answers: Annotated[
        str, typer.Option(metavar="COLUMN", help="With --confidence --prompts: where the right answers are.")
    ] = "answer",
    questions: Annotated[
        int, typer.Option(metavar="N", min=100, help="With --confidence, without --prompts: how many to ask.")
    ] = QUESTIONS,
    tokens: Annotated[
        int, typer.Option(metavar="K", min=0, help="With --confidence: held back of an answer; 0 to 16.")
    ] = TOKENS,
    tools: Annotated[
        bool, typer.Option("--tools", help="Of the weak model's calls of tools instead: how many are right.")
    ] = False,
    decisions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of typed questions instead: .jsonl, with the right answers."),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", min=0.001, max=0.5, help="With --decisions: wrong ones that stay. Default: 0.05."
        ),
    ] = None,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache", help="When a question counts as nearly the same (response_cache.similarity)."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what is missing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """The threshold that sends a given share of the traffic to the strong model.

    It only holds for traffic like the sample, so take your own prompts or the ledger. What the
    sample's scores looked like is remembered: once router.threshold is set to what is found here, doctor and
    serve say when the traffic no longer looks like it.

    With --tier-shares the thresholds of several models are found together, each for its share of the calls;
    with --tier-price those at which the tiers that are set cost so much, in the proportions that they have.

    With --confidence the weak model answers questions with known answers, your own or ones that are made up,
    and what tells its right from its wrong answers is learnt: the log probabilities of its first tokens and a
    probe on its last hidden state. Nothing is escalated for that before weak.min_confidence is set.

    With --tools it answers questions with tools that are made up: is the right one called, with the right
    arguments, and none where none fits? What is found is kept with its weights; a model that is good enough
    is asked to call tools from then on (weak.tools).

    With --decisions it answers typed questions with known answers. Each line of the file has a state,
    questions as /v1/systemone takes them, and answers by their names; or a state, one question's type,
    instructions and criteria, and its answer: true or false, a label, a level or its number from 0. How sure
    it must be for at most --max-error of the answers that stay to be wrong is kept with its weights, by type;
    the others go to the strong model.

    With --cache your own prompts are wrapped in politeness and changed in a word: from how near on is a
    question answered as another was? The ledger has prompts with ledger.store_prompts only.
    """
    session = Session(ctx, json=json)
    config, _ = choose_model(model, session.config(router__name=router), ())
    if decisions is not None or max_error is not None:
        calibrate_decisions(session, config, decisions, max_error=max_error, yes=yes)
        return
    if cache:
        calibrate_cache(session, config, prompts=prompts, ledger=ledger)
        return
    if tools:
        calibrate_tools(session, config, count=CASES, yes=yes)
        return
    by_tiers = tier_shares is not None or tier_price is not None
    if by_tiers and (confidence or strong_share is not None or (tier_shares and tier_price is not None)):
        raise typer.BadParameter("take one of --strong-share, --tier-shares and --tier-price")
    if strong_share is None and not by_tiers:
        raise typer.BadParameter("say which share of the calls is for the strong model: --strong-share 0.3")
    if confidence and strong_share is not None:
        check_options(ledger=ledger, tokens=tokens)
        calibrate_confidence(
            session,
            config,
            strong_share=strong_share,
            prompts=prompts,
            answers=answers,
            count=questions,
            tokens=tokens,
            yes=yes,
        )
        return
    if (prompts is not None) == ledger:
        raise typer.BadParameter("say where the sample is: --prompts FILE or --ledger")
    from edge_router.ledger import NothingRecorded

    try:
        if strong_share is None:
            _tell(calibrate_tiers(session, config, prompts, last, tier_shares, tier_price), session)
        else:
            _tell(_by_share(session, config, prompts, last, strong_share), session)
    except NothingRecorded as error:
        filling = session.to_fill_the_ledger(config)
        raise typer.BadParameter(f"{error}; take --prompts FILE, or {filling}") from error


def _by_share(
    session: Session, config: Config, prompts: Path | None, last: int | None, strong_share: float
) -> CalibratedThreshold:
    from edge_router.api import calibrations

    return calibrations.calibrate(
        strong_share, prompts, config, last=last, paths=session.paths, progress=session.progress
    )


def _tell(calibrated: CalibratedThreshold | CalibratedTiers, session: Session) -> None:
    from edge_router.routing.thresholds.calibration import Calibration

    if calibrated.problem is not None:
        output.say(f"the sample is not remembered: {calibrated.problem}", style="dim")
    for warning in calibrated.found.warnings:
        output.say(f"warning: {warning}", style="yellow")
    if session.json:
        output.write_json(calibrated.to_dict())
    elif isinstance(calibrated.found, Calibration):
        _tell_threshold(calibrated.router, calibrated.found, session)
    else:
        tell(calibrated.found, calibrated.router)


def _tell_threshold(name: str, found: Calibration, session: Session) -> None:
    """On stdout the threshold, on stderr what it means."""
    value = f"{found.threshold:.6g}"
    output.write(f"{value}\n")
    output.say(
        f"{name} sends {found.share:.1%} of {found.n} prompts to the strong model from there on, and "
        f"{found.low:.1%} to {found.high:.1%} of others like them; ask router-{name}-{value}, or "
        f"set it: {session.command('config', 'set', f'router.threshold={value}')}",
        style="dim",
    )
