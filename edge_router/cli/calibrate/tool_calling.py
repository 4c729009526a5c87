"""`edge-router calibrate --tools`: whether the weak model calls tools well enough to be asked to."""

from __future__ import annotations

from edge_router.cli.chat.building import make_ready
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.stderr_redirect import hushed
from edge_router.config.settings import Config

CASES = 80
_WORDS = {
    "functions": "the right tool is called",
    "arguments": "with the right arguments",
    "refusals": "none is called where none fits",
    "results": "the answer is what a tool gave back",
}


def calibrate_tools(session: Session, config: Config, *, count: int, yes: bool) -> None:
    """Raises `CannotCalibrate` for a model that was not built here, or has not learned to call tools."""
    from edge_router.labelling import weak_calibrations
    from edge_router.store.tool_skill import LEAST

    make_ready(session, config, yes=yes)
    with hushed():
        found = weak_calibrations.calibrate_tools(
            config, count=count, paths=session.paths, progress=session.progress
        )
    if session.json:
        output.write_json(found.to_dict())
        return
    rows = [(_WORDS[name], f"{getattr(found, name):.1%}", f"{least:.0%}") for name, least in LEAST.items()]
    output.table(("of the cases", "right", "needed"), rows, right=("right", "needed"))
    if found.passed:
        verdict = "is asked to call tools from now on"
    else:
        verdict = 'goes on leaving tools to the strong model; weak.tools = "yes" asks it all the same'
    output.say(f"{found.model} {verdict}.", style="dim")
