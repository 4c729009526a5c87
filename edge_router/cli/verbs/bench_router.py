"""`edge-router bench router`: how long a decision takes here."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output

if TYPE_CHECKING:
    from edge_router.bench.latency import Latency
    from edge_router.bench.router import RouterBench


def router(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Option("--router", metavar="NAME", help="Another one than the configured router.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where it runs: cpu, cuda, coreml, webgpu or auto.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A sample: .txt with a prompt per line, .jsonl, .csv or .parquet."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """How long a decision takes: text in, decision out, one thread.

    Without --prompts, over built-in prompts of every length.
    """
    session = Session(ctx, json=json)
    config = session.config(router__name=name, router__provider=provider)
    from edge_router.bench.router import bench_router
    from edge_router.routing.labels.reading import read_prompts

    texts = read_prompts(prompts) if prompts else ()
    with closing(session.pool(config)) as models:
        found = bench_router(models.router(None), texts, session.progress)
    if json:
        output.write_json(found.to_dict())
        return
    output.write(f"{found.router} on {found.provider}, {config.router.threads} thread(s)\n")
    columns = ("", "n", "p50 ms", "p95 ms", "p99 ms")
    output.table(columns, _router_rows(found), right=columns[1:])


def _router_rows(found: RouterBench) -> list[tuple[str, ...]]:
    parts: list[tuple[str, Latency | None]] = [("text to decision", found.whole)]
    parts += [("making the input", found.inputs), ("running the graph", found.graph)]
    parts += [(f"up to {upper} characters", latency) for upper, latency in found.by_length]
    return [
        (name, str(part.n), *(f"{value:.3f}" for value in (part.p50, part.p95, part.p99)))
        for name, part in parts
        if part is not None
    ]
