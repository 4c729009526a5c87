"""A log keeps to its size, in the order in which it was written, and costs no answer."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from edge_router.system.rotating_file import RotatingFile


def test_what_is_full_goes_on_in_another_and_the_oldest_goes(tmp_path: Path) -> None:
    log = RotatingFile(tmp_path / "logs" / "serve.log", most_bytes=20, kept=2)
    for number in range(10):
        log.write(f"line {number}\n")
    log.close()
    found = {file.name: file.read_text() for file in (tmp_path / "logs").iterdir()}
    assert found == {
        "serve.log": "line 8\nline 9\n",
        "serve.log.1": "line 6\nline 7\n",
        "serve.log.2": "line 4\nline 5\n",
    }


def test_one_that_is_there_is_gone_on_with(tmp_path: Path) -> None:
    for word in ("one\n", "two\n", "a line that is longer than a whole file may be\n"):
        log = RotatingFile(tmp_path / "a.log", most_bytes=20)
        log.write(word)
        log.close()
    assert (tmp_path / "a.log.1").read_text() == "one\ntwo\n"
    assert (tmp_path / "a.log").read_text().startswith("a line")


@pytest.mark.skipif(sys.platform == "win32", reason="folders are written to in another way there")
def test_only_its_user_reads_it_and_what_cannot_be_written_is_lost(tmp_path: Path) -> None:
    log = RotatingFile(tmp_path / "a.log", most_bytes=8, kept=1)
    assert stat.S_IMODE((tmp_path / "a.log").stat().st_mode) == 0o600
    log.write("one two\n")
    (tmp_path / "a.log").unlink()
    (tmp_path / "a.log.1").mkdir()  # in whose place no file can come
    (tmp_path / "a.log.1" / "x").touch()
    (tmp_path / "a.log").touch()
    assert log.write("three\n") == 6
    (tmp_path / "a.log.1" / "x").unlink()
    (tmp_path / "a.log.1").rmdir()
    log.write("four\n")
    log.close()
    assert (tmp_path / "a.log").read_text() == "four\n"
