"""`edge-router bench decision`: what goes before a decision, and how long it takes here."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output


def decision(
    ctx: typer.Context,
    rounds: Annotated[int, typer.Option(min=1, help="Of each kind of prompt.")] = 500,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """What rules, guard and session add to a decision, on prompts of 2,000 characters, one thread.

    The rules are your own, or fifteen made up ones where you have none. The last line is an answer that was
    given before and is given again, from the request to its end.
    """
    session = Session(ctx, json=json)
    config = session.config()
    from edge_router.bench.decision import LENGTH, bench_decision, prose
    from edge_router.bench.response_cache import WORDS, bench_response_cache
    from edge_router.control.rule_source import load_rules

    rules = load_rules(config, session.paths)
    with closing(session.pool(config)) as models:
        found = bench_decision(models.router(None), config.guard, rules, rounds, session.progress)
        again = bench_response_cache(models.router(None), prose(), config, rounds)
    if json:
        output.write_json({**found.to_dict(), "response_cache": again.to_dict()})
        return
    output.write(f"Prompts of {LENGTH} characters, {found.rules} rules, guard.level {config.guard.level}\n")
    rows = [
        (kind, f"{alone.p50:.3f}", f"{before.p50:.3f}", f"{before.p95:.3f}")
        for kind, alone, before in ((kind, found.alone[kind], found.before[kind]) for kind in found.alone)
    ]
    columns = ("", "decision p50 ms", "rules, guard, session p50 ms", "p95 ms")
    output.table(columns, rows, right=columns[1:])
    output.write(
        f"An answer of {WORDS} words given again: {again.disk.p50:.3f} ms from the disk, "
        f"{again.memory.p50:.3f} from memory; the decision alone {again.alone.p50:.3f}\n"
    )
