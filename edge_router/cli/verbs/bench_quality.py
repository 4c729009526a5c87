"""`edge-router bench quality`: what people see of the weak model's answers."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.chat.building import make_ready
from edge_router.cli.session import Session, weak_title
from edge_router.cli.terminal import output
from edge_router.config.settings import Config

if TYPE_CHECKING:
    from edge_router.bench.quality import AnswerQuality

AT_ONCE = 8  # answers, which every library of ours can make together
CONTEXT = 1024  # tokens: prompts and answers are short


def quality(
    ctx: typer.Context,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also made by this quantizer, or in this format, such as q0f16."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each prompt is asked.")] = 3,
    show: Annotated[bool, typer.Option("--show", help="Also the answers that ran away.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Build what is missing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Do the weak model's answers end, go in circles, and are they right? With its own sampling; minutes.

    16 everyday prompts and 40 questions with one answer, each with several seeds.
    """
    session = Session(ctx, json=json)
    from edge_router.bench.quality import FIRST_SEED, measure

    config = _batched(session.config())
    rows: list[AnswerQuality] = []
    for name, settings in _sides(config, against or ()):
        make_ready(session, settings, yes=yes)
        with closing(session.pool(settings)) as models:
            found, answers = measure(
                models.weak(),
                name,
                seeds=range(FIRST_SEED, FIRST_SEED + seeds),
                at_once=settings.weak.max_sequences or 1,
                progress=session.progress,
            )
        rows.append(found)
        for said in answers if show else ():
            if said.ran_away:
                output.say(f"{name}: {said.prompt}\n{said.text}\n", style="dim")
    if json:
        output.write_json({"model": weak_title(config), "found": [row.to_dict() for row in rows]})
        return
    columns = ("weights", "ended", "looping", "ran away", "right", "tokens")
    output.table(columns, [_row(row) for row in rows], right=columns[1:])


def _batched(config: Config) -> Config:
    """Several answers at a time, unless something else was asked for: it takes a fraction of the time."""
    wanted = {"weak.max_sequences": AT_ONCE, "weak.context_window_size": CONTEXT}
    return config.replace(**{key: value for key, value in wanted.items() if config.origin(key) == "default"})


def _sides(config: Config, against: list[str] | tuple[()]) -> list[tuple[str, Config]]:
    """The configured weights and the others, each with the settings that make them."""
    from edge_router.architectures.quantization import QUANTIZATIONS
    from edge_router.catalog import find_model
    from edge_router.catalog.cards import QUANTIZERS

    card = find_model(config.weak.model)
    own, form = config.weak.quantizer or card.quantizer, config.weak.quantization or card.quantization
    sides = [(f"{form} by {own}", config)]
    for name in against:
        if name in QUANTIZERS:
            sides.append((f"{form} by {name}", config.replace(**{"weak.quantizer": name})))
        elif name in QUANTIZATIONS:
            sides.append((name, config.replace(**{"weak.quantization": name})))
        else:
            known = ", ".join((*QUANTIZERS, *QUANTIZATIONS))
            raise typer.BadParameter(f"--against is a quantizer or a format ({known}), not {name!r}")
    return sides


def _row(row: AnswerQuality) -> tuple[str, ...]:
    parts = (row.ended, row.looping, row.away)
    shares = (f"{part} of {row.answers}" for part in parts)
    return (row.name, *shares, f"{row.right} of {row.asked}", f"{row.tokens:.0f}")
