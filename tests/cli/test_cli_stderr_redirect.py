"""Native warnings find nobody; Python's own stderr still reaches the terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys

from edge_router.cli.terminal.stderr_redirect import hushed

NOISY = """
import logging, os, sys
from edge_router.cli.terminal.stderr_redirect import hushed
if sys.argv[1] == "debug":
    logging.getLogger().setLevel(logging.INFO)
try:
    with hushed():
        os.write(2, b"native\\n")
        print("ours", file=sys.stderr)
        if sys.argv[1] == "fail":
            raise ValueError("told after it")
finally:
    os.write(2, b"native again\\n")
"""


def noise(how: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", NOISY, how], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    return done.stderr.splitlines()


def test_native_warnings_find_nobody():
    assert noise("quiet") == ["ours", "native again"]


def test_an_error_is_heard_afterwards():
    lines = noise("fail")
    assert lines[:2] == ["ours", "native again"] and lines[-1] == "ValueError: told after it"


def test_with_debug_everything_is_heard():
    assert noise("debug") == ["native", "ours", "native again"]


def test_a_stderr_that_is_no_file_stays(monkeypatch):
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        with hushed():
            assert sys.stderr is stream


def test_a_stderr_elsewhere_stays(monkeypatch, tmp_path):
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        with hushed():
            assert sys.stderr is file
    assert os.fstat(2)
