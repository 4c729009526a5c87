"""The socket: taken before anything is loaded, safe to reach, with its real port."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest

from edge_router import Controller
from edge_router.config.sections import ServerConfig
from edge_router.config.settings import Config
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import ConfigError, PortInUse, UnsafeBind
from edge_router.server.http import listen
from edge_router.server.http.listen import bind, ready_to_listen, refused, url_of
from edge_router.server.serve import run

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"


def test_a_free_port() -> None:
    with bind(HOST, 0, has_key=False) as listener:
        port = listener.getsockname()[1]
        assert port > 0 and url_of(listener) == f"http://127.0.0.1:{port}"


def test_a_port_that_another_server_listens_on() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            bind(HOST, port, has_key=False)
    assert (caught.value.host, caught.value.port) == (HOST, port)


def test_a_port_that_another_one_of_us_has_taken_while_it_loads() -> None:
    with bind(HOST, 0, has_key=False) as first, pytest.raises(PortInUse):
        bind(HOST, first.getsockname()[1], has_key=False)


def test_a_port_whose_last_connections_linger() -> None:
    first = bind(HOST, 0, has_key=False)
    port = first.getsockname()[1]
    ready_to_listen(first)
    first.listen()
    client = socket.create_connection((HOST, port))
    accepted, _ = first.accept()
    accepted.close()  # the side that closes first waits
    client.recv(1)
    client.close()
    first.close()
    with bind(HOST, port, has_key=False) as second:
        ready_to_listen(second)
        second.listen()
        assert second.getsockname()[1] == port


def test_small_packets_are_sent_at_once() -> None:
    """Else each reply waits for the client to acknowledge its headers, which takes 40 ms."""

    async def nodelay() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            seen.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = bind(HOST, 0, has_key=False)
        async with await asyncio.start_server(accept, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            found = await seen
            writer.close()
            return found

    assert asyncio.run(nodelay())


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_the_other_loopback() -> None:
    try:
        listener = bind("::1", 0, has_key=False)
    except ConfigError:
        pytest.skip("IPv6 is switched off on this machine")
    with listener:
        assert url_of(listener).startswith("http://[::1]:")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
def test_an_open_door_needs_a_lock(host: str) -> None:
    with pytest.raises(UnsafeBind) as caught:
        bind(host, 0, has_key=False)
    assert caught.value.host == host


def test_a_locked_door_may_be_open_to_all() -> None:
    with bind("0.0.0.0", 0, has_key=True) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_localhost_is_a_name_of_the_loopback() -> None:
    with bind("localhost", 0, has_key=False) as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")


NO_SUCH = pytest.param("no.such.host.invalid", marks=pytest.mark.integration)  # asks the system's resolver


@pytest.mark.parametrize("host", [NO_SUCH, "192.0.2.1", "a" * 300, "."])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bind(host, 0, has_key=True)
    assert caught.value.key == "server.host"


def test_what_the_system_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    no = PermissionError(errno.EACCES, "denied")
    monkeypatch.setattr(listen, "EXCLUSIVE", None)
    denied = refused(no, HOST, 80)
    assert isinstance(denied, ConfigError) and denied.key == "server.port"
    monkeypatch.setattr(listen, "EXCLUSIVE", -5)  # as on Windows
    assert isinstance(refused(no, HOST, 80), PortInUse)
    assert isinstance(refused(OSError(errno.EADDRINUSE, "busy"), HOST, 80), PortInUse)


class Unloadable:
    """A controller's place: loading takes for ever, so it must not begin."""

    def __init__(self) -> None:
        self.closed, self.config = False, Config()

    def warm(self) -> None:
        raise AssertionError("it loads before it has the port")

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("host", "error"), [(HOST, PortInUse), ("0.0.0.0", UnsafeBind)])
def test_nothing_is_loaded_in_vain(host: str, error: type[Exception]) -> None:
    controller: Any = Unloadable()
    with closing(socket.create_server((HOST, 0))) as other, pytest.raises(error):
        run(controller, ServerConfig(host=host, port=other.getsockname()[1]))
    assert controller.closed


def test_the_port_is_given_back_when_loading_fails() -> None:
    class Broken(Unloadable):
        def warm(self) -> None:
            raise MemoryError

    with bind(HOST, 0, has_key=False) as free:
        port = free.getsockname()[1]
    controller: Any = Broken()
    with pytest.raises(MemoryError):
        run(controller, ServerConfig(port=port))
    bind(HOST, port, has_key=False).close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a taken port is exclusive")
def test_a_port_that_somebody_listens_on_in_the_end(setup: Callable[..., Any]) -> None:
    """Two sockets that may share a port before one listens: the slower server is told when it would."""
    controller = setup().controller()
    with bind(HOST, 0, has_key=False) as free:
        port = free.getsockname()[1]
    faster = socket.socket()

    def warm() -> None:
        listener = next(frame for frame in listeners if frame.getsockname()[1] == port)
        ready_to_listen(listener)
        faster.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        faster.bind((HOST, port))
        faster.listen()

    listeners: list[socket.socket] = []
    controller.warm = warm
    with faster, pytest.MonkeyPatch.context() as patch, pytest.raises(PortInUse):
        patch.setattr(
            "edge_router.server.serve.bind", lambda *a, **k: listeners.append(bind(*a, **k)) or listeners[-1]
        )
        run(controller, ServerConfig(port=port))


def test_settings_come_from_the_controllers_configuration(setup: Callable[..., Any]) -> None:
    controller = setup().controller()
    controller.config = controller.config.replace(**{"server.port": 0})
    urls: list[str] = []
    stop = threading.Event()

    def on_ready(url: str) -> None:
        urls.append(url)
        stop.set()

    run(controller, on_ready=on_ready, stop=stop)
    assert urls[0].startswith("http://127.0.0.1:")


class Lingering(ScriptedEngine):
    """Closes only when it is let."""

    def __init__(self) -> None:
        super().__init__(model_id="small")
        self.may_close = threading.Event()

    def close(self) -> None:
        self.may_close.wait(30)
        super().close()


def test_a_model_that_takes_long_to_end_is_not_waited_for(setup: Callable[..., Any]) -> None:
    weak, stop = Lingering(), threading.Event()
    stop.set()
    assert run(setup(weak=weak).controller(), ServerConfig(port=0), stop=stop) is False
    weak.may_close.set()
    other = setup()
    assert run(other.controller(), ServerConfig(port=0), stop=stop) is True
    assert other.weak.closed


@pytest.mark.integration
def test_what_breaks_while_it_closes_is_raised(setup: Callable[..., Any]) -> None:
    class Broken(Controller):
        def close(self) -> None:
            super().close()
            raise RuntimeError("no")

    stop = threading.Event()
    stop.set()
    with pytest.raises(RuntimeError, match="no"):
        run(Broken(weak=ScriptedEngine()), ServerConfig(port=0), stop=stop)


def test_another_port_for_ollamas_clients(serve: Callable[..., Any]) -> None:
    with bind(HOST, 0, has_key=False) as free:
        theirs = free.getsockname()[1]
    served = serve(settings=ServerConfig(port=0, ollama_port=theirs))
    own, other = (httpx.Client(base_url=f"http://{HOST}:{port}") for port in (served.port, theirs))
    with own, other:
        assert own.get("/v1/models").json()["data"] == other.get("/v1/models").json()["data"] != []
        assert other.get("/").text == "Ollama is running"
        assert "A client's base_url ends in /v1" in own.get("/").json()["error"]["message"]
        for client in (own, other):
            assert (client.head("/").status_code, client.post("/").status_code) == (200, 404)
            foreign = client.get("/v1/models", headers={"host": f"evil.example:{theirs}"})
            assert foreign.status_code == 403


def test_ollamas_port_in_use_is_known_before_anything_is_loaded() -> None:
    controller: Any = Unloadable()
    with socket.create_server((HOST, 0)) as other, pytest.raises(PortInUse) as caught:
        port = other.getsockname()[1]
        run(controller, ServerConfig(port=0, ollama_port=port))
    assert (caught.value.port, caught.value.setting) == (port, "server.ollama_port")
