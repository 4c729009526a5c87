"""`edge-router bench memory`: the planner's bytes against those that processes really take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.parsing.sizes import binary

if TYPE_CHECKING:
    from edge_router.bench.memory import Outcome

COLUMNS = ("model", "context", "chunk", "conversations", "planned", "peak", "of the plan", "allocated")
BROKEN = 1  # the exit code


def memory(
    ctx: typer.Context,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Only demo, random-wide or random-heads; repeatable."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads.")] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """What the memory planner says against what is really taken, each setting in a process of its own.

    Three models, 24 settings: contexts up to 8192, chunks up to 2048, up to 4 conversations, all filled to
    the last token. Exit code 1 where a process took more than its plan, or stayed more than 5 % below.
    It takes minutes; what it builds is kept.
    """
    session = Session(ctx, json=json)
    config = session.config(weak__threads=threads)
    from edge_router.bench.memory import SETTINGS, WITHIN, bench_memory
    from edge_router.errors import UnknownName

    unknown = [name for name in model or () if name not in SETTINGS]
    if unknown:
        raise UnknownName("model of this measurement", unknown[0], tuple(SETTINGS))
    chosen = {name: settings for name, settings in SETTINGS.items() if model is None or name in model}
    found: list[Outcome] = []
    for outcome in bench_memory(config, session.paths, session.progress, chosen):
        found.append(outcome)
        if not json and not session.options.quiet:
            output.say("  ".join(row(outcome)))
    holds = all(outcome.holds for outcome in found)
    if json:
        output.write_json({"within": WITHIN, "holds": holds, "settings": [item.to_dict() for item in found]})
    else:
        output.table(COLUMNS, [row(outcome) for outcome in found], right=COLUMNS[1:])
        output.write(f"\n{verdict(found, WITHIN)}\n")
    if not holds:
        raise typer.Exit(BROKEN)


def row(outcome: Outcome) -> tuple[str, ...]:
    setting, allocated = outcome.setting, outcome.allocated_share
    return (
        outcome.model,
        str(setting.context),
        str(setting.chunk),
        str(setting.conversations),
        binary(outcome.total),
        binary(outcome.peak),
        f"{outcome.share:.1%}",
        "-" if allocated is None else f"{allocated:.1%}",
    )


def verdict(found: Sequence[Outcome], within: float) -> str:
    good = sum(outcome.holds for outcome in found)
    over = sum(outcome.share > 1 for outcome in found)
    return (
        f"{good} of {len(found)} settings within {within:.0%} of their plan, {over} above it "
        f"(lowest {min(item.share for item in found):.1%}, highest {max(item.share for item in found):.1%})."
    )
