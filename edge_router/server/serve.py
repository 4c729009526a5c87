"""Bind, load, listen, and end well: the server as one blocking call."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.server import HANDLED_SIGNALS

from edge_router.api.async_client import AsyncController
from edge_router.api.client import Controller
from edge_router.callers.keys import KeyRing
from edge_router.config.sections import ServerConfig
from edge_router.errors import LocalServerDown
from edge_router.server.app import create_app
from edge_router.server.dashboard.dashboard import Dashboard
from edge_router.server.http.connection import Connection
from edge_router.server.http.limits import ServerLimits
from edge_router.server.http.listen import OLLAMA_PORT, PORT, bind, ready_to_listen, refused, url_of

KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that none is closed under a request
CLOSE_S = 0.8
SHUTDOWN_S = 1  # for replies that are being written when the server stops


def run(
    controller: Controller,
    settings: ServerConfig | None = None,
    *,
    api_key: str | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
    on_waiting: Callable[[LocalServerDown], None] = lambda error: None,
    stop: threading.Event | None = None,
    limits: ServerLimits | None = None,
    dashboard: Dashboard | None = None,
) -> bool:
    """Serve `controller` until Ctrl-C, SIGTERM, SIGHUP (a closed terminal) or `stop`; then close it.

    Returns whether it is closed: a model in the midst of a long prompt may take longer than anybody who
    stops a server waits (`CLOSE_S`); it then ends by itself, which a process that ends need not wait for.

    `settings` are `controller.config.server` where None. First the ports are taken, then the models are
    loaded, then the server listens and `on_ready` is called with its address, such as
    "http://127.0.0.1:6060" (port 0: the real one); `settings.ollama_port` is one more for the same server.
    A weak model that lies in another server may come later: `on_waiting` is told why it is not there.
    Signals are handled in the main thread only; from another one, set `stop`. On a stop, streams end with an
    error event, waiting requests with 503.

    Raises `UnsafeBind` (an address that other machines reach, without a key), `PortInUse`,
    `ConfigError`, and whatever keeps the weak model or the router from loading.
    """
    settings, limits = settings or controller.config.server, limits or ServerLimits()
    answering = AsyncController(controller)
    try:
        has_key = KeyRing.of(controller.config.callers, owner=api_key or None).demanded
        with ExitStack() as held:
            listeners = [held.enter_context(listener) for listener in _bound(settings, has_key)]
            try:
                controller.warm()
            except LocalServerDown as error:  # the strong model answers until it is there
                on_waiting(error)
            gc.collect()
            gc.freeze()  # what is loaded stays: to look through it again and again would stop all for 50 ms
            for listener in listeners:
                ready_to_listen(listener)
            url = url_of(listeners[0])
            app = create_app(answering, settings, api_key=api_key, limits=limits, dashboard=dashboard)
            _Server(app, settings, limits, lambda: on_ready(url), stop or threading.Event()).run(listeners)
    finally:
        gc.unfreeze()
        closed = _closed(controller)
        answering.settle()
    return closed


def _bound(settings: ServerConfig, has_key: bool) -> Iterator[socket.socket]:
    """The sockets, this server's own first."""
    yield bind(settings.host, settings.port, has_key=has_key)
    if settings.ollama_port is not None:
        yield bind(settings.host, settings.ollama_port, has_key=has_key, setting=OLLAMA_PORT)


def _closed(controller: Controller) -> bool:
    """Whether it could be closed at once."""
    failures: list[BaseException] = []

    def close() -> None:
        try:
            controller.close()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    closing = threading.Thread(target=close, name="edge_router close", daemon=True)
    closing.start()
    closing.join(CLOSE_S)
    if failures:
        raise failures[0]
    return not closing.is_alive()


def _ending_signals() -> tuple[int, ...]:
    """Ctrl-C, SIGTERM, and a terminal that was closed, unless `nohup` has said to outlive that."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return HANDLED_SIGNALS
    return (*HANDLED_SIGNALS, hangup)


class _Server(uvicorn.Server):
    def __init__(
        self,
        app: Starlette,
        settings: ServerConfig,
        limits: ServerLimits,
        on_ready: Callable[[], None],
        stop: threading.Event,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=cast("type[asyncio.Protocol]", partial(Connection, limits)),
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        self._starlette, self._settings = app, settings
        self._on_ready, self._stop = on_ready, stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:  # since `bind`, somebody else has come to listen there
            port, setting = self._settings.port, PORT
            if self.servers and self._settings.ollama_port is not None:
                port, setting = self._settings.ollama_port, OLLAMA_PORT
            raise refused(error, self._settings.host, port, setting) from error
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._starlette.state.running.stop()
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # whose clients take nothing
            cast("Connection", connection).transport.abort()
        await asyncio.sleep(0)  # they hear of it

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """As uvicorn's, but a signal that ended the server well does not strike a second time."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _ending_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
