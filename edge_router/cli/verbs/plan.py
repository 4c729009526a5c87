"""`edge-router plan`: what fits into a memory budget, and with which windows."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from edge_router.api import model_plans
from edge_router.catalog import model_cards
from edge_router.cli.session import Session, named
from edge_router.cli.terminal import output
from edge_router.cli.verbs import local_servers, plan_table
from edge_router.cli.verbs.planning import explanation, tell
from edge_router.device.gpu_models import find_gpu, gpu_models
from edge_router.errors import ConfigError, UnknownName

app = typer.Typer(add_completion=False, rich_markup_mode=None)

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
    context_window_size: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="Of prompt and answer together.")
    ] = None,
    prefill_chunk_size: Annotated[
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
            autocompletion=lambda: [name.replace(" ", "-") for name in gpu_models()],  # one word in a shell
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every card, also what is older, made for one purpose or too large.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show how each amount comes about.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object, or a list of them.")] = False,
) -> None:
    """What fits into a memory budget and with which windows, or what would make it fit.

    Without MODEL the best that fits, the best first. The exit code is 1 if nothing fits, or not with the
    windows that are asked. The speed is the bound that the memory's bandwidth sets: for each token all
    weights are read, and half a context.
    """
    gpu, model = _unquoted(gpu, model)
    session = Session(ctx, json=json)
    config = session.config(
        weak__vram_budget=vram_budget,
        weak__context_window_size=context_window_size,
        weak__prefill_chunk_size=prefill_chunk_size,
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
                    named(model),
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
        shown = plan_table.shown(reports, everything=everything)
        plan_table.write(shown)
        if not session.options.quiet:
            output.say(explanation(reports[0]), style="dim")
            if gpu and vram_budget is None:
                spared = "A tenth of the GPU's memory is left to the screen and to other programs."
                output.say(spared, style="dim")
            for line in plan_table.footer(shown, len(reports)):
                output.say(line, style="dim")
            for line in () if gpu else local_servers.held(config):  # which holds nothing of another GPU
                output.say(line, style="dim")
    asked = (context_window_size is not None, prefill_chunk_size is not None)
    if not any(report.keeps(*asked) for report in reports):
        raise typer.Exit(DOES_NOT_FIT)


def _unquoted(gpu: str | None, model: str | None) -> tuple[str | None, str | None]:
    """--gpu RTX 3060: what looks like the model is the rest of the GPU's name."""
    if gpu is not None and model is not None:
        with suppress(UnknownName):
            find_gpu(gpu)
            return gpu, model
        with suppress(UnknownName):
            find_gpu(f"{gpu} {model}")
            return f"{gpu} {model}", None
    return gpu, model
