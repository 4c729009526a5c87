"""Every test works in its own folder; slow things are made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_router.paths import Paths


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh EDGE_ROUTER_HOME, and no setting of the machine that runs the tests."""
    import os

    for name in [name for name in os.environ if name.startswith("EDGE_ROUTER_") or name == "OPENAI_API_KEY"]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(folder))
    return folder


@pytest.fixture
def paths(home: Path) -> Paths:
    return Paths.under(home)
