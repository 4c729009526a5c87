"""Servers over scripted models: in this process without a socket, in a thread, and as a program."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.config.sections import ServerConfig
from edge_router.routing.routers.base import Router
from edge_router.server.app import create_app
from edge_router.server.dashboard.dashboard import Dashboard
from edge_router.server.http.limits import ServerLimits
from edge_router.server.protocols import Protocols
from edge_router.server.serve import run

HI = [{"role": "user", "content": "hi"}]


def by_word(text: str) -> float:
    """The word "hard" is hard."""
    return 0.875 if "hard" in text else 0.125


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    @property
    def error(self) -> dict[str, Any]:
        """Its error, after making sure that it is one in OpenAI's form, and nothing else."""
        assert self.header("content-type") == "application/json"
        body = self.json()
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert isinstance(body["error"]["message"], str) and body["error"]["message"]
        assert isinstance(body["error"]["type"], str)
        return body["error"]


@dataclass
class Setup:
    """A controller with scripted models, not yet served."""

    weak: ScriptedEngine = field(default_factory=lambda: ScriptedEngine(model_id="small", serves=()))
    strong: ScriptedEngine = field(default_factory=lambda: ScriptedEngine(model_id="big"))
    router: Router = field(default_factory=lambda: ScriptedRouter(by_word, name="word"))
    settings: ServerConfig = field(default_factory=lambda: ServerConfig(port=0))
    api_key: str | None = None
    limits: ServerLimits = field(default_factory=ServerLimits)
    protocols: Protocols | None = None
    dashboard: Dashboard | None = None
    ledger: bool = False
    config: dict[str, object] = field(default_factory=dict)  # more settings, by their keys

    def controller(self) -> Controller:
        config = Config().replace(**{"ledger.enabled": self.ledger, **self.config})
        return Controller(config, weak=self.weak, strong=self.strong, router=self.router)

    def app(self) -> Any:
        return create_app(
            AsyncController(self.controller()),
            self.settings,
            api_key=self.api_key,
            limits=self.limits,
            protocols=self.protocols,
            dashboard=self.dashboard,
        )

    def call(
        self,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        body: Any = None,
        *,
        headers: Sequence[tuple[str, str]] | None = None,
        json_type: bool = True,
        app: Any = None,
    ) -> Reply:
        """One request to the app itself. `body`: bytes (or a list of pieces of them), or an object."""
        pieces = body if isinstance(body, list) and all(isinstance(p, bytes) for p in body) else None
        if pieces is None:
            pieces = [body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()]
        given = [("host", "localhost")] if headers is None else list(headers)
        if json_type and method == "POST":
            given.append(("content-type", "application/json"))
        return asyncio.run(asgi(app or self.app(), method, path, given, pieces))


async def asgi(
    app: Any, method: str, path: str, headers: Sequence[tuple[str, str]], pieces: Sequence[bytes]
) -> Reply:
    path, _, query = path.partition("?")
    waiting = list(pieces)
    told: list[dict[str, Any]] = []
    done = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not waiting:
            await done.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 6060),
    }
    await asyncio.wait_for(app(scope, receive, send), 30)
    start, *rest = told
    return Reply(
        start["status"],
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]],
        b"".join(message.get("body", b"") for message in rest),
    )


@pytest.fixture(scope="session")
def setup() -> Callable[..., Setup]:
    """`setup(api_key="k").call("GET", "/v1/models")`."""
    return Setup


def new_client(url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", **({"api_key": "none", "max_retries": 0} | options))


@dataclass
class Served:
    """A server that listens."""

    url: str
    setup: Setup
    stop: Callable[[], None]
    clients: ExitStack  # closes those that tests made

    @property
    def weak(self) -> ScriptedEngine:
        return self.setup.weak

    @property
    def strong(self) -> ScriptedEngine:
        return self.setup.strong

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, **options: Any) -> openai.OpenAI:
        return self.clients.enter_context(new_client(self.url, **options))

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", **({"api_key": "none", "max_retries": 0} | options)
        )


@contextmanager
def serving(setup: Setup) -> Iterator[Served]:
    """`run` in a thread of its own, stopped at the end."""
    ready, stop, urls, failures = threading.Event(), threading.Event(), list[str](), list[BaseException]()

    def on_ready(url: str) -> None:
        urls.append(url)
        ready.set()

    def work() -> None:
        try:
            run(
                setup.controller(),
                setup.settings,
                api_key=setup.api_key,
                on_ready=on_ready,
                stop=stop,
                limits=setup.limits,
                dashboard=setup.dashboard,
            )
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            failures.append(error)
        finally:
            ready.set()

    def end() -> None:
        stop.set()
        thread.join(30)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(30) and not failures, failures
        with ExitStack() as clients:
            yield Served(urls[0], setup, end, clients)
    finally:
        end()
        assert not thread.is_alive() and not failures, failures


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture
def serve(no_proxy: None) -> Iterator[Callable[..., Served]]:
    """`serve(api_key="k")` gives a server in a thread; all end with the test."""
    with ExitStack() as stack:
        yield lambda **fields: stack.enter_context(serving(Setup(**fields)))


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


class Program:
    """tests/server/scripted_server.py in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        script = Path(__file__).with_name("scripted_server.py")
        group = subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  a pipe that nobody reads would stop it
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            creationflags=group,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.clients = ExitStack()

    def client(self, **options: Any) -> openai.OpenAI:
        return self.clients.enter_context(new_client(self.url, **options))

    def wait(self) -> tuple[int, str, str]:
        """Exit status, and what it wrote."""
        out, _ = self.process.communicate(timeout=30)
        self._log.seek(0)
        return self.process.returncode, out, self._log.read()

    def end(self) -> None:
        self.clients.close()
        with self.process, self._log:  # closes its pipe
            self.process.kill()


@pytest.fixture
def program(no_proxy: None) -> Iterator[Callable[..., Program]]:
    """`program("--strong", url)` starts one; whatever is left is killed."""
    started: list[Program] = []

    def start(*arguments: str) -> Program:
        started.append(Program(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.end()
