"""chat answered by a server that runs: the same words, and none of it by one that is not this user's own."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from table import each

from edge_router.api.client import Controller
from edge_router.cli.chat import resident
from edge_router.cli.chat.door import ResidentDoor
from edge_router.cli.chat.quick import Context
from edge_router.cli.chat.suggestion import DEMO
from edge_router.cli.options import Options
from edge_router.cli.session import Session
from edge_router.config.settings import Config
from edge_router.engines.scripted import ScriptedEngine
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.system.paths import Paths

pytestmark = pytest.mark.integration

OWN = "by itself"


def by_word(text: str) -> float:
    return 0.9 if "hard" in text else 0.1


class Serving:
    """`calls`: what its weak model was asked."""

    def __init__(self, door: ResidentDoor, weak: ScriptedEngine) -> None:
        self.door, self.calls = door, weak.calls


@pytest.fixture(autouse=True)
def allowed(home: Path) -> Path:
    file = home / "config.toml"
    file.write_text(
        '[strong]\nmodel = "big"\nbase_url = "http://127.0.0.1:9/v1"\n[server]\nresident = true\n'
    )
    return file


@contextmanager
def server(
    *replies: object, config: Config | None = None, options: Options | None = None, model_id: str = "small"
) -> Iterator[Serving]:
    """A door with a scripted model behind it, which is given to the block."""
    door = ResidentDoor(Session(Context(options or Options())))
    weak = ScriptedEngine(*replies, model_id=model_id)  # type: ignore[arg-type]
    controller = Controller(
        config or Config.load(None),
        weak=weak,
        strong=ScriptedEngine(model_id="big"),
        router=ScriptedRouter(by_word, name="mf"),
        paths=Paths.default(),
    )
    with controller:
        door.open(controller, "http://127.0.0.1:6060")
        try:
            yield Serving(door, weak)
        finally:
            door.close()


@pytest.fixture
def own(cli: Any, models: Any) -> Callable[..., bool]:
    """Whether chat answered itself, with a model that says nothing else."""
    models.weak = ScriptedEngine(default=OWN, model_id="small")

    def asked(*arguments: str) -> bool:
        done = cli(*(arguments or ("chat", "hello")))
        assert done.code == 0, done.err
        return done.out == f"{OWN}\n"

    return asked


SAME = (
    "chat|hello there", "chat|hello|--json", "-q|chat|hello", "chat|-m|strong|hello", "chat|very hard",
    "chat|--system|Be brief|hello", "chat|-m|weak|--max-tokens|1|a b c", "chat|--private|very hard",
    "chat|-m|router-nothing-0.5|hello", "chat|--thinking|hello", "chat|caf\udce9",
)  # fmt: skip


@each("line", SAME)
def test_it_says_the_same(line: str, cli: Any, models: Any) -> None:
    models.weak = ScriptedEngine(model_id="small")
    alone = cli(*line.split("|"))
    with server() as weak:
        answered = cli(*line.split("|"))
    calls = len(models.weak.calls)
    models.weak.calls.clear()
    assert len(weak.calls) == calls, "the server did not answer"
    assert answered.code == alone.code
    if "--json" in line:
        one, other = json.loads(answered.out), json.loads(alone.out)
        assert {**one, "timings": 0} == {**other, "timings": 0}
    else:
        assert (answered.out, untimed(answered.err)) == (alone.out, untimed(alone.err))


def untimed(text: str) -> str:
    return text.partition(" tokens/s")[0].rpartition(",")[0] if " tokens/s" in text else text


def test_the_demo_model_names_a_larger_one_there_too(cli: Any, models: Any) -> None:
    with server(model_id=DEMO) as weak:
        done = cli("chat", "hello")
    assert len(weak.calls) == 1 and done.code == 0 and "error" not in done.err, done.err


def test_what_is_piped_in_goes_along(cli: Any, models: Any) -> None:
    with server() as weak:
        assert cli("chat", "Repeat:", stdin="the text\n").out == "You said: Repeat:\n\nthe text\n"
    assert len(weak.calls) == 1


ELSEWHERE = (
    "chat|hello|--set|weak.threads=2", "chat|hello|--offline", "chat|hello|--threads|1", "chat|hello|--device|cpu",
    "--debug|chat|hello", "chat|hello|--keep",
)  # fmt: skip


@each("line", ELSEWHERE)
def test_what_needs_other_settings_is_answered_by_itself(line: str, own: Callable[..., bool]) -> None:
    with server() as weak:
        own(*line.split("|"))
    assert not weak.calls


def test_nobody_is_asked_who_has_other_settings_by_now(
    own: Callable[..., bool], allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server() as weak:
        assert not own()
        for name, value in (("EDGE_ROUTER_WEAK_THREADS", "2"), ("OPENAI_API_KEY", "sk-1"), ("NO_PROXY", "*")):
            with monkeypatch.context() as patched:
                patched.setenv(name, value)
                assert own(), name
        with monkeypatch.context() as patched:
            patched.setenv("EDGE_ROUTER_SERVER_RESIDENT", "false")
            assert own(), "it is not wanted here"
        monkeypatch.setenv("EDGE_ROUTER_API_KEY", "what clients of the server have to say")
        assert not own(), "no answer goes by that"
        allowed.write_text(f"{allowed.read_text()}\n", encoding="utf-8")
        assert own()
    assert len(weak.calls) == 2


def test_a_server_with_other_settings_lets_nobody_in(own: Callable[..., bool], home: Path) -> None:
    for config in (
        Config.load(None, overrides={"weak.threads": "3"}),
        Config.load(None, overrides={"server.resident": "false"}),
    ):
        with server(config=config) as weak:
            assert own()
        assert not weak.calls
    with server(options=Options(config=home / "other.toml")) as weak:
        assert own()
    with server(config=Config.load(None, overrides={"server.port": "7070"})) as weak:
        assert not own(), "its own address is nothing that an answer goes by"


@pytest.mark.skipif(sys.platform == "win32", reason="who may read a file is said in another way there")
def test_what_others_could_have_written_is_not_believed(own: Callable[..., bool]) -> None:
    with server() as weak:
        for path in (resident.folder(), resident.folder() / resident.FILE):
            before = path.stat().st_mode
            path.chmod(before | 0o040)
            assert own()
            path.chmod(before)
        assert not own()
    assert len(weak.calls) == 1


def test_what_a_dead_server_has_left_is_no_error(own: Callable[..., bool]) -> None:
    with server():
        left = (resident.folder() / resident.FILE).read_bytes()
    assert not (resident.folder() / resident.FILE).exists()
    for content in (left, b"", b"[]", b"{}", left[:-9]):
        write(content)
        assert own(), content
    with server() as weak:
        assert not own()
    assert weak.calls


def write(content: bytes) -> None:
    file = resident.folder() / resident.FILE
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as opened:
        opened.write(content)


def test_by_a_port_as_on_windows(own: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with server() as weak:
        assert json.loads((resident.folder() / resident.FILE).read_bytes())["address"][0] == "127.0.0.1"
        assert not own()
    assert len(weak.calls) == 1


def test_who_took_the_port_of_a_dead_server_hears_no_word(
    own: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It repeats what a true server once said, which it has heard."""
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    heard = bytearray()
    with server():
        told = json.loads((resident.folder() / resident.FILE).read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        write(json.dumps({**told, "address": listener.getsockname()}).encode())
        old = {"proof": resident.proof(told["token"], "server", "00" * 16), "nonce": "11" * 16}

        def repeat() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                heard.extend(connection.recv(65_536))
                connection.sendall(json.dumps(old).encode() + b"\ntrue\n")
                while arrived := connection.recv(65_536):
                    heard.extend(arrived)

        thread = threading.Thread(target=repeat)
        thread.start()
        assert own("chat", "my secret")
        thread.join(10)
    assert b"secret" not in heard
    assert set(json.loads(heard)) == {"nonce"}


def test_the_server_answers_nobody_who_has_not_read_the_file() -> None:
    with server() as weak:
        for token in ("00" * 32,):
            line = resident.LineConnection(connected())
            line.send({"nonce": "22"})
            asked = line.receive()
            line.send({"proof": resident.proof(token, "chat", asked["nonce"], []), "model": None})
            assert line.receive() is False
            line.close()
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\n", b"[1]\n", b'{"nonce": 1}\n{}\n', b""):
            with connected() as connection:
                connection.sendall(noise)
    assert not weak.calls


def connected() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    connection.connect(str(resident.folder() / resident.SOCKET))
    return connection


def test_who_leaves_ends_the_answer() -> None:
    never = threading.Event()
    with server(["one ", never]) as weak:
        line = resident._connected(None)
        line.send({"fields": {"prompt": ["hello"]}, "quiet": True})
        assert line.receive(None) == ["write", "one "]
        line.close()
        until(lambda: not weak.door.inside)
    assert len(weak.calls) == 1


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_who_reads_late_gets_it_all() -> None:
    long = "x" * 5_000_000
    with server([long]):
        line = resident._connected(None)
        line.send({"fields": {"prompt": ["hello"]}, "quiet": True})
        time.sleep(0.5)  # longer than a connection waits to be read from
        assert line.receive(None) == ["write", long]
        assert line.receive(None) in (["write", "\n"], ["part"])
        line.close()


def test_a_server_that_ends_in_mid_answer_is_told(cli: Any) -> None:
    shown = threading.Event()

    def reply(_: object) -> list[object]:
        return ["one ", shown, "two"]

    with server(reply) as serving:

        def cut() -> None:
            until(lambda: bool(serving.calls))
            until(lambda: sys.stdout.getvalue().startswith("one"))  # type: ignore[attr-defined]
            serving.door.close()

        thread = threading.Thread(target=cut)
        thread.start()
        done = cli("chat", "hello")
        thread.join(60)
        shown.set()
    assert (done.code, done.out) == (1, "one \n")
    assert "ask again" in done.err


def test_a_server_that_ends_while_input_is_read_is_done_without(cli: Any, models: Any) -> None:
    models.weak = ScriptedEngine(model_id="small")
    with server() as serving:

        class Late(io.StringIO):
            def read(self, size: int | None = -1, /) -> str:
                serving.door.close()
                until(lambda: not serving.door.inside)
                return super().read(size)

        done = cli("chat", "Repeat:", stdin=Late("the text\n"))
    assert (done.code, done.out) == (0, "You said: Repeat:\n\nthe text\n"), done.err
    assert not serving.calls


def test_it_imports_next_to_nothing(environment: dict[str, str]) -> None:
    code = (
        "import sys; from edge_router.cli.main import run; code = run(sys.argv[1:]); "
        "print('MODULES', *sys.modules); sys.exit(code)"
    )
    with server() as weak:
        done = subprocess.run(
            [sys.executable, "-c", code, "-q", "chat", "hello"],
            capture_output=True,
            text=True,
            check=True,
            # without what measures coverage, which imports much
            env={name: value for name, value in environment.items() if not name.startswith("COV")},
            stdin=subprocess.DEVNULL,
        )
    answer, _, loaded = done.stdout.partition("MODULES ")
    assert (answer, len(weak.calls)) == ("You said: hello\n", 1)
    ours = {name for name in loaded.split() if name.startswith("edge_router")}
    known = {"chat", "chat.quick", "chat.resident", "main", "terminal", "terminal.output", "terminal.piped"}
    assert ours == {
        "edge_router",
        "edge_router.cli",
        "edge_router.parsing",
        "edge_router.parsing.strict_json",
        *(f"edge_router.cli.{name}" for name in known),
    }
    assert not {"dataclasses", "inspect", "socket", "hashlib", "typer", "logging"} & set(loaded.split())


@pytest.mark.skipif(sys.platform != "linux", reason="what wakes who waits for a connection differs by system")
def test_a_closed_door_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with server("hi"):
        (listening,) = [new for new in threading.enumerate() if new not in before and "door" in new.name]
    listening.join(20)
    assert not listening.is_alive()
