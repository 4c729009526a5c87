"""What RouteLLM's programs take on the command line, and how ours end."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_router.cli.options import Options
from edge_router.cli.terminal import output
from edge_router.cli.terminal.failures import report
from edge_router.routing.routers import routers
from edge_router.system.paths import Paths

USED = "what it says of {} is of RouteLLM's checkpoints, which are not used: routers bring their own here"


def parser(program: str, about: str) -> argparse.ArgumentParser:
    """With the flags that both programs have."""
    made = argparse.ArgumentParser(prog=f"python -m edge_router.routellm.{program}", description=about)
    made.add_argument("--config", type=Path, help="RouteLLM's config.yaml; nothing in it is needed here")
    known = sorted(routers(Paths.default().routers))
    made.add_argument("--routers", nargs="+", choices=known, default=["random"], metavar="ROUTER")
    return made


def tell_unused(config: Path | None) -> None:
    """Of a config.yaml only its names are read. Raises `OSError` where there is none."""
    if config is None:
        return
    text = config.read_text(encoding="utf-8", errors="replace")
    names = re.findall(r"^([A-Za-z_][\w-]*)\s*:", text, re.MULTILINE)
    if names:
        output.say(f"{config}: {USED.format(', '.join(names))}", style="yellow")


def main(work: Callable[[Sequence[str] | None], None], arguments: Sequence[str] | None = None) -> int:
    """The exit status; what goes wrong is one sentence."""
    try:
        work(arguments)
    except KeyboardInterrupt:
        return output.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost frame, told as the command line does
        return report(error, Options())
    return 0
