"""The rate of the last fetch: kept where it says something, and never in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_router.hub.rate import measured_rate, note_rate

pytestmark = pytest.mark.integration  # a test runs pip

MIB = 1 << 20


def test_the_last_fetch_that_was_large_enough_tells(tmp_path: Path) -> None:
    assert measured_rate(tmp_path) is None
    note_rate(tmp_path, 40 * MIB, 4.0)
    note_rate(tmp_path, 1 * MIB, 4.0)  # mostly waiting
    note_rate(tmp_path, 40 * MIB, 0.1)
    assert measured_rate(tmp_path) == 10 * MIB
    for damage in ("", "[]", '{"bytes_per_s": "fast"}', '{"bytes_per_s": -1}'):
        (tmp_path / "rate.json").write_text(damage, encoding="utf-8")
        assert measured_rate(tmp_path) is None, damage
    note_rate(tmp_path / "nowhere", 40 * MIB, 4.0)


def test_a_fetch_is_timed(
    index: Any, make_wheel: Any, source_of: Any, downloads: Path, monkeypatch: Any
) -> None:
    from edge_router import hub

    source = source_of(make_wheel(index.folder))
    noted: list[int] = []
    monkeypatch.setattr(hub, "note_rate", lambda folder, count, seconds: noted.append(count))
    path = hub.fetch(source, downloads)
    assert noted == [path.stat().st_size]
    hub.fetch(source, downloads)
    assert len(noted) == 1, "what is here already says nothing of the network"
