"""A store in a temporary folder, and what it reports."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from edge_router.store import ArtifactStore
from edge_router.types import SilentProgress, Step


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:
        return super().step(name, total, unit)

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def store(root: Path, notes: Notes) -> ArtifactStore:
    return ArtifactStore(root, progress=notes)


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be made; root may write wherever the kernel lets anybody."""
    if not hasattr(os, "geteuid"):
        pytest.skip("folders cannot be made read-only here")
    if os.geteuid() == 0:
        yield Path("/sys/edge_router")
        return
    folder = tmp_path / "unwritable"
    folder.mkdir(mode=0o555)
    yield folder
    folder.chmod(0o755)
