"""`edge-router plan`: what fits into a memory budget, and with which windows."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.api import model_plans
from edge_router.catalog import model_cards
from edge_router.cli import output
from edge_router.cli.session import Session
from edge_router.cli.verbs import local_servers
from edge_router.cli.verbs.planning import explanation, summary_rows, tell
from edge_router.device.gpu_models import gpu_models
from edge_router.errors import ConfigError

app = typer.Typer(add_completion=False, rich_markup_mode=None)

LEGEND = (
    "The best first. answers: the share of ordinary prompts it is left beside a strong model; "
    "download: about; can: what its template has words for. One is taken by: "
    "edge-router config set weak.model=NAME"
)
DOES_NOT_FIT = 1  # the exit code, so that a script can ask


@app.command()
def plan(
    ctx: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A card's name, a folder, a file or hf:OWNER/REPO; every card without it.",
            autocompletion=lambda: list(model_cards()),
            show_default=False,
        ),
    ] = None,
    vram_budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="12GiB, 12GB, or 80% of what is free now.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="Of prompt and answer together.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="Of a prompt, computed at once.")
    ] = None,
    conversations: Annotated[
        int | None, typer.Option(min=1, max=256, help="Answers that are made at the same time.")
    ] = None,
    quantization: Annotated[
        list[str] | None, typer.Option(help="A format that may be used, the best first; repeatable.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, metal, vulkan, d3d12 or mlc; it need not be here.")
    ] = None,
    bandwidth: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What the device reads in a second, such as 360GB, for the speed."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A GPU that need not be here, such as 'RTX 3060': its memory but a tenth, its bandwidth.",
            autocompletion=lambda: list(gpu_models()),
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show how each amount comes about.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object, or a list of them.")] = False,
) -> None:
    """What fits into a memory budget and with which windows, or what would make it fit.

    The exit code is 1 if nothing fits, or not with the --context and --chunk that are asked. The speed is
    the bound that the memory's bandwidth sets: for each token all weights are read, and half a context.
    """
    session = Session(ctx, json=json)
    config = session.config(
        weak__vram_budget=vram_budget,
        weak__context_window_size=context,
        weak__prefill_chunk_size=chunk,
        weak__max_sequences=conversations,
        weak__device=device,
    )
    try:
        reports = (
            model_plans.plans(
                config, quantizations=quantization, bandwidth=bandwidth, gpu=gpu, paths=session.paths
            )
            if model is None
            else (
                model_plans.plan(
                    model,
                    config,
                    quantizations=quantization,
                    bandwidth=bandwidth,
                    gpu=gpu,
                    paths=session.paths,
                ),
            )
        )
    except ConfigError as error:
        if gpu is None or error.key != "weak.vram_budget":
            raise
        raise typer.BadParameter(error.reason, param_hint="--vram-budget") from error
    if json:
        facts = [report.to_dict() for report in reports]
        output.write_json(facts if model is None else facts[0])
    elif model is not None:
        tell(reports[0], explain=explain)
    else:
        columns, rows, right = summary_rows(reports)
        output.table(columns, rows, right=right, spare=("context", "longest", "download"))
        if not session.options.quiet:
            output.say(explanation(reports[0]), style="dim")
            output.say(LEGEND, style="dim")
            for line in () if gpu else local_servers.held(config):  # which holds nothing of another GPU
                output.say(line, style="dim")
    if not any(report.keeps(context is not None, chunk is not None) for report in reports):
        raise typer.Exit(DOES_NOT_FIT)
