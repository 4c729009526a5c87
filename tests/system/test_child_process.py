"""This Python once more: where that can be had, and what it finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_router.system import child_process


@pytest.mark.parametrize(
    ("executable", "can"),
    [
        ("/usr/bin/python3.12", True),
        ("C:/Python/pythonw.exe", True),
        ("/opt/pypy/bin/pypy3", True),
        ("/Applications/Painter", False),
        ("", False),
        (None, False),
    ],
)
def test_a_program_that_embeds_python_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, executable: str | None, can: bool
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    assert child_process.can_start() is can


def test_nor_is_a_frozen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert child_process.can_start()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not child_process.can_start()


def test_it_finds_what_this_process_finds_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "brought_along.py").write_text("name = 'found'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    with child_process.start(["-c", "import json, brought_along; print(brought_along.name)"]) as child:
        out, _ = child.communicate()
    assert (out.strip(), child.returncode) == (b"found", 0)
