"""`edge-router bench`: measure what runs on this machine. This file only names the parts."""

from __future__ import annotations

import typer

from edge_router.cli.verbs.bench_decision import decision
from edge_router.cli.verbs.bench_memory import memory
from edge_router.cli.verbs.bench_prefix import prefix
from edge_router.cli.verbs.bench_quality import quality
from edge_router.cli.verbs.bench_router import router
from edge_router.cli.verbs.bench_server import server
from edge_router.cli.verbs.bench_speculation import speculation
from edge_router.cli.verbs.bench_weak import weak

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure what runs on this machine."""


for verb in (weak, speculation, prefix, quality, router, decision, server, memory):
    app.command()(verb)
