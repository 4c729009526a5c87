"""Every test works in its own folder; slow things are made once a session."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from edge_router.paths import Paths

settings.register_profile("default", deadline=None, max_examples=60)  # no test is judged by its time
settings.load_profile("default")


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


class StrongServer:
    """A remote model in its own process; tests/strong_server.py says what its scripts do."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def url(self, script: str = "ok") -> str:
        """The base_url of an endpoint that behaves as `script` says."""
        return f"{self.address}/{script}/v1"

    def requests(self) -> list[dict[str, Any]]:
        """What it was asked: path, headers (names in lower case), body, gone (the client hung up on it)."""
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.address) as reply:
            return json.loads(reply.read())

    def forget(self) -> None:
        request = urllib.request.Request(f"{self.address}/forget", data=b"{}", method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()


@pytest.fixture(scope="session")
def strong_process() -> Iterator[StrongServer]:
    script = Path(__file__).with_name("strong_server.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield StrongServer(int(process.stdout.readline()))
        process.stdin.close()


@pytest.fixture
def strong_server(strong_process: StrongServer, monkeypatch: pytest.MonkeyPatch) -> StrongServer:
    """`strong_server.url("429-1")`, `.requests()`; nothing is left of the last test's."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    strong_process.forget()
    return strong_process


@pytest.fixture
def refused_url() -> Iterator[str]:
    """A base_url where nobody listens: the port is taken, so that nobody else can begin to."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
