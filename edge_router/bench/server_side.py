"""The server of `bench server`, in its own process: prints its address, ends with its standard input."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from edge_router.api.client import Controller
from edge_router.config.sections import ServerConfig
from edge_router.config.settings import Config
from edge_router.engines.scripted import ScriptedEngine
from edge_router.system.paths import Paths

TOKENS = 32
_ANSWER = " ".join(["word"] * TOKENS)


def instant(home: Path) -> Controller:
    """A controller with the router that ships by default, and a model that answers without thinking."""
    return Controller(Config(), weak=ScriptedEngine(default=_ANSWER), paths=Paths.under(home))


def main() -> None:
    from edge_router.server.serve import run

    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    def say(url: str) -> None:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    run(instant(Path(sys.argv[1])), ServerConfig(port=0), on_ready=say, stop=stop)


if __name__ == "__main__":
    main()
