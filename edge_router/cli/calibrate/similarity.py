"""`edge-router calibrate --cache`: from how near on a question is answered as another was."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import typer

from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.config.settings import Config
from edge_router.errors import CannotCalibrate

SHOWN = 60  # characters of a prompt


def calibrate_cache(session: Session, config: Config, *, prompts: Path | None, ledger: bool) -> None:
    """On the prompts of a file, or of the ledger. Raises `CannotCalibrate` for a router without vectors."""
    if (prompts is not None) == ledger:
        raise typer.BadParameter("say where your prompts are: --ledger or --prompts FILE")
    from edge_router.response_cache.calibration import LEAST, LISTED, calibrate_similarity, usable
    from edge_router.routing.routers.base import Embeds

    texts = usable(_kept(session) if prompts is None else _read(prompts))
    if len(texts) < LEAST:
        keep = session.command("config", "set", "ledger.store_prompts=true")
        raise typer.BadParameter(
            f"{len(texts)} prompts are too few, {LEAST} will do; the ledger keeps them with: {keep}"
        )
    with closing(session.pool(config)) as models:
        router = models.router(None)
        if not isinstance(router, Embeds):
            raise CannotCalibrate(router.name, "it makes no vectors of texts")
        with session.progress.step("compare", total=1) as step:
            found = calibrate_similarity(router.embed_texts, texts)
            step.advance()
    if session.json:
        output.write_json({"router": router.name, **found.to_dict()})
        return
    output.write(f"{found.similarity:.4f}\n")
    if found.pairs:
        rows = [(f"{pair.cosine:.3f}", _line(pair.one), _line(pair.other)) for pair in found.pairs[:LISTED]]
        output.table(("cosine", "prompt", "would be answered as"), rows, right=("cosine",))
    pairs = f"{len(found.pairs):,} pair{'' if len(found.pairs) == 1 else 's'}"
    output.say(
        f"{found.n:,} prompts: {found.wrapped:.0%} are known again in another wrapping, and {pairs} of them "
        f"would share an answer. Of those with a telling word changed none would; by {router.name}'s vector "
        f"alone {found.changed:.0%}."
    )
    take = session.command("config", "set", f"response_cache.similarity={found.similarity:.4f}")
    output.say(f"Take it with: {take}", style="dim")


def _kept(session: Session) -> list[str]:
    from edge_router.ledger import Ledger

    records = Ledger(session.paths.ledger).records()
    return [record.prompt for record in records if record.prompt is not None]


def _read(file: Path) -> Sequence[str]:
    from edge_router.routing.labels.reading import read_prompts

    return read_prompts(file)


def _line(prompt: str) -> str:
    return " ".join(prompt.split())[:SHOWN]
