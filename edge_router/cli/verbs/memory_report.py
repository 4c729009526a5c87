"""`edge-router doctor --memory`: the configured model's plan, beside what a process of its own takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import typer

from edge_router.cli.chat.building import make_ready
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.errors import EngineUnavailable
from edge_router.parsing.sizes import binary

if TYPE_CHECKING:
    from edge_router.bench.memory import Outcome


def report(session: Session, *, offline: bool) -> None:
    """Loads the model, reads its longest prompt, fills its contexts; exit code 1 where the plan doesn't hold.

    Raises what building raises, and `EngineUnavailable` for an engine that is not measured like this.
    """
    from edge_router.bench.memory import Setting, measure
    from edge_router.engines import resolved

    config = session.config(offline=offline)
    engine = resolved(config).weak.engine
    if engine != "tvm":
        raise EngineUnavailable(engine, "only the memory of the engine tvm is measured")
    make_ready(session, config, yes=False)
    from edge_router.engines.tvm.engine import built

    compiled = built(config, session.paths, session.progress)
    windows = compiled.config
    context, chunk = cast(int, windows["context_window_size"]), cast(int, windows["prefill_chunk_size"])
    setting = Setting(context, chunk, config.weak.max_sequences or 1)
    with session.progress.step("fill every context"):
        outcome = measure(compiled, compiled.card.name, setting, config, session.paths)
    if session.json:
        output.write_json(outcome.to_dict())
    else:
        _show(outcome)
    if not outcome.holds:
        raise typer.Exit(1)


def _show(outcome: Outcome) -> None:
    setting = outcome.setting
    output.write(
        f"{outcome.model}: context {setting.context}, prefill chunk {setting.chunk}, "
        f"conversations {setting.conversations}\n\n"
    )
    rows = [
        (stage.name, binary(expected), binary(stage.resident), _signed(stage.resident - expected))
        for stage, expected in ((stage, outcome.expected(stage)) for stage in outcome.stages)
    ]
    rows.append(
        ("at most", binary(outcome.total), binary(outcome.peak), _signed(outcome.peak - outcome.total))
    )
    output.table(("moment", "planned", "held", "difference"), rows, right=("planned", "held", "difference"))
    verdict = "holds" if outcome.holds else "does not hold"
    output.write(f"\nThe plan {verdict}: {outcome.share:.1%} of it was taken, a margin of ")
    output.write(f"{binary(outcome.planned['margin'])} among it.\n")


def _signed(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{binary(abs(count))}"
