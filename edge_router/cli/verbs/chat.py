"""`edge-router chat`: one answer, or a conversation."""

from __future__ import annotations

import sys
import threading
from typing import Annotated

import typer

from edge_router.cli import output
from edge_router.cli.session import Session

app = typer.Typer(add_completion=False, rich_markup_mode=None)

SLOW_INPUT_S = 2.0  # a pipe that stays open looks like a program that hangs


@app.command()
def chat(
    ctx: typer.Context,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT", help="The question. Without it, a conversation begins.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="auto, weak, strong, router-mf-0.5, a model card, a folder, a file or hf:OWNER/REPO.",
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="The system message.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 is greedy; the model's own without it.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling, 0 to 1.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer, in tokens.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, the same answer.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Never leave this machine.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network at all.")] = False,
    device: Annotated[str | None, typer.Option(help="Where the weak model runs.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the weak model.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what is missing.")] = False,
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--no-thinking",
            help="Let the weak model think, or hide all thoughts. Without: weak.thinking.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object with the decision.")] = False,
) -> None:
    """One answer, or a conversation.

    The answer goes to stdout, thoughts and everything else to stderr. What is piped in is added to the
    prompt: cat notes.txt | edge-router chat "Summarise this."
    """
    session = Session(ctx, json=json)
    config = session.config(offline=offline, weak__device=device, weak__threads=threads)
    fields = {
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens,
        "seed": seed,
        "private": private or None,
    }
    question = readable(" ".join(prompt)) if prompt else None  # words without quotes around them
    text = joined(question, piped_input(given=question is not None))
    if text is None and json:
        raise typer.BadParameter("--json needs a prompt, as an argument or piped in")
    if text is not None and not text.strip():
        raise typer.BadParameter("the prompt is empty")
    from edge_router.chat.request import ReasoningOptions
    from edge_router.cli.speaker import Speaker

    reasoning = ReasoningOptions(enabled=thinking or None, shown=thinking is not False)
    with Speaker(session, config, yes=yes, fields=fields, reasoning=reasoning) as speaker:
        speaker.use(model)
        if text is not None:
            speaker.once(text, system)
        else:
            from edge_router.cli.verbs.conversation import Conversation

            Conversation(speaker, system=system).run()


def readable(argument: str) -> str:
    """An argument that was not UTF-8 comes as lone surrogates, which no tokenizer takes."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def joined(prompt: str | None, piped: str | None) -> str | None:
    """The question first, then what it is about."""
    if prompt is None or not piped:
        return prompt if prompt is not None else piped
    return f"{prompt}\n\n{piped}"


def piped_input(*, given: bool) -> str | None:
    """All of stdin, unless it is a terminal. `given`: there is a prompt, so nothing piped is no mistake."""
    if sys.stdin is None or sys.stdin.closed:  # a program without one
        return None if given else ""
    if sys.stdin.isatty():
        return None
    note = threading.Timer(
        SLOW_INPUT_S, output.say, ["reading standard input until it ends (Ctrl-D, or < /dev/null)"]
    )
    note.daemon = True
    note.start()
    try:
        text = sys.stdin.read()
    finally:
        note.cancel()
    return text.strip("\n") if text.strip() or not given else None
