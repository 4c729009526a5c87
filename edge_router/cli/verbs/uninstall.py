"""`edge-router uninstall`: everything that was written on this machine, listed and taken away."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from edge_router.cli import runtime_file
from edge_router.cli.chat import resident
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.confirming import confirmed
from edge_router.cli.verbs import service
from edge_router.system.background_service import Service
from edge_router.system.disk import remove_tree, storage_errors, tree_bytes
from edge_router.system.paths import HOME_VARIABLE, Paths

app = typer.Typer(add_completion=False, rich_markup_mode=None)

OURS = "edge_router"  # what the folders are called that hold nothing else


@app.command()
def uninstall(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    keep_settings: Annotated[
        bool, typer.Option("--keep-settings", help="Leave config.toml and rules.toml.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    """Remove all that edge-router has written: models, builds, the ledger, settings, the service.

    Says what and how large first, and asks. The package itself goes with pip afterwards; keys in the system's
    keyring, and what `launch --write` has written into other programs' files, are yours and stay.
    """
    session = Session(ctx, json=json)
    found = service.found_service(session)
    installed = found.file.exists()
    there = [(path, size_of(path)) for path in places(session.paths, os.environ, settings=not keep_settings)]
    gone = [str(path) for path, _ in there] + [str(found.file)] * installed
    if dry_run and json:
        output.write_json({"would_remove": gone, "bytes": sum(size for _, size in there)})
        return
    if not json:
        rows = [(str(path), output.size(size)) for path, size in there]
        rows += [(str(found.file), f"service of {found.system}")] * installed
        output.table(("place", "size"), rows) if rows else output.say("Nothing is left here to remove.")
    if dry_run or not confirmed_all(gone, yes=yes):
        return
    _remove([path for path, _ in there], found if installed else None)
    if json:
        output.write_json({"removed": gone, "bytes": sum(size for _, size in there)})
        return
    if gone:
        output.say(f"Removed {output.size(sum(size for _, size in there))}.")
    output.say(f"The package itself goes with: {sys.executable} -m pip uninstall edge-router")


def confirmed_all(gone: list[str], *, yes: bool) -> bool:
    return not gone or confirmed(f"Remove {'this' if len(gone) == 1 else f'all {len(gone)}'}?", yes=yes)


def places(paths: Paths, environ: Mapping[str, str], *, settings: bool = True) -> list[Path]:
    """What is there of ours: whole folders where they hold nothing else, below EDGE_ROUTER_HOME what we have
    made there, for that folder is the user's.
    """
    every = {getattr(paths, field.name) for field in fields(paths)} | {resident.folder(environ)}
    kept = set() if settings else {paths.config_file, paths.rules}
    found = list[Path]()
    for folder in sorted({each.parent for each in every}):  # one that holds others comes first
        if any(each in folder.parents for each in found):
            continue
        if environ.get(HOME_VARIABLE) or any(each.parent == folder for each in kept):
            found += sorted(set(_within(folder, {each.name for each in every})) - kept)
        elif folder.exists():
            found.append(folder)
    return found


def _within(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """Those, and what is named after them: locks, SQLite's logs, copies, drafts."""
    known = re.compile(rf"\.?(?:{'|'.join(map(re.escape, names))})(?:\..*|-wal|-shm|-journal)?")
    if folder.is_dir():
        yield from (each for each in folder.iterdir() if known.fullmatch(each.name))


def size_of(path: Path) -> int:
    if path.is_symlink() or path.is_file():
        return path.lstat().st_size
    return tree_bytes(path)


def _remove(gone: list[Path], installed: Service | None) -> None:
    """Raises `StorageError`, and what else keeps a file there."""
    if installed is not None:
        service.take_away(installed, service.run)
    running = runtime_file.running()
    if running is not None:
        told = f"a server of yours runs at {running.url}; end it first: process {running.pid}"
        output.say(f"error: {told}", style="red")
        raise typer.Exit(1)
    for path in gone:
        with storage_errors(path.parent):
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)
            if path.parent.name == OURS and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
