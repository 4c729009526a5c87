from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge_router.config.sections import StrongConfig
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.engines.remote.keys import Key, NoKey
from edge_router.system.paths import Paths

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Callable[..., OpenAIEngine]:
    """make(url, key=..., offline=..., settings...): strong engines that are closed after the test."""

    def make(
        url: str, *, key: Key | NoKey | None = None, offline: bool = False, **settings: Any
    ) -> OpenAIEngine:
        defaults = {"model": "remote", "timeout_s": 0.3, "connect_timeout_s": 2.0, "max_retries": 0}
        config = StrongConfig(base_url=url, **{**defaults, **settings})
        engine = OpenAIEngine(config, offline=offline, keys=lambda _: key or NoKey())
        request.addfinalizer(engine.close)
        return engine

    return make


class RawEndpoint:
    """Answers each request with whatever `handler(write, number)` writes, byte for byte, until it hangs up."""

    def __init__(self, handler: Callable[[Callable[[bytes], None], int], None]) -> None:
        self._handler, self.heads, self.sent = handler, list[bytes](), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"{self.address}/v1"
        self._closed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        def write(data: bytes) -> None:
            if self._closed.is_set():
                raise OSError
            peer.sendall(data)
            self.sent += len(data)

        with contextlib.suppress(OSError), contextlib.closing(peer):
            peer.settimeout(30)
            head, _, body = self._until_blank_line(peer)
            length = re.search(rb"content-length: (\d+)", head.lower())
            while length and len(body) < int(length[1]):
                body += peer.recv(65536)
            self.heads.append(head)
            self._handler(write, len(self.heads))

    def _until_blank_line(self, peer: socket.socket) -> tuple[bytes, bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = peer.recv(65536)
            if not piece:
                raise OSError
            data += piece
        return data.partition(b"\r\n\r\n")


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Callable[..., RawEndpoint]:
    """endpoint(handler): servers on loopback that are closed after the test; see `RawEndpoint`."""

    def start(handler: Callable[[Callable[[bytes], None], int], None]) -> RawEndpoint:
        started = RawEndpoint(handler)
        request.addfinalizer(started.close)
        return started

    return start


@pytest.fixture(scope="session")
def reference_llama() -> Callable[..., Any]:
    """reference_llama(model directory, ...) -> a `ReferenceLlama`, see tests/reference_llama.py."""
    file = Path(__file__).parents[1] / "reference_llama.py"
    spec = importlib.util.spec_from_file_location("reference_llama", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return functools.cache(module.ReferenceLlama)


@pytest.fixture(scope="session")
def batch_model(built_home: Path, built_model: CompiledModel) -> CompiledModel:
    """The demo model again, compiled for four sequences at once."""
    from edge_router.compile.pipeline import BuildSettings, ensure

    return ensure(built_model.card, BuildSettings(max_sequences=4), paths=Paths.under(built_home))
