"""`edge-router plan`: what fits into a memory budget, and with which windows."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.catalog import ModelCard, complete_card, concerning, find_model, model_cards
from edge_router.cli import output
from edge_router.cli.session import Session
from edge_router.cli.verbs import local_servers
from edge_router.cli.verbs.planning import Planning, Report, best_first, facts, summary_rows, tell
from edge_router.config.settings import Config
from edge_router.device.gpu_models import GpuModel, find_gpu, gpu_models
from edge_router.errors import WeightsUnavailable
from edge_router.hub import target_of

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
    known = find_gpu(gpu) if gpu is not None else None
    if known is not None:
        device = device or known.device
        vram_budget = vram_budget or _budget_of(known)
    config = session.config(
        weak__vram_budget=vram_budget,
        weak__context_window_size=context,
        weak__prefill_chunk_size=chunk,
        weak__max_sequences=conversations,
        weak__device=device,
    )
    planning = Planning.of(config, session.paths, quantizations=quantization, bandwidth=bandwidth, gpu=known)
    asked = (context is not None, chunk is not None)
    if model is not None:
        card = _completed(find_model(model), session, config)
        report = planning.report(card)
        _check(card, report, session)
        if json:
            output.write_json(facts(report))
        else:
            tell(report, planning, explain=explain)
        _leave_unless(report.keeps(*asked))
        return
    reports = best_first(planning.report(card) for card in model_cards().values())
    if json:
        output.write_json([facts(report) for report in reports])
    else:
        columns, rows, right = summary_rows(reports)
        output.table(columns, rows, right=right, spare=("context", "longest", "download"))
        if not session.options.quiet:
            output.say(planning.explanation(), style="dim")
            output.say(LEGEND, style="dim")
            for line in () if known else local_servers.held(config):  # which holds nothing of another GPU
                output.say(line, style="dim")
    _leave_unless(any(report.keeps(*asked) for report in reports))


def _budget_of(gpu: GpuModel) -> str:
    """Its memory but a tenth, which the screen and other programs hold."""
    if gpu.memory is None:
        reason = f"{gpu.name} shares the computer's memory, of which there are several sizes; how much of it?"
        raise typer.BadParameter(reason, param_hint="--vram-budget")
    return f"{gpu.memory * 9 // 10 >> 20}MiB"


def _leave_unless(fits: bool) -> None:
    if not fits:
        raise typer.Exit(DOES_NOT_FIT)


def _check(card: ModelCard, report: Report, session: Session) -> None:
    """That what is here of the weights is what building them takes: nobody plans with what can't be built."""
    from edge_router.compile.weights.headers import check_headers

    place = target_of(card.source, session.paths.downloads)
    if card.name in model_cards() or not place.exists():
        return
    with concerning(card):
        check_headers(place, card.config, report.shown.settings.quantization)


def _completed(card: ModelCard, session: Session, config: Config) -> ModelCard:
    """A repository without a card says what it is once it is here. Raises `WeightsUnavailable`."""
    if card.config:
        return card
    place = target_of(card.source, session.paths.downloads)
    with concerning(card):
        if not place.exists():
            reason = "its config.json is needed and it was not fetched yet"
            raise WeightsUnavailable(str(card.source), reason, place)
        return complete_card(card, place)
