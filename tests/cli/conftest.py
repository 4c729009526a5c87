"""The command line in this process with scripted models, in one of its own, and on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from person import Person

from edge_router.api.client import Controller
from edge_router.cli import session
from edge_router.cli.chat import building
from edge_router.cli.command_line import parser
from edge_router.cli.main import run
from edge_router.cli.options import Options
from edge_router.cli.terminal import line_reader
from edge_router.config.settings import Config
from edge_router.engines.scripted import ScriptedEngine
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.system.paths import Paths
from edge_router.types import Progress


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def by_word(text: str) -> float:
    """What holds "hard" scores 0.9, everything else 0.1."""
    return 0.9 if "hard" in text else 0.1


@dataclass
class Models:
    """The scripted models that the command line talks to."""

    weak: ScriptedEngine
    strong: ScriptedEngine
    configs: list[Config]


class Piped(io.StringIO):
    """A standard input that is no terminal."""


Cli = Callable[..., Done]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("route", "hello", stdin="")`: the whole program in this process."""

    def call(*arguments: str, stdin: str | io.StringIO = "") -> Done:
        monkeypatch.setattr(sys, "stdin", Piped(stdin) if isinstance(stdin, str) else stdin)
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    """Scripted models in place of the configured ones; nothing has to be built."""
    found = Models(
        weak=ScriptedEngine(model_id="small", context_window_size=100, serves=()),
        strong=ScriptedEngine(model_id="big"),
        configs=[],
    )

    def make(config: Config, paths: Paths, progress: Progress) -> Controller:
        found.configs.append(config)
        controller = Controller(
            config,
            weak=found.weak,
            strong=found.strong,
            router=ScriptedRouter(by_word, name="mf"),
            paths=paths,
            progress=progress,
        )
        # The engines are the test's: one controller after the other uses them.
        monkeypatch.setattr(controller, "close", lambda: None)
        return controller

    monkeypatch.setattr(session, "make_controller", make)
    monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
    return found


def accepted(words: Sequence[str]) -> bool:
    """Whether the command line takes `edge-router WORDS`: parsed to the last word, not carried out.

    Raises what is wrong with them.
    """
    command, parent, rest = parser(), None, list(words)
    while True:
        name = "edge-router" if parent is None else command.name
        try:
            context = command.make_context(name, rest, parent=parent, obj=Options())
        except typer.Exit:  # --help
            return True
        if not hasattr(command, "resolve_command"):
            return True
        parent, rest = context, [*_protected(context), *context.args]
        _, command, rest = command.resolve_command(context, rest)


def _protected(context: Any) -> list[str]:
    """What is left for the verb; its name has changed with click's and typer's releases."""
    return getattr(context, "_protected_args", None) or getattr(context, "protected_args", None) or []


@pytest.fixture
def accepts() -> Callable[[Sequence[str]], bool]:
    return accepted


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """For a process of its own: this one's, with the test's home, without the colours of outside."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return {**kept, "EDGE_ROUTER_HOME": str(home), "TERM": "xterm-256color"}


@pytest.fixture
def program(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`edge-router` as a process of its own."""

    def call(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        given: dict[str, object] = {
            "encoding": "utf-8",
            "stdin": subprocess.DEVNULL,
            "env": environment,
            "timeout": 60,
        }
        if "input" in options:
            del given["stdin"]
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [sys.executable, "-m", "edge_router", *arguments],
            capture_output="stdout" not in options,
            check=False,
            **{**given, **options},
        )

    return call


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """`terminal("chat", script="...")`: Python code, or the program itself, on a terminal of its own."""
    opened: list[Terminal] = []

    def open_(*arguments: str, script: str = PROGRAM, **options: object) -> Terminal:
        file = tmp_path / "on_terminal.py"
        file.write_text(script, encoding="utf-8")
        opened.append(Terminal(file, *arguments, **{"env": environment, **options}))  # type: ignore[arg-type]
        return opened[-1]

    yield open_
    for one in opened:
        one.close()


PROGRAM = "from edge_router.cli.main import main; main()"

# The terminal must be the controlling one, or its Ctrl-C goes nowhere.
_CHILD = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

CTRL_C, CTRL_D = "\x03", "\x04"
PATIENCE_S = 30.0


class Terminal:
    """`script` runs with `arguments`; standard output and error both show on the terminal unless given."""

    def __init__(
        self, script: Path, *arguments: str, env: Mapping[str, str], stdout: int | None = None
    ) -> None:
        import pty

        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(script), *arguments],
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            env=dict(env),
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> str:
        """Everything up to and with `text`, which the next call no longer sees."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} never came; there was {self.shown!r}")
        seen, _, self.shown = self.shown.partition(text)
        return seen + text

    def end(self) -> tuple[int, str]:
        """The exit code, and what was shown last."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE_S), self.shown

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)

    def _read(self, deadline: float) -> bool:
        """Whether the program is still there."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"nothing came for {PATIENCE_S} s; there was {self.shown!r}")
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


@pytest.fixture
def talk(cli: Cli, models: Models, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """`talk("hello", "/why", "--model", ...)`: what a person types, one line each, after the arguments."""

    class Keyboard:
        def isatty(self) -> bool:
            return True

        closed = False

    def call(*typed: object, arguments: Sequence[str] = ()) -> Done:
        monkeypatch.setattr("builtins.input", Person(typed))
        monkeypatch.setattr(line_reader, "more_is_waiting", lambda: False)
        return cli("chat", *arguments, stdin=Keyboard())

    return call


@pytest.fixture
def known_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks LLVM, which is a part of TVM, what this processor is."""
    monkeypatch.setattr("edge_router.device.llvm.ask_llvm", lambda: ("generic", ("avx2", "sse2")))
