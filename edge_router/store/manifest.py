"""An artifact's manifest: what went in, which files came out, their sizes and sha256.

A folder is an artifact when its manifest is there and every file has the size that the manifest states; the
manifest is written last. Before an artifact is used each file is looked at: one that changed in size or time
since it was last found right is read and held against its sha256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from edge_router.errors import ArtifactCorrupt
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.disk import stamp, write_text

MANIFEST = "manifest.json"
STAMPS = ".stamps.json"  # of the files as they were last found right
FORMAT = 1  # of the manifest and the folder; another number is another artifact
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """One complete artifact. Times in seconds since 1970; `bytes` counts its files without the manifest."""

    kind: str
    key: str
    path: Path
    bytes: int
    created: float
    last_used: float
    version: str  # edge_router's, when it was built
    inputs: Mapping[str, object] = field(hash=False)

    @property
    def model(self) -> str:
        return str(self.inputs.get("model", ""))


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in the store that is no complete artifact: half-written, changed, or left over."""

    path: Path
    reason: str
    bytes: int


def write_manifest(folder: Path, kind: str, key: str, inputs: Mapping[str, object]) -> None:
    """Describes every file below `folder`. `inputs` must be JSON."""
    import edge_router

    files = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    manifest = {
        "format": FORMAT,
        "version": edge_router.__version__,
        "kind": kind,
        "key": key,
        "created": time.time(),
        "inputs": dict(inputs),
        "files": files,
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))


def read_record(folder: Path) -> ArtifactRecord:
    """The quick check: the manifest is readable and every file has its size. Raises `ArtifactCorrupt`."""
    manifest = _manifest(folder)
    total = 0
    for name, entry in _files(folder, manifest):
        try:
            found = (folder / name).stat().st_size
        except OSError as error:
            raise ArtifactCorrupt(folder, f"{name} is missing") from error
        if found != entry["bytes"]:
            raise ArtifactCorrupt(folder, f"{name} has {found} bytes instead of {entry['bytes']}")
        total += found
    try:
        return ArtifactRecord(
            kind=folder.parent.name,
            key=folder.name,
            path=folder,
            bytes=total,
            created=float(manifest["created"]),
            last_used=(folder / MANIFEST).stat().st_mtime,
            version=str(manifest["version"]),
            inputs=dict(manifest["inputs"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactCorrupt(folder, f"{MANIFEST} is incomplete: {error}") from error


def stated_sha256(folder: Path, name: str) -> object:
    """Of a file, as the manifest has it; None where that has none. Raises `ArtifactCorrupt`."""
    return dict(_files(folder, _manifest(folder))).get(name, {}).get("sha256")


def check_contents(folder: Path) -> None:
    """The full check: the sha256 of every file. Raises `ArtifactCorrupt`."""
    _check(folder, {})


def check_unchanged(folder: Path) -> None:
    """The check before use: reads what changed since it was last found right. Raises `ArtifactCorrupt`."""
    known = {}
    with contextlib.suppress(OSError, strict_json.NotJson):
        known = strict_json.read_object(folder / STAMPS)
    _check(folder, known)


def remember(folder: Path) -> None:
    """Notes that the files are right as they lie: they have just been written."""
    _write_stamps(folder, {name: stamp(folder / name) for name, _ in _files(folder, _manifest(folder))})


def _check(folder: Path, known: Mapping[str, object]) -> None:
    read_record(folder)
    seen: dict[str, str] = {}
    for name, entry in _files(folder, _manifest(folder)):
        seen[name] = stamp(folder / name)  # before it is read, so that a change meanwhile is seen next time
        if known.get(name) != seen[name] and _sha256(folder / name) != entry.get("sha256"):
            raise ArtifactCorrupt(folder, f"{name} has changed since it was built")
    if seen != known:
        _write_stamps(folder, seen)


def _write_stamps(folder: Path, stamps: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError):  # a store that can't be written to is read again each time
        write_text(folder / STAMPS, json.dumps(dict(stamps), indent=1))


def touch(folder: Path) -> None:
    """Notes that the artifact is in use now; a store that can't be written to goes without."""
    with contextlib.suppress(OSError):
        os.utime(folder / MANIFEST)


def changed_inputs(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    """Names of the inputs that differ, nested ones with dots: ("target.cpu", "tvm")."""
    names: list[str] = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            names += [f"{name}.{inner}" for inner in changed_inputs(before, after)]
        elif _plain(before) != _plain(after):
            names.append(name)
    return tuple(names)


def _plain(value: object) -> object:
    """As JSON would give it back: a tuple is a list there."""
    return strict_json.parse(json.dumps(value))


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = strict_json.read_object(folder / MANIFEST)
    except FileNotFoundError as error:
        raise ArtifactCorrupt(folder, f"{MANIFEST} is missing, so it was never finished") from error
    except (OSError, ValueError) as error:
        raise ArtifactCorrupt(folder, f"{MANIFEST} cannot be read: {error}") from error
    if manifest.get("format") != FORMAT:
        raise ArtifactCorrupt(folder, f"{MANIFEST} is not of format {FORMAT}")
    return manifest


def _files(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    files = manifest.get("files")
    fits = isinstance(files, dict) and all(isinstance(e, dict) and "bytes" in e for e in files.values())
    if not fits:
        raise ArtifactCorrupt(folder, f"{MANIFEST} does not list its files")
    return list(files.items()) if isinstance(files, dict) else []


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
