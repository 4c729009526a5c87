"""`edge-router bench speculation`: what guessing tokens is worth here."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output


def speculation(
    ctx: typer.Context,
    rounds: Annotated[int, typer.Option(min=1, help="Of each question.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Answers that copy, and everyday ones, with weak.speculation and without, in turns.

    By the engine tvm, greedy and drawn; each text has to be the same.
    """
    session = Session(ctx, json=json)
    config = session.config()
    from edge_router.bench.speculation import bench_speculation

    found = bench_speculation(config, session.paths, rounds, session.progress)
    if json:
        output.write_json(found.to_dict())
        return
    output.write(f"{found.model}: how many times as fast an answer is written with guesses\n")
    rows = [
        (
            name,
            f"{kind.ratio.median:.2f} [{kind.ratio.low:.2f}, {kind.ratio.high:.2f}]",
            *(f"{pace:.1f}" for pace in kind.tokens_per_s),
            "yes" if kind.same else "no",
        )
        for name, kind in found.kinds.items()
    ]
    columns = ("", "times as fast", "tokens/s without", "with", "same text")
    output.table(columns, rows, right=columns[1:])
