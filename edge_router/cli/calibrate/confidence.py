"""`edge-router calibrate --confidence`: how sure the weak model has to be of an answer that is shown."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge_router.cli.chat.building import make_ready
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.stderr_redirect import hushed
from edge_router.config.settings import Config

if TYPE_CHECKING:
    from edge_router.routing.confidence.calibrating import Calibrated
    from edge_router.routing.confidence.measure import Worth

QUESTIONS, TOKENS = 660, 8
COLUMNS = ("signal", "AUROC", "95 % interval", "other kinds", "APGR", "95 % interval")


def check_options(*, ledger: bool, tokens: int) -> None:
    """Raises for what does not go together."""
    from edge_router.routing.confidence.asking import TOKENS as MOST

    if ledger:
        raise typer.BadParameter("the ledger has no known answers; take --prompts FILE, or neither")
    if tokens > MOST:
        raise typer.BadParameter(f"--tokens can be {MOST} at most")


def calibrate_confidence(
    session: Session,
    config: Config,
    *,
    strong_share: float,
    prompts: Path | None,
    answers: str,
    count: int,
    tokens: int,
    yes: bool,
) -> None:
    """On `count` questions that are made up, or on those in `prompts`."""
    from edge_router.labelling.weak_calibrations import confidence_tasks
    from edge_router.routing.confidence.calibrating import answers_file, calibrate

    tasks, longest = confidence_tasks(prompts, answers, count)
    make_ready(session, config, yes=yes)
    with closing(session.pool(config)) as loaded, hushed():
        engine = loaded.weak()
        try:
            found = calibrate(
                engine,
                loaded.router(None),
                tasks,
                session.paths,
                strong_share=strong_share,
                tokens=tokens,
                longest=longest,
                progress=session.progress,
            )
        except KeyboardInterrupt:
            file = answers_file(engine, session.paths, longest)
            output.say(f"What was answered is in {file}; the same command goes on from there.")
            raise
    _tell(found, json=session.json)


def _tell(found: Calibrated, *, json: bool) -> None:
    chosen = found.chosen
    for warning in chosen.warnings:
        output.say(f"warning: {warning}", style="yellow")
    if json:
        output.write_json(found.to_dict())
        return
    output.table(
        COLUMNS, [_row(name, worth) for name, worth in found.signals.items()], right=("AUROC", "APGR")
    )
    output.say(
        f"score: of the router {found.router}; said: mean and lowest log probability of the first "
        f"{found.tokens} tokens; probe: what the last hidden state tells before them.",
        style="dim",
    )
    output.say(
        f"{found.model} gave {found.right:.1%} of {chosen.n} answers right. weak.min_confidence="
        f"{found.min_confidence:.6g} escalates {chosen.share:.1%} of them, {chosen.low:.1%} to "
        f"{chosen.high:.1%} of others like them; other traffic is escalated as it comes.",
        style="dim",
    )


def _row(name: str, worth: Worth) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    return (
        name,
        number(worth.auroc),
        f"{number(worth.auroc_low)} to {number(worth.auroc_high)}",
        number(worth.other_kinds),
        number(worth.apgr),
        f"{number(worth.apgr_low)} to {number(worth.apgr_high)}",
    )
