"""`edge-router bench prefix`: what a system message that is kept on the disk is worth here."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output


def prefix(
    ctx: typer.Context,
    tokens: Annotated[int, typer.Option(min=100, help="Of the system message.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, help="Of two programs each.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """The first token after a restart, with a system message kept (cache = "keep") and without, in turns.

    Greedy and drawn texts have to be the same.
    """
    session = Session(ctx, json=json)
    config = session.config()
    from edge_router.bench.peers.machine import machine
    from edge_router.bench.prefix import bench_prefix, ratio

    found = bench_prefix(config, session.paths, tokens, rounds, session.progress)
    here = machine(session.paths)
    if json:
        told = {"cpu": here.processor, "instructions": here.instructions, "commit": here.commit}
        output.write_json({**found.to_dict(), **told})
        return
    size = output.size(found.bytes)
    output.write(
        f"{found.model}, {found.known} of {found.tokens} tokens kept ({size}), on {here.processor}, "
        f"{here.instructions}, commit {here.commit}\n"
    )
    rows = []
    for name, (kept, read) in found.times.items():
        spans = (f"{each.median:.0f} [{each.low:.0f}, {each.high:.0f}]" for each in (read, kept))
        rows.append((name, *spans, f"{ratio((kept, read)):.3f}"))
    columns = ("first token, ms", "read", "kept", "ratio")
    output.table(columns, rows, right=columns[1:])
    output.write(f"\nThe same text, greedy and drawn: {'yes' if found.same else 'no'}")
