"""`edge-router chat`: one answer, or a conversation."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_router.cli.chat.question import ChatQuestion, ask

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def _names() -> list[str]:
    from edge_router.catalog import model_cards

    return ["auto", "weak", "strong", *model_cards()]


@app.command()
def chat(
    ctx: typer.Context,
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT", help="The question. Without it, a conversation begins.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="auto, weak, strong, router-mf-0.5, a model card, a folder, a file or hf:OWNER/REPO.",
            autocompletion=_names,
        ),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="The system message.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0 is greedy; the model's own without it.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling, 0 to 1.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer, in tokens.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the same again, from the same numbers.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Never leave this machine.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network at all.")] = False,
    device: Annotated[str | None, typer.Option(help="Where the weak model runs.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the weak model.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what is missing.")] = False,
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--no-thinking",
            help="Let the weak model think, or hide all thoughts. Without: weak.thinking.",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep it on this machine, to go on with later: --resume.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with one that was kept: last, or its id.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object with the decision.")] = False,
) -> None:
    """One answer, or a conversation.

    The answer goes to stdout, thoughts and everything else to stderr. What is piped in is added to the
    prompt: cat notes.txt | edge-router chat "Summarise this." No conversation is kept without --keep.
    """
    ask(
        ctx,
        ChatQuestion(
            tuple(prompt or ()),
            model=model,
            system=system,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            seed=seed,
            private=private,
            offline=offline,
            device=device,
            threads=threads,
            yes=yes,
            thinking=thinking,
            json=json,
            keep=keep,
            resume=resume,
        ),
    )
