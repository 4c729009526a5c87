"""sha256 of files and folders, remembered for as long as a file's size and times stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_router.paths import Paths
from edge_router.types import Progress, SilentProgress

_BLOCK = 1 << 20


def content_hash(path: Path, *, memory: Path | None = None, progress: Progress | None = None) -> str:
    """sha256 in hexadecimal of a file's content, or of a folder's names and contents.

    Hidden files and folders (a leading dot) do not count. Remembered in `memory` (below the user's downloads
    if None), one small file per path, never beside the user's own files. Raises `OSError` if it can't be read.
    """
    path = path.absolute()
    folder = memory or Paths.default().downloads / "hashes"
    note = folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    known = _recall(note)
    files = list(_files(path))
    stamps = {name: _stamp(file) for name, file in files}
    fresh = {name: sum_ for name, sum_ in known.items() if stamps.get(name) == _parts(sum_)[0]}
    missing = [(name, file) for name, file in files if name not in fresh]
    if missing:
        total = sum(file.stat().st_size for _, file in missing)
        with (progress or SilentProgress()).step("check", total=total, unit="bytes") as step:
            for name, file in missing:
                fresh[name] = f"{stamps[name]} {file_sha256(file, step.advance)}"
        _remember(note, path, fresh)
    sums = {name: _parts(fresh[name])[1] for name, _ in files}
    if path.is_file():
        return sums[path.name]
    whole = hashlib.sha256()
    for name in sorted(sums):
        whole.update(f"{sums[name]}  {name}\n".encode())
    return whole.hexdigest()


def file_sha256(file: Path, advance: object = None) -> str:
    """sha256 of one file, read block by block; `advance(bytes)` is called as it goes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            if callable(advance):
                advance(len(block))
    return digest.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
        return
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), file


def _stamp(file: Path) -> str:
    """Changes whenever the content does: ctime also notices a copy that kept size and mtime (not on Windows)."""
    status = file.stat()
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _parts(entry: str) -> tuple[str, str]:
    stamp, _, digest = entry.partition(" ")
    return stamp, digest


def _recall(note: Path) -> dict[str, str]:
    try:
        data = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    files = data.get("files") if isinstance(data, dict) else None
    if not isinstance(files, dict):
        return {}
    return {str(name): entry for name, entry in files.items() if isinstance(entry, str)}


def _remember(note: Path, path: Path, files: Mapping[str, str]) -> None:
    text = json.dumps({"path": str(path), "files": dict(files)}, indent=1)
    with contextlib.suppress(OSError):  # a read-only home only costs the time of hashing again
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f"{note.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(note)
