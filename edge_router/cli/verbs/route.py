"""`edge-router route`: the decisions for prompts, without answering them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.piped import piped_input, readable
from edge_router.cli.verbs import traffic
from edge_router.types import Decision, Reason

app = typer.Typer(add_completion=False, rich_markup_mode=None)

SHOWN = 60  # characters of a prompt in the table


@app.command()
def route(
    ctx: typer.Context,
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="Prompts.", show_default=False)
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="auto or router-NAME-THRESHOLD.")
    ] = "auto",
    private: Annotated[bool, typer.Option("--private", help="As for a private question.")] = False,
    caller: Annotated[
        str | None, typer.Option(metavar="NAME", help="As for that caller of the server.")
    ] = None,
    typical: Annotated[
        bool, typer.Option("--typical", help="Ask for typical prompts that ship with it; shown by kind.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="As without a network.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON list of decisions.")] = False,
) -> None:
    """Where prompts would go, and why; no model answers.

    Prompts are arguments, or lines of standard input. --typical shows what share of ordinary prompts, from
    small talk to proofs, goes to which model as things are set.
    """
    session = Session(ctx, json=json)
    if typical and prompts:
        raise typer.BadParameter("--typical brings its own prompts")
    texts = _typical() if typical else [readable(prompt) for prompt in prompts or ()] or _lines()
    config = session.config(offline=offline)
    with session.controller(config) as controller:
        decisions = [controller.route(text, model=model, private=private, caller=caller) for text in texts]
    if typical and not json:
        _show_kinds(decisions)
        missing = any(decision.reason is Reason.STRONG_UNAVAILABLE for decision in decisions)
        if missing and not session.options.quiet:
            traffic.tell(config, session)
    elif json:
        output.write_json([decision.to_dict() for decision in decisions])
    else:
        rows = [_row(text, decision) for text, decision in zip(texts, decisions, strict=True)]
        output.table(("model", "score", "threshold", "reason", "prompt"), rows, right=("score", "threshold"))


def _lines() -> list[str]:
    lines = [line for line in (piped_input(given=False) or "").splitlines() if line.strip()]
    if not lines:
        raise typer.BadParameter(
            "there is no prompt: give it as an argument, or one per line on standard input"
        )
    return lines


def _typical() -> list[str]:
    from edge_router.routing.thresholds.typical import TYPICAL

    return [text for texts in TYPICAL.values() for text in texts]


def _show_kinds(decisions: Sequence[Decision]) -> None:
    """Of each kind of prompts, how many go where; `decisions` are those of `_typical`."""
    from edge_router.routing.thresholds.typical import TYPICAL

    left, rows = iter(decisions), list[tuple[str, ...]]()
    for kind, texts in TYPICAL.items():
        models = [next(left).model for _ in texts]
        rows.append((kind, str(models.count("weak")), str(models.count("strong")), _short(texts[0])))
    weak, n = sum(decision.model == "weak" for decision in decisions), len(decisions)
    rows.append(("all", f"{weak} ({weak / n:.0%})", f"{n - weak} ({1 - weak / n:.0%})", ""))
    output.table(("kind", "weak", "strong", "such as"), rows, right=("weak", "strong"))


def _row(text: str, decision: Decision) -> tuple[str, ...]:
    score, threshold = _share(decision.score), _share(decision.threshold)
    reason = f"{decision.reason} ({decision.rule})" if decision.rule else str(decision.reason)
    model = decision.model if decision.tier_model is None else f"{decision.model} ({decision.tier_model})"
    return (model, score, threshold, reason, _short(text))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
