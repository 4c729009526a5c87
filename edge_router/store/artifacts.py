"""`ArtifactStore`: one folder per fingerprint, built once, published whole or not at all.

Layout: root/KIND/KEY/ is an artifact, root/KIND/.KEY.partial/ one being built, root/KIND/.KEY.lock its lock.
Whoever holds the lock owns the partial folder, so a partial folder whose lock is free is a leftover.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from edge_router.errors import ArtifactCorrupt, DiskFull, EdgeRouterError, LockTimeout
from edge_router.store.manifest import (
    MANIFEST,
    ArtifactRecord,
    Damage,
    changed_inputs,
    check_contents,
    check_unchanged,
    read_record,
    remember,
    touch,
    write_manifest,
)
from edge_router.store.removal import Inventory, RemovalPlan
from edge_router.system.disk import (
    flush,
    free_bytes,
    hold,
    is_held,
    publish,
    remove_tree,
    storage_errors,
    tree_bytes,
)
from edge_router.types import Progress, SilentProgress

Build = Callable[[Path], None]
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BROKEN_BELOW = 1 << 20  # with less than this free, a build that failed failed for want of space


class ArtifactStore:
    """Safe to use from several threads and processes at once, on every platform."""

    def __init__(
        self, root: Path, *, progress: Progress | None = None, lock_timeout_s: float = 1800.0
    ) -> None:
        self._root, self._timeout = root, lock_timeout_s
        self._progress = progress or SilentProgress()

    def find(self, kind: str, key: str) -> Path | None:
        """The folder of a complete artifact; None if there is none or it is damaged, which is noted.

        Looks at sizes and times, well under a millisecond per file; what changed is read once.
        """
        folder = self._folder(kind, key)
        complete, damage = _look(folder)
        if damage is not None:
            self._progress.note(f"a damaged {kind} artifact counts as absent: {damage}")
        return folder if complete else None

    def obtain(
        self,
        kind: str,
        key: str,
        build: Build,
        *,
        inputs: Mapping[str, object],
        check: Build | None = None,
    ) -> Path:
        """The artifact's folder, built now if it is not there or damaged.

        `build(folder)` fills an empty folder, `check(folder)` raises if the result does not load; both run
        before anything is published. `inputs` (JSON) is what the key was computed from. Raises what they
        raise, `DiskFull`, `NotWritable`, or `LockTimeout` when another process builds the same for too long.
        """
        found = self.find(kind, key)
        if found is not None:
            return found
        folder = self._folder(kind, key)
        with storage_errors(self._root):
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(folder.parent)
            doing = f"builds the same {kind}"
            with hold(_lock_of(folder), timeout_s=self._timeout, progress=self._progress, doing=doing):
                complete, _ = _look(folder)  # whoever held the lock may have built it just now
                if not complete:
                    self._make(folder, build, inputs, check)
                return folder

    def verify(self, record: ArtifactRecord) -> None:
        """Reads every byte. Raises `ArtifactCorrupt`."""
        check_contents(record.path)

    def scan(self, kind: str | None = None) -> Inventory:
        """Everything in the store, or of one kind, newest use first."""
        records: list[ArtifactRecord] = []
        damaged: list[Damage] = []
        for folder in self._folders(kind):
            if folder.name.startswith("."):
                if folder.suffix == ".partial" and not is_held(_lock_of(folder)):
                    damaged.append(
                        Damage(folder, "left over from a build that was broken off", tree_bytes(folder))
                    )
                continue
            try:
                records.append(read_record(folder))
            except ArtifactCorrupt as error:
                damaged.append(Damage(folder, error.reason, tree_bytes(folder)))
        records.sort(key=lambda record: -record.last_used)
        return Inventory(tuple(records), tuple(damaged))

    def nearest(self, kind: str, inputs: Mapping[str, object]) -> ArtifactRecord | None:
        """The newest artifact of this kind and `inputs["model"]` that was built from something else.

        With `changed_inputs(record.inputs, inputs)` it tells why something is built again.
        """
        candidates = [
            record
            for record in self.scan().records
            if record.kind == kind
            and record.inputs.get("model") == inputs.get("model")
            and changed_inputs(record.inputs, inputs)
        ]
        return max(candidates, key=lambda record: record.created, default=None)

    def plan_removal(
        self,
        *,
        kind: str | None = None,
        model: str | None = None,
        keys: Collection[str] | None = None,
        older_than_s: float | None = None,
        unused_for_s: float | None = None,
        other_versions: bool = False,
    ) -> RemovalPlan:
        """What would go; every condition that is given must hold. Without `model`, damaged things go along.

        `keys` may be beginnings of keys. `other_versions` means built by another edge_router than this one.
        """
        import edge_router

        now = time.time()

        def goes(record: ArtifactRecord) -> bool:
            return (
                (model is None or record.model.lower() == model.lower())
                and (keys is None or any(record.key.startswith(key) for key in keys))
                and (older_than_s is None or now - record.created > older_than_s)
                and (unused_for_s is None or now - record.last_used > unused_for_s)
                and (not other_versions or record.version != edge_router.__version__)
            )

        inventory = self.scan(kind)
        damaged = [
            item
            for item in inventory.damaged
            if model is None and (keys is None or any(_key_of(item.path).startswith(key) for key in keys))
        ]
        return RemovalPlan(tuple(filter(goes, inventory.records)), tuple(damaged), self._remove)

    def _make(self, folder: Path, build: Build, inputs: Mapping[str, object], check: Build | None) -> None:
        partial = _partial_of(folder)
        for leftover in (partial, folder):
            if leftover.exists():
                remove_tree(leftover)
        partial.mkdir()
        try:
            build(partial)
            if check is not None:
                check(partial)
            write_manifest(partial, folder.parent.name, folder.name, inputs)
            flush(partial)
            publish(partial, folder, last=MANIFEST)
            remember(folder)
        except Exception as error:
            # Compilers and linkers report a full disk in words of their own.
            full = not isinstance(error, EdgeRouterError | OSError) and free_bytes(self._root) < _BROKEN_BELOW
            if full:
                raise DiskFull(self._root, None, free_bytes(self._root)) from error
            raise
        finally:
            if partial.exists():
                self._discard(partial)

    def _remove(self, folder: Path) -> str | None:
        name = _lock_of(folder)
        try:
            with hold(name, timeout_s=0, progress=SilentProgress(), doing=""):
                remove_tree(folder)
        except LockTimeout:
            return "another process is building it"
        except OSError as error:
            return error.strerror or str(error)
        return None

    def _sweep(self, parent: Path) -> None:
        """Leftovers of builds whose process is gone; one that cannot be removed shows in the next scan."""
        for partial in parent.glob(".*.partial"):
            self._remove(partial)

    def _discard(self, partial: Path) -> None:
        try:
            remove_tree(partial)
        except OSError as error:  # it takes space and nothing else
            self._progress.note(f"{partial} could not be removed: {error.strerror}")

    def _folders(self, kind: str | None) -> Iterator[Path]:
        if self._root.is_dir():
            for parent in sorted(self._root.iterdir()):
                if parent.is_dir() and kind in (None, parent.name):
                    yield from (item for item in sorted(parent.iterdir()) if item.is_dir())

    def _folder(self, kind: str, key: str) -> Path:
        for name in (kind, key):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name an artifact")
        return self._root / kind / key


def _partial_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _key_of(folder: Path) -> str:
    """The key of an artifact, also of its partial folder."""
    return folder.name.removeprefix(".").removesuffix(".partial")


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{_key_of(folder)}.lock")


def _look(folder: Path) -> tuple[bool, str | None]:
    """Whether a complete artifact is there, which then counts as used now; else what is wrong."""
    if not folder.is_dir():
        return False, None
    try:
        check_unchanged(folder)
    except ArtifactCorrupt as error:
        return False, error.reason
    touch(folder)
    return True, None
