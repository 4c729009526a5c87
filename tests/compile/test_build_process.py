"""A build in a process of its own: what comes back from it, and what happens when it does not end well."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_router.catalog import find_model
from edge_router.compile import build_process
from edge_router.compile.build_process import _Reader
from edge_router.compile.pipeline import BuildSettings, CompiledModel, ensure
from edge_router.compile.worker import ProgressWriter, failed
from edge_router.errors import (
    BuildFailed,
    ContextOverflow,
    DiskFull,
    InternalError,
    LinkerMissing,
    OutOfMemory,
    UnknownName,
    WeightsCorrupt,
)
from edge_router.system import child_process
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

SMALL = BuildSettings(context_window_size=64, prefill_chunk_size=16)


class Watching(SilentProgress):
    """Remembers each step with its total and how far it came; `reached` is called when a step begins."""

    def __init__(self, reached: Callable[[str], None] = lambda name: None) -> None:
        self.steps: dict[str, list[int | None]] = {}
        self.open: list[str] = []
        self.whole: list[str] = []  # that ended without an error
        self._reached = reached

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Any]:  # type: ignore[override]
        self.open.append(name)
        self.steps[name] = [total, 0]
        self._reached(name)
        try:
            yield _Counter(self.steps[name])
            self.whole.append(name)
        finally:
            self.open.remove(name)


class _Counter:
    def __init__(self, counts: list[int | None]) -> None:
        self._counts = counts

    def advance(self, amount: int = 1) -> None:
        self._counts[1] = (self._counts[1] or 0) + amount


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Builds leave this process, as they do for users; the processes that are started."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(child_process.start(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(build_process, "can_start", lambda: True)
    monkeypatch.setattr(build_process, "start", start)
    return started


@pytest.fixture
def make(tiny_llama: Any, paths: Paths) -> Callable[..., CompiledModel]:
    return lambda **given: ensure(find_model(str(tiny_llama.folder)), SMALL, paths=paths, **given)


def test_it_is_built_elsewhere_and_found_here(away: list[Any], make: Any) -> None:
    watching = Watching()
    built = make(progress=watching)
    assert built.library.is_file() and built == make(build=False)
    assert len(away) == 1 and away[0].returncode == 0
    assert {"quantize", "verify", "compile", "link"} <= set(watching.whole) and not watching.open
    total, done = watching.steps["quantize"]
    assert total == done and total is not None and total > 5
    make()
    assert len(away) == 1, "what is there needs no process"


def test_nothing_of_the_compiler_stays_in_this_process(tiny_llama: Any, home: Path) -> None:
    code = (
        "import sys\n"
        "from edge_router.catalog import find_model\n"
        "from edge_router.compile.pipeline import BuildSettings, ensure\n"
        "from edge_router.system.paths import Paths\n"
        f"ensure(find_model(sys.argv[1]), {SMALL!r}, paths=Paths.default())\n"
        "print(*(set(sys.modules) & {'numpy', 'tvm', 'tvm_ffi', 'torch'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_llama.folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_an_error_comes_back_as_it_was(away: list[Any], tiny: Any, tmp_path: Path, paths: Paths) -> None:
    source = tiny.make(tmp_path / "short").folder
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    watching = Watching()
    with pytest.raises(WeightsCorrupt) as caught:
        ensure(find_model(str(source)), SMALL, paths=paths, progress=watching)
    assert caught.value.path == file and caught.value.expected
    assert "open_weights" in str(caught.value.__cause__) and not watching.open


def test_a_step_that_an_error_ends_is_not_told_as_one_that_was_done() -> None:
    out, watching = io.BytesIO(), Watching()
    speaker = ProgressWriter(out)
    with speaker.step("unpack"):
        pass
    with pytest.raises(OSError), speaker.step("fetch"):
        raise OSError
    out.seek(0)
    child: Any = SimpleNamespace(stdin=io.BytesIO(), stdout=out)
    assert _Reader(child, watching).read(SimpleNamespace()) is None  # type: ignore[arg-type]
    assert list(watching.steps) == ["unpack", "fetch"] and not watching.open
    assert watching.whole == ["unpack"]


@pytest.mark.parametrize(
    "error",
    [
        ContextOverflow(9, 8),
        DiskFull(Path("here"), 9, 8),
        LinkerMissing("m", ["cc", "gcc"]),
        OutOfMemory("tvm", "full", 9, 8),
        UnknownName("quantizer", "magic", ("a", "b"), ("a",)),
    ],
)
def test_every_error_keeps_its_facts(error: Any) -> None:
    back = pickle.loads(pickle.dumps(failed(error))).error()
    assert (type(back), str(back), back.__dict__) == (type(error), str(error), error.__dict__)


def test_an_error_that_is_not_ours_becomes_one() -> None:
    back = pickle.loads(pickle.dumps(failed(TypeError("a bug")))).error()
    assert isinstance(back, InternalError) and (back.component, back.kind) == ("build", "TypeError")
    assert isinstance(failed(MemoryError()).error(), OutOfMemory)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), getattr(signal, 'SIGKILL', 9))", "its process "),
        ("raise SystemExit('no compiler here')", "its last words: no compiler here"),
    ],
)
def test_a_process_that_dies_is_a_failed_build(
    away: list[Any], make: Any, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    monkeypatch.setattr(
        build_process, "start", lambda arguments, **named: child_process.start(["-c", code], **named)
    )
    with pytest.raises(BuildFailed, match=said):
        make()


def test_ctrl_c_ends_it_and_leaves_nothing_half_made(away: list[Any], make: Any, paths: Paths) -> None:
    def interrupt(name: str) -> None:
        if name == "quantize":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(progress=Watching(interrupt))
    assert away[0].poll() is not None
    assert not list(paths.artifacts.glob("*/.*.partial"))
    assert make().library.is_file(), "and the next one succeeds"


def test_where_no_process_can_be_started_it_is_built_here(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **named: object) -> Any:
        raise PermissionError("no processes here")

    monkeypatch.setattr(build_process, "can_start", lambda: True)
    monkeypatch.setattr(build_process, "start", refused)
    assert make().library.is_file()
