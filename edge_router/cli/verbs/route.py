"""`edge-router route`: the decisions for prompts, without answering them."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.cli import output
from edge_router.cli.session import Session
from edge_router.cli.verbs.chat import piped_input, readable
from edge_router.types import Decision

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
    offline: Annotated[bool, typer.Option("--offline", help="As without a network.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON list of decisions.")] = False,
) -> None:
    """Where prompts would go, and why; no model answers.

    Prompts are arguments, or lines of standard input.
    """
    session = Session(ctx, json=json)
    texts = [readable(prompt) or "" for prompt in prompts or ()] or _lines()
    with session.controller(session.config(offline=offline)) as controller:
        decisions = [controller.route(text, model=model, private=private) for text in texts]
    if json:
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


def _row(text: str, decision: Decision) -> tuple[str, ...]:
    line = " ".join(text.split())
    shown = line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
    return (decision.model, _share(decision.score), _share(decision.threshold), str(decision.reason), shown)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
