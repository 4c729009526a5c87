"""A server as a program: `edge-router serve` with scripted models. Prints its address once it listens.

Its weak model says "slow" one word every 50 ms for ever, "steady" 50 a second, to what tests/assistant.py knows
what that says, and everything else back.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.events import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
)
from edge_router.chat.request import MEDIA_NEEDS, ChatRequest, JsonOutput, Need, Tool
from edge_router.config.sections import ServerConfig
from edge_router.engines.scripted import Reply, echo
from edge_router.errors import EdgeRouterError
from edge_router.questions.inquiry import Inquiry
from edge_router.questions.question import Question, YesNo
from edge_router.server.serve import run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from assistant import Asked, Said, assist, in_pieces, judged

PACES = {"slow": 0.05, "steady": 0.02}


def words(wait_s: float) -> Iterator[str | float]:
    for number in itertools.count():
        yield f"{number} "
        yield wait_s


def answer(request: ChatRequest) -> Reply:
    text = request.messages[-1].text
    if text in PACES:
        return words(PACES[text])  # type: ignore[return-value]
    said = assist(asked(request))
    return echo(request) if said is None else list(events(said))


def asked(request: ChatRequest) -> Asked:
    results: list[str] = []
    for message in request.messages:
        results = [*results, *(each.text for each in message.results)] if message.results else []
    tools = {tool.name: tool.parameters or {} for tool in request.tools if isinstance(tool, Tool)}
    return Asked(
        next((message.text for message in reversed(request.messages) if message.role == "user"), ""),
        tuple(results),
        {name: tuple(schema.get("properties", {})) for name, schema in tools.items()},  # type: ignore[call-overload]
        isinstance(request.output, JsonOutput) and bool(request.output.schema),
        request.reasoning.enabled,
    )


def events(said: Said) -> Iterator[Event]:
    """The arguments of calls take turns: nothing forbids it, and so nobody may rely on the opposite."""
    yield from (ReasoningDelta(piece) for piece in in_pieces(said.thoughts))
    yield from (TextDelta(piece) for piece in in_pieces(said.text))
    yield from (ToolCallStart(index, f"call_{index}", name) for index, (name, _) in enumerate(said.calls))
    for half in (slice(None, 9), slice(9, None)):
        for index, (_, arguments) in enumerate(said.calls):
            yield ToolCallArguments(index, arguments[half])
    yield Finished("tool_calls" if said.calls else "stop")


def judge(inquiry: Inquiry, question: Question) -> tuple[float, ...]:
    return judged(question.size, yes_no=isinstance(question, YesNo))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--strong", help="the base_url of the strong model")
    parser.add_argument("--key")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG)
    config = Config()
    if options.strong:
        config = config.replace(**{"strong.base_url": options.strong, "strong.model": "weak"})
    weak = ScriptedEngine(model_id="small", default=answer, serves=set(Need) - MEDIA_NEEDS, judge=judge)
    try:
        run(
            Controller(
                config, weak=weak, router=ScriptedRouter(lambda text: 0.875 if "hard" in text else 0.125)
            ),
            ServerConfig(host=options.host, port=options.port),
            api_key=options.key,
            on_ready=say,
        )
    except EdgeRouterError as error:
        say(type(error).__name__)
        return 1
    say("ended well")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
