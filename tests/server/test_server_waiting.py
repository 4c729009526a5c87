"""A server whose weak model lies in another one that is not there yet."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from local_servers import QWEN, WORDS, Ollama, StandIn

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.config.sections import ServerConfig
from edge_router.errors import EdgeRouterError
from edge_router.server.serve import run
from edge_router.system.paths import Paths

pytestmark = pytest.mark.integration


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """One that nobody else gets, and where nobody listens."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held


def asked(url: str, text: str = "hi", model: str = "auto") -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


@pytest.mark.parametrize("strong", [True, False])
def test_it_serves_without_it_and_takes_it_once_it_is_there(
    strong: bool, port: socket.socket, paths: Paths, no_proxy: None
) -> None:
    number = port.getsockname()[1]
    settings = {"weak.engine": "remote", "weak.model": QWEN, "weak.base_url": f"http://127.0.0.1:{number}"}
    controller = Controller(
        Config().replace(**settings),
        strong=ScriptedEngine(default="big", model_id="big") if strong else None,
        router=ScriptedRouter(0.1),
        paths=paths,
    )
    waiting, urls = list[EdgeRouterError](), list[str]()
    ready, stop = threading.Event(), threading.Event()

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    thread = threading.Thread(
        target=run,
        args=(controller, ServerConfig(port=0)),
        kwargs={"on_ready": on_ready, "on_waiting": waiting.append, "stop": stop},
    )
    thread.start()
    try:
        assert ready.wait(60) and [type(each).__name__ for each in waiting] == ["LocalServerDown"]
        reply = asked(urls[0])
        if strong:
            assert reply.json()["choices"][0]["message"]["content"] == "big"
            assert reply.headers["x-edge-router-reason"] == "weak_unavailable"
            reply = asked(urls[0], model="weak")
        assert reply.status_code == 503 and "The weak model's server is not there: " in reply.text
        port.close()
        server = StandIn(Ollama, number)
        try:
            until = time.monotonic() + 60
            while (reply := asked(urls[0], model="weak")).status_code == 503 and time.monotonic() < until:
                time.sleep(0.05)
            assert reply.json()["choices"][0]["message"]["content"] == "".join(WORDS)
        finally:
            server.close()
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
