"""One question of `edge-router chat`, or a conversation: what was typed and piped in, and asking it."""

from __future__ import annotations

import sys
import threading

from edge_router.cli import output
from edge_router.cli.options import Context
from edge_router.cli.session import Session
from edge_router.records import dataclass

SLOW_INPUT_S = 2.0  # a pipe that stays open looks like a program that hangs


@dataclass(frozen=True, slots=True)
class Question:
    """What `chat` takes, by the names of its parameters."""

    prompt: tuple[str, ...] = ()
    model: str | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    private: bool = False
    offline: bool = False
    device: str | None = None
    threads: int | None = None
    yes: bool = False
    thinking: bool | None = None
    json: bool = False


def ask(ctx: Context, asked: Question) -> None:
    """Shows the answer, or holds a conversation where there is no prompt. Raises `EdgeRouterError`."""
    session = Session(ctx, json=asked.json)
    config = session.config(offline=asked.offline, weak__device=asked.device, weak__threads=asked.threads)
    fields = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "max_tokens": asked.max_tokens,
        "seed": asked.seed,
        "private": asked.private or None,
    }
    question = readable(" ".join(asked.prompt)) if asked.prompt else None  # words without quotes around them
    text = joined(question, piped_input(given=question is not None))
    if text is None and asked.json:
        raise _wrong("--json needs a prompt, as an argument or piped in")
    if text is not None and not text.strip():
        raise _wrong("the prompt is empty")
    from edge_router.chat.request import ReasoningOptions
    from edge_router.cli.speaker import Speaker

    reasoning = ReasoningOptions(enabled=asked.thinking or None, shown=asked.thinking is not False)
    with Speaker(session, config, yes=asked.yes, fields=fields, reasoning=reasoning) as speaker:
        speaker.use(asked.model)
        if text is not None:
            speaker.once(text, asked.system)
        else:
            from edge_router.cli.verbs.conversation import Conversation

            Conversation(speaker, system=asked.system).run()


def _wrong(reason: str) -> Exception:
    import typer

    return typer.BadParameter(reason)


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
