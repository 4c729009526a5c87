"""What was fetched, written beside it: source, sizes, times and sha256 of every file.

The record is written before the files move to their place, so files in place without a record were put there
by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path

from edge_router.hub.hashing import file_sha256, list_files
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.disk import write_text
from edge_router.types import Progress


@dataclass(frozen=True, slots=True)
class FileRecord:
    bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FetchRecord:
    """`source` is the source as text; `origin` pins it: a wheel's sha256, a repository's commit.

    `files` are named relative to the fetched folder; a single fetched file has the name "".
    """

    source: str
    origin: str
    files: Mapping[str, FileRecord] = field(hash=False)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files.values())


def record_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.record.json")


def target_of_record(record: Path) -> Path:
    """The reverse of `record_path`."""
    return record.with_name(record.name.removeprefix(".").removesuffix(".record.json"))


def lock_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def partial_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def describe(path: Path, source: str, origin: str, *, progress: Progress) -> FetchRecord:
    """Reads every byte of a fetched file or folder."""
    found = list_files(path)
    total = sum(file.stat().st_size for file in found.values())
    with progress.step("check", total=total, unit="bytes") as step:
        files = {
            name: FileRecord(file.stat().st_size, file.stat().st_mtime_ns, file_sha256(file, step.advance))
            for name, file in found.items()
        }
    return FetchRecord(source, origin, files)


def write_record(target: Path, record: FetchRecord) -> None:
    files = {
        name: {"bytes": file.bytes, "mtime_ns": file.mtime_ns, "sha256": file.sha256}
        for name, file in record.files.items()
    }
    data = {"source": record.source, "origin": record.origin, "files": files}
    write_text(record_path(target), json.dumps(data, indent=1))


def read_record(target: Path) -> FetchRecord | None:
    """None where there is none, or none that can be read."""
    try:
        data = strict_json.read(record_path(target))
        files = {
            str(name): FileRecord(int(file["bytes"]), int(file["mtime_ns"]), str(file["sha256"]))
            for name, file in data["files"].items()
        }
        return FetchRecord(str(data["source"]), str(data["origin"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def damage(target: Path, record: FetchRecord, *, full: bool = False) -> str | None:
    """What no longer fits `record`, or None. A file whose size and time fit is not read unless `full`.

    Where the content fits but the times don't (the folder was copied), the record is brought up to date.
    """
    times: dict[str, int] = {}
    for name, expected in record.files.items():
        file = target / name if name else target
        label = name or target.name
        try:
            status = file.stat()
            times[name] = status.st_mtime_ns
            if status.st_size != expected.bytes:
                return f"{label} has {status.st_size} bytes instead of {expected.bytes}"
            changed = full or status.st_mtime_ns != expected.mtime_ns
            if changed and file_sha256(file) != expected.sha256:
                return f"{label} has another sha256 than when it was fetched"
        except OSError as error:
            return f"{label} cannot be read: {error.strerror}"
    files = {name: replace(file, mtime_ns=times[name]) for name, file in record.files.items()}
    if files != record.files:
        with suppress(OSError):  # a read-only folder only costs the time of reading it again
            write_record(target, replace(record, files=files))
    return None
