"""What models have read of prompts, kept for the next start: artifacts of bounded size, for their user alone.

Each is one file of numbers, the keys and values of a prompt's first tokens as an engine lays them out, and is
found by the hash of all that they follow from. Nothing of it is believed: what does not have the size and the
sha256 that its manifest states, or was made from something else, is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from edge_router.errors import ArtifactCorrupt, LockTimeout, StorageError
from edge_router.parsing.sizes import binary
from edge_router.store.artifacts import ArtifactStore
from edge_router.store.manifest import read_record, stated_sha256, touch
from edge_router.system.disk import require_space, storage_errors
from edge_router.types import Progress, SilentProgress

KIND = "prefix"
_FILE = "pages.bin"
_SPARE = 1 << 20  # bytes that the disk has left when one is written

Inputs: TypeAlias = Mapping[str, object]  # JSON
Read: TypeAlias = Callable[[memoryview], None]  # fills it; raises where there is less
Write: TypeAlias = Callable[[memoryview], None]


class PrefixStore:
    """At most `most` bytes below `root`; what was used the longest ago goes first. For any number of threads
    and processes. What the file system refuses is told once, and never raised."""

    def __init__(self, root: Path, most: int, progress: Progress | None = None) -> None:
        self._root, self._most = root, most
        self._progress = progress or SilentProgress()
        self._store = ArtifactStore(root, lock_timeout_s=0)
        self._told = set[object]()

    def read(self, inputs: Inputs, size: int, take: Callable[[Read], None]) -> bool:
        """Whether there is one of `size` bytes, which `take` has read then. Where `take` was called and there
        is none after all, what it has read is not to be used. Raises what `take` raises."""
        folder = self._root / KIND / _key(inputs)
        try:
            if not folder.is_dir():
                return False
            self._read(folder, inputs, size, take)
        except (ArtifactCorrupt, EOFError) as error:
            self._remove(folder.name)
            self.tell("damage", f"the beginning of a prompt is read again, for its file was damaged: {error}")
            return False
        except OSError as error:
            self.tell(type(error), f"the beginning of a prompt is read again: {error}")
            return False
        touch(folder)
        return True

    def _read(self, folder: Path, inputs: Inputs, size: int, take: Callable[[Read], None]) -> None:
        record = read_record(folder)
        if record.inputs != inputs or record.bytes != size:
            raise ArtifactCorrupt(folder, "it was made from something else")
        digest = hashlib.sha256()
        with (folder / _FILE).open("rb", buffering=0) as file:

            def read(target: memoryview) -> None:
                rest = target.cast("B")
                while rest:
                    count = file.readinto(rest)
                    if not count:
                        raise EOFError(f"{folder / _FILE} ends too early")
                    digest.update(rest[:count])
                    rest = rest[count:]

            take(read)
            if digest.hexdigest() != stated_sha256(folder, _FILE) or file.read(1):
                raise ArtifactCorrupt(folder, f"{_FILE} has changed since it was written")

    def write(self, inputs: Inputs, size: int, give: Callable[[Write], None]) -> None:
        """Keep `size` bytes, which `give` writes, unless they are there or another process is writing them.
        Raises what `give` raises."""
        if size > self._most:
            most = f"weak.keep_max_size is {binary(self._most)}"
            self.tell("size", f"the beginning of a prompt takes {binary(size)} and is not kept: {most}")
            return

        def build(folder: Path) -> None:
            folder.chmod(0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            with os.fdopen(os.open(folder / _FILE, flags, 0o600), "wb") as file:
                give(lambda data: _write_all(file.write, data))

        try:
            with storage_errors(self._root):
                self._root.mkdir(parents=True, exist_ok=True)
                require_space(self._root, size + _SPARE)
                folder = self._store.obtain(KIND, _key(inputs), build, inputs=inputs)
                self._make_room(folder.name)
        except LockTimeout:  # of who writes the very same
            return
        except (StorageError, OSError) as error:
            self.tell(type(error), f"beginnings of prompts are not kept: {error}")

    def tell(self, kind: object, text: str) -> None:
        """The first of its kind."""
        if kind not in self._told:
            self._told.add(kind)
            self._progress.note(text)

    def _make_room(self, newest: str) -> None:
        records = self._store.scan(KIND).records
        over = sum(each.bytes for each in records) - self._most
        for each in reversed(records):  # the newest use comes first
            if over > 0 and each.key != newest:
                self._remove(each.key)
                over -= each.bytes

    def _remove(self, key: str) -> None:
        self._store.plan_removal(kind=KIND, keys=[key]).execute()


def _write_all(write: Callable[[memoryview], int], data: memoryview) -> None:
    write(data.cast("B"))


def _key(inputs: Inputs) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
