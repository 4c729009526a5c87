"""The content-keyed artifact store: what was built is found by the fingerprint of everything that went in."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from edge_router.errors import LockTimeout
from edge_router.types import Progress, SilentProgress

MANIFEST = "manifest.json"


class ArtifactStore:
    def __init__(
        self, root: Path, *, progress: Progress | None = None, lock_timeout_s: float = 1800.0
    ) -> None:
        self._root, self._timeout = root, lock_timeout_s
        self._progress = progress or SilentProgress()

    def find(self, kind: str, key: str) -> Path | None:
        """The folder of a complete artifact; None if there is none or it is damaged."""
        folder = self._root / kind / key
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            whole = all(
                (folder / name).stat().st_size == size for name, (size, _) in manifest["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return folder if whole else None

    def obtain(
        self,
        kind: str,
        key: str,
        build: Callable[[Path], None],
        *,
        inputs: Mapping[str, object],
        check: Callable[[Path], None] | None = None,
    ) -> Path:
        """The artifact, built now if it is not there."""
        found = self.find(kind, key)
        if found is not None:
            return found
        folder = self._root / kind / key
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.parent / f".{key}.lock"
        try:
            with FileLock(lock, timeout=self._timeout):
                return self.find(kind, key) or self._make(folder, build, inputs, check)
        except Timeout as error:
            raise LockTimeout(lock, self._timeout) from error

    def _make(
        self,
        folder: Path,
        build: Callable[[Path], None],
        inputs: Mapping[str, object],
        check: Callable[[Path], None] | None,
    ) -> Path:
        partial = folder.parent / f".{folder.name}.partial"
        for old in (partial, folder):
            if old.exists():
                shutil.rmtree(old)
        partial.mkdir()
        build(partial)
        if check is not None:
            check(partial)
        files = {
            file.relative_to(partial).as_posix(): (
                file.stat().st_size,
                hashlib.sha256(file.read_bytes()).hexdigest(),
            )
            for file in sorted(partial.rglob("*"))
            if file.is_file()
        }
        manifest = {"inputs": dict(inputs), "files": files, "created": time.time()}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        os.replace(partial, folder)
        return folder
