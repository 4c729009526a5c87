"""`edge-router`: the whole program, and what happens when it fails."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from edge_router.cli.chat import quick
from edge_router.cli.terminal import output

if TYPE_CHECKING:
    from edge_router.cli.options import Options

# A start makes a hundred thousand objects and no garbage: looking for it took a tenth of the time.
_OBJECTS = 200_000


def run(arguments: Sequence[str]) -> int:
    """The whole program as a function of its arguments: the exit code."""
    options: Options | None = None
    try:
        typed = quick.read(arguments)
        if typed is not None and (code := _by_a_server(typed)) is not None:
            return code
        from edge_router.cli.options import Options

        options = Options()
        if typed is not None:
            from edge_router.cli.chat.question import ChatQuestion, ask

            options.add(**typed.options)
            ask(quick.Context(options), ChatQuestion(**typed.fields))
        else:
            from edge_router.cli.command_line import parser

            parser().main(list(arguments), prog_name="edge-router", obj=options)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except KeyboardInterrupt:
        return output.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost frame: said in one sentence, or shown with --debug
        from edge_router.cli.options import Options
        from edge_router.cli.terminal.failures import report

        return report(error, options or Options())
    finally:
        if "edge_router.cli.terminal.logs" in sys.modules:
            from edge_router.cli.terminal import logs

            logs.silence()
    return 0


def _by_a_server(typed: quick.Typed) -> int | None:
    from edge_router.cli.chat import resident

    return resident.ask(typed)


def main() -> NoReturn:
    if quick.read(sys.argv[1:]) is not None:
        gc.set_threshold(_OBJECTS)  # `building.build` sets what Python has by itself
    output.prepare()
    code = run(sys.argv[1:])
    output.finish()
    gc.freeze()  # or Python looks through all there is for garbage, twice, before it ends
    sys.exit(code)
