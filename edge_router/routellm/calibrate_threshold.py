"""RouteLLM's calibration by its flags: `python -m edge_router.routellm.calibrate_threshold --routers mf ...`.

On prompts of the user's own, or on those that ship: RouteLLM's are of the Chatbot Arena, and fetched.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from edge_router.api.client import Controller
from edge_router.cli.terminal import output
from edge_router.config.settings import Config
from edge_router.errors import InvalidRequest
from edge_router.routellm.flags import main, parser, tell_unused
from edge_router.routing.labels.reading import read_prompts
from edge_router.routing.thresholds.calibration import choose_threshold
from edge_router.routing.thresholds.typical import TYPICAL

ABOUT = "The threshold at which a share of the calls goes to the strong model."


def work(arguments: Sequence[str] | None = None) -> None:
    """Raises `InvalidRequest`, `InvalidData`."""
    flags = parser("calibrate_threshold", ABOUT)
    flags.add_argument("--battles_dataset", help="a file of prompts: .txt, .jsonl, .csv or .parquet")
    flags.add_argument("--strong-model-pct", type=float, help="the share, 0 to 1")
    flags.add_argument("--task", choices=["generate", "calibrate"], default="calibrate")
    given = flags.parse_args(arguments)
    tell_unused(given.config)
    if given.task == "generate":
        output.say("Nothing has to be generated: scores are computed as they are needed.", style="dim")
        return
    if given.strong_model_pct is None:
        raise InvalidRequest("--strong-model-pct", "is missing: the share of the calls for the strong model")
    texts = _texts(given.battles_dataset)
    with Controller(Config.load()) as controller:
        for name in given.routers:
            scores = controller.router(name).score_texts(texts)
            found = choose_threshold(scores, given.strong_model_pct)
            share = f"{given.strong_model_pct * 100:g}%"
            model = f"router-{name}-{found.threshold:.6g}"
            output.write(f'{share} strong model calls for {name}: model="{model}"\n')
            for warning in found.warnings:
                output.say(f"warning: {warning}", style="yellow")


def _texts(dataset: str | None) -> list[str]:
    if dataset is None:
        return [text for texts in TYPICAL.values() for text in texts]
    return list(read_prompts(Path(dataset)))


if __name__ == "__main__":
    sys.exit(main(work))
