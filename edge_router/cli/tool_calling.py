"""`edge-router calibrate --tools`: whether the weak model calls tools well enough to be asked to."""

from __future__ import annotations

from contextlib import closing

from edge_router.cli import output
from edge_router.cli.building import make_ready
from edge_router.cli.session import Session
from edge_router.cli.stderr_redirect import hushed
from edge_router.config.settings import Config
from edge_router.errors import CannotCalibrate

CASES = 80
_WORDS = {
    "functions": "the right tool is called",
    "arguments": "with the right arguments",
    "refusals": "none is called where none fits",
    "results": "the answer is what a tool gave back",
}


def calibrate_tools(session: Session, config: Config, *, count: int, yes: bool) -> None:
    """Raises `CannotCalibrate` for a model that was not built here, or has not learned to call tools."""
    from edge_router.labelling.tool_calling import measure
    from edge_router.labelling.tool_cases import cases
    from edge_router.store.tool_skill import LEAST, keep

    make_ready(session, config, yes=yes)
    with closing(session.pool(config)) as loaded, hushed():
        engine = loaded.weak()
        able = engine.capabilities
        if able.weights is None:
            raise CannotCalibrate(engine.model_id, "only a model that was built here can be")
        if not able.learned_tools:
            raise CannotCalibrate(
                engine.model_id, "its chat template tells of no tools, so they are left to the strong model"
            )
        found = measure(engine, cases(count), session.progress)
        keep(found, session.paths, able.weights)
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
