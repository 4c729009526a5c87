"""One question of `edge-router chat`, or a conversation: what was typed and piped in, and asking it."""

from __future__ import annotations

from edge_router.cli.options import Context
from edge_router.cli.session import Session
from edge_router.cli.terminal.piped import joined, piped_input, readable
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class ChatQuestion:
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
    keep: bool = False
    resume: str | None = None


def ask(ctx: Context, asked: ChatQuestion) -> None:
    """Shows the answer, or holds a conversation where there is no prompt. Raises `EdgeRouterError`."""
    session = Session(ctx, json=asked.json)
    config = session.config(offline=asked.offline, weak__device=asked.device, weak__threads=asked.threads)
    question = readable(" ".join(asked.prompt)) if asked.prompt else None  # words without quotes around them
    text = joined(question, piped_input(given=question is not None))
    if text is None and asked.json:
        raise _wrong("--json needs a prompt, as an argument or piped in")
    if text is not None and not text.strip():
        raise _wrong("the prompt is empty: give it as an argument, or on standard input")
    from edge_router.chat.request import ReasoningOptions
    from edge_router.cli.chat.speaker import Speaker

    reasoning = ReasoningOptions(enabled=asked.thinking or None, shown=asked.thinking is not False)
    with Speaker(session, config, yes=asked.yes, fields=fields_of(asked), reasoning=reasoning) as speaker:
        speaker.use(asked.model)
        if text is not None and not asked.keep and asked.resume is None:
            speaker.once(text, asked.system)
        else:
            from edge_router.cli.verbs.chat_loop import converse

            converse(speaker, session, asked, text)


def fields_of(asked: ChatQuestion) -> dict[str, object]:
    """Of the request, by OpenAI's names."""
    return {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "max_tokens": asked.max_tokens,
        "seed": asked.seed,
        "private": asked.private or None,
    }


def _wrong(reason: str) -> Exception:
    import typer

    return typer.BadParameter(reason)
