"""RouteLLM's server by its flags: `python -m edge_router.routellm.openai_server --routers mf ...`.

It is `edge-router serve`: every protocol of ours, on this machine only.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from edge_router.cli.session import server_key
from edge_router.cli.terminal import output
from edge_router.routellm.controller import Controller
from edge_router.routellm.flags import main, parser, tell_unused
from edge_router.server.serve import run

ABOUT = "A server for OpenAI's clients that routes between two models."
WEAK = "SmolLM2-135M-Instruct"  # RouteLLM's own default is no longer served by anybody


def work(arguments: Sequence[str] | None = None) -> None:
    flags = parser("openai_server", ABOUT)
    flags.add_argument("--verbose", action="store_true")
    flags.add_argument("--workers", type=int, default=0, help="of no effect: one process serves all")
    flags.add_argument("--port", type=int, default=6060)
    flags.add_argument("--base-url", help="where both models are asked")
    flags.add_argument("--api-key", help="the strong model's key; a variable such as OPENAI_API_KEY is safer")
    flags.add_argument("--strong-model", default="gpt-4-1106-preview")
    flags.add_argument("--weak-model", default=WEAK)
    given = flags.parse_args(arguments)
    if given.verbose:
        logging.basicConfig(level=logging.INFO)
    tell_unused(given.config)
    made = Controller(
        given.routers, given.strong_model, given.weak_model, api_base=given.base_url, api_key=given.api_key
    )
    config = made.controller.config
    names = ", ".join(given.routers)

    def ready(url: str) -> None:
        models = f"strong: {given.strong_model}, weak: {given.weak_model}"
        output.say(f"Listening on {url}/v1 with the routers {names} ({models}). Ctrl-C stops it.")

    if not run(
        made.controller,
        replace(config.server, port=given.port),
        api_key=server_key(config),
        on_ready=ready,
    ):
        output.finish()
        os._exit(0)  # what the model's thread still computes is for nobody


if __name__ == "__main__":
    sys.exit(main(work))
