"""A server as a program: `edge-router serve` with scripted models. Prints its address once it listens.

Its weak model says "slow" one word every 50 ms for ever, "steady" 50 a second, and everything else back.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Iterator

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.request import ChatRequest
from edge_router.config import ServerConfig
from edge_router.engines.scripted import Reply, echo
from edge_router.errors import EdgeRouterError
from edge_router.server.serve import run

PACES = {"slow": 0.05, "steady": 0.02}


def words(wait_s: float) -> Iterator[str | float]:
    for number in itertools.count():
        yield f"{number} "
        yield wait_s


def answer(request: ChatRequest) -> Reply:
    text = request.messages[-1].text
    if text in PACES:
        return words(PACES[text])  # type: ignore[return-value]
    return echo(request)


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
    weak = ScriptedEngine(model_id="small", serves=(), default=answer)
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
