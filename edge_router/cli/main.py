"""`edge-router`: the whole program, and what happens when it fails."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import NoReturn

from edge_router.cli import output, quick
from edge_router.cli.options import Options

# A start makes a hundred thousand objects and no garbage: looking for it took a tenth of the time.
_OBJECTS = 200_000


def run(arguments: Sequence[str]) -> int:
    """The whole program as a function of its arguments: the exit code."""
    options = Options()
    try:
        question = quick.read(arguments, options)
        if question is not None:
            from edge_router.cli.question import ask

            ask(quick.Context(options), question)
        else:
            from edge_router.cli.command_line import parser

            parser().main(list(arguments), prog_name="edge-router", obj=options)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except KeyboardInterrupt:
        return output.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost frame: said in one sentence, or shown with --debug
        from edge_router.cli.failures import report

        return report(error, options)
    finally:
        if "edge_router.cli.logs" in sys.modules:
            from edge_router.cli import logs

            logs.silence()
    return 0


def main() -> NoReturn:
    gc.set_threshold(_OBJECTS)
    output.prepare()
    code = run(sys.argv[1:])
    output.finish()
    gc.freeze()  # or Python looks through all there is for garbage, twice, before it ends
    sys.exit(code)
