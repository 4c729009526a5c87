"""sha256 of files and folders, remembered for as long as a file's size and times stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_router.parsing import strict_json
from edge_router.system.disk import stamp, write_text
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress

_BLOCK = 1 << 20


def content_hash(path: Path, *, memory: Path | None = None, progress: Progress | None = None) -> str:
    """sha256 in hexadecimal of a file's content, or of a folder's names and contents.

    Hidden files and folders (a leading dot) do not count. What was read is remembered in the folder `memory`
    (below the user's downloads if None), never beside the user's own files, so that the next call takes
    microseconds per file. Raises `OSError` where something can't be read.
    """
    path = path.absolute()
    folder = memory or Paths.default().downloads / "hashes"
    note = folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    files = list_files(path)
    stamps = {name: stamp(file) for name, file in files.items()}
    known = _recall(note)
    sums = {name: known[name][1] for name, seen in stamps.items() if known.get(name, ("",))[0] == seen}
    unread = {name: file for name, file in files.items() if name not in sums}
    if unread:
        total = sum(file.stat().st_size for file in unread.values())
        with (progress or SilentProgress()).step("check", total=total, unit="bytes") as step:
            for name, file in unread.items():
                sums[name] = file_sha256(file, step.advance)
        _remember(note, path, {name: (stamps[name], sums[name]) for name in files})
    if not path.is_dir():
        return sums[""]
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def list_files(path: Path) -> dict[str, Path]:
    """Every file below `path` but hidden ones, by its name there; "" is the name of a single file."""
    if not path.is_dir():
        return {"": path}
    found = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = file
    return found


def file_sha256(file: Path, advance: Callable[[int], None] | None = None) -> str:
    """sha256 of one file, read block by block; `advance(bytes)` is called as it goes."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            if advance is not None:
                advance(len(block))
    return digest.hexdigest()


def _recall(note: Path) -> dict[str, tuple[str, str]]:
    try:
        data = strict_json.read(note)
        return {str(name): (str(seen), str(digest)) for name, (seen, digest) in data["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(note: Path, path: Path, files: Mapping[str, tuple[str, str]]) -> None:
    text = json.dumps({"path": str(path), "files": dict(files)}, indent=1)
    with contextlib.suppress(OSError):  # a read-only home only costs the time of hashing again
        note.parent.mkdir(parents=True, exist_ok=True)
        write_text(note, text)
