"""`edge-router compile`: from a model's name to what runs on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.catalog import model_cards
from edge_router.cli.chat import building, fetching
from edge_router.cli.session import Session, named
from edge_router.cli.terminal import output

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("compile")
def compile_(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A card's name, a folder, a file or hf:OWNER/REPO.",
            autocompletion=lambda: list(model_cards()),
        ),
    ],
    quantization: Annotated[str | None, typer.Option(help="The format of the weights.")] = None,
    quantizer: Annotated[
        str | None,
        typer.Option(help="How weights are quantized: gptq (best), weighted, signed or round."),
    ] = None,
    context_window_size: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Prompt and answer together.")
    ] = None,
    prefill_chunk_size: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Tokens of the prompt that are computed at once.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where it is to run: cpu, cuda, vulkan, metal, or another GPU: cuda:sm_89."),
    ] = None,
    shared: Annotated[
        bool,
        typer.Option(
            "--shared", help="Link a shared library, as MLC's runtime loads it; needs a C compiler."
        ),
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Fetch a model's weights, quantize and compile them for this machine.

    What is done already is not done again. Prints the folder of the quantized weights and the library. With
    --shared these two are what MLC's engine takes as its model and its model_lib.
    """
    session = Session(ctx, json=json)
    config = session.config(
        weak__model=named(model),
        weak__quantization=quantization,
        weak__quantizer=quantizer,
        weak__context_window_size=context_window_size,
        weak__prefill_chunk_size=prefill_chunk_size,
        weak__device=device,
        offline=offline,
    )
    if device is None and not shared:  # else it may be for another machine
        building.check_device(config, session.paths)
    if not (offline or session.options.quiet):
        fetching.tell(config, session.paths)
    done = building.build(config, session.paths, session.progress, shared=shared)
    if json:
        facts = {"model": done.card.name, "model_dir": str(done.model_dir), "library": str(done.library)}
        output.write_json(facts)
    else:
        output.write(f"{done.model_dir}\n{done.library}\n")
