"""runtime.json: a server that runs is found, one that has died is not, and others' files are not believed."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from edge_router.cli.chat.resident import FILE, folder
from edge_router.cli.runtime_file import RuntimeFile, running

URL = "http://127.0.0.1:7070"


def left(url: str = URL) -> RuntimeFile:
    file = RuntimeFile()
    file.prepare()
    file.write(url, {})
    return file


def test_a_server_that_runs_is_found_until_it_ends() -> None:
    assert running() is None
    file = left()
    found = running()
    assert found is not None and (found.pid, found.url) == (os.getpid(), URL)
    assert file.remove() and running() is None
    assert list(folder().iterdir()) == [] and not file.remove()


def test_one_that_listens_everywhere_is_reached_here() -> None:
    for url, reached in (("http://0.0.0.0:1", "http://127.0.0.1:1"), ("http://[::]:1", "http://[::1]:1")):
        left(url)
        found = running()
        assert found is not None and found.url == reached, url


@pytest.mark.skipif(sys.platform == "win32", reason="who may read a file is said in another way there")
def test_only_its_user_may_read_it_and_nothing_else_is_believed() -> None:
    left()
    assert stat.S_IMODE((folder() / FILE).stat().st_mode) == 0o600
    for path in (folder() / FILE, folder()):
        mode = path.stat().st_mode
        path.chmod(mode | 0o004)
        assert running() is None, path
        path.chmod(mode)
    assert running() is not None


def test_what_a_dead_server_has_left_is_not_found() -> None:
    left()
    began = json.loads((folder() / FILE).read_text())["started"]
    assert running(lambda pid: None) is None, "no process has that number"
    assert running(lambda pid: began + 60) is None, "another process has its number by now"
    assert running(lambda pid: began + 0.1) is not None


def test_what_is_no_such_file_is_nothing() -> None:
    left()
    for text in ("", "[]", "{}", '{"pid": "x"}', '{"pid": 1e999, "url": 3}'):
        (folder() / FILE).write_text(text)
        assert running() is None, text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
def test_a_pipe_or_a_folder_in_its_place_keeps_nobody_waiting() -> None:
    left()
    (folder() / FILE).unlink()
    os.mkfifo(folder() / FILE, 0o600)
    assert running() is None
    (folder() / FILE).unlink()
    (folder() / FILE).mkdir(0o700)
    assert running() is None


def test_a_later_servers_is_left_alone(home: Path) -> None:
    first, second = left(), left("http://127.0.0.1:8080")
    assert not first.remove()
    found = running()
    assert found is not None and found.url.endswith(":8080")
    assert second.remove()


def test_what_is_added_is_found_but_not_in_a_later_servers() -> None:
    first = left()
    first.add({"dashboard": f"{URL}/?token=1"})
    found = running()
    assert found is not None and found.dashboard == f"{URL}/?token=1" and found.url == URL
    left("http://127.0.0.1:8080")
    first.add({"dashboard": f"{URL}/?token=2"})
    found = running()
    assert found is not None and (found.dashboard, found.url) == (None, "http://127.0.0.1:8080")
