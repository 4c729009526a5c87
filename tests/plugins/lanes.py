"""The suite's lanes: what a test needs, told from what it takes; and one true reason where that is missing.

A test is in a lane if it takes one of the lane's fixtures, lies below one of its folders, or carries its mark; a
test in no lane is a unit test. `pytest -m LANE` runs a lane, and fails, rather than skips, where it cannot be run.
tests/README.md has the list.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import chromium
import pytest
from unit_guard import sitecustomize as guard

TESTS = Path(__file__).parents[1]
ROOM = 2 << 30  # bytes that a test of lane integration may take


@cache
def _no_reference() -> str | None:
    absent = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if not absent:
        return None
    return f"not installed: {' and '.join(absent)} (python3 -m pip install -e '.[train,reference]')"


@cache
def _no_adapter() -> str | None:
    from edge_router.engines.webgpu.adapters import adapters
    from edge_router.errors import EdgeRouterError

    try:
        return None if adapters() else "no Vulkan, Metal or D3D12 adapter is here"
    except EdgeRouterError as error:
        return f"no Vulkan, Metal or D3D12 adapter is here: {error}"


@cache
def _no_plugin() -> str | None:
    if find_spec("onnxruntime_ep_webgpu") is None:
        return "not installed: onnxruntime-ep-webgpu (python3 -m pip install -e '.[router-gpu]')"
    return None


@cache
def _no_mlc() -> str | None:
    if os.environ.get("MLC_PYTHON") or find_spec("mlc_llm") is not None:
        return None
    return "not installed: mlc_llm, which is on no package index (MLC_PYTHON names a Python that has it)"


@cache
def _no_emulator() -> str | None:
    from edge_router.compile.gpu.nvrtc import headers

    if os.environ.get("GPU_REQUIRED"):
        return None  # a real one does its work
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "the emulated GPU switches threads as x86-64 on Linux does"
    if shutil.which("g++") is None:
        return "no C++ compiler (g++), which the emulated GPU is built with"
    return None if headers() else "CUDA's headers (python3 -m pip install -e '.[cuda]') are not installed"


@cache
def _no_browser() -> str | None:
    if sys.platform == "win32":
        return "Chromium is driven by two pipes, as it inherits them on POSIX systems"
    return None if chromium.program() else "no Chromium is here (apt-get install chromium)"


@dataclass(frozen=True)
class Lane:
    """`missing` says what keeps it from being run here; one `on_demand` runs only where -m names it."""

    about: str
    missing: Callable[[], str | None] = lambda: None
    on_demand: bool = False
    fixtures: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()


LANES: Mapping[str, Lane] = {
    "integration": Lane(
        "compiles, loads a model, starts programs or servers; the weights come from the package index",
        fixtures=frozenset(
            {"built_home", "make_router", "program", "terminal"}
            | {"endpoint", "hub", "index", "local_server", "refused_url", "serve", "strong_process"}
        ),
        folders=("bench", "compile", "engines/mlc", "engines/webgpu", "gpu"),
    ),
    "reference": Lane("needs torch and transformers", _no_reference, fixtures=frozenset({"torch", "twins"})),
    "vulkan": Lane(
        "needs a WebGPU adapter; Mesa's in software will do", _no_adapter, fixtures=frozenset({"adapter"})
    ),
    "router_gpu": Lane("needs onnxruntime's WebGPU plugin, and a newer Vulkan than Mesa 22's", _no_plugin),
    "mlc": Lane("needs the real mlc_llm", _no_mlc),
    "emulated": Lane(
        "needs a C++ compiler, for a GPU of NVIDIA's that is emulated",
        _no_emulator,
        fixtures=frozenset({"emulator"}),
    ),
    "browser": Lane("needs Chromium", _no_browser, fixtures=frozenset({"browser", "tab"})),
    "slow": Lane("takes minutes", on_demand=True),
    "gpu": Lane("needs a GPU", on_demand=True),
}
UNIT = "unit"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """What pyproject.toml asks of pytest-xdist is no mistake where that is not: all is run in one process."""
    if not pluginmanager.hasplugin("xdist"):
        group = parser.getgroup("xdist", "without pytest-xdist of no effect")
        for name in ("--numprocesses", "--dist"):
            group.addoption(name)
        group.addoption("--no-loadscope-reorder", action="store_true")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """For whole folders as many as have cores, and room for a model that is built; else none, all in one process.

    The variable is pytest-xdist's own.
    """
    from edge_router.device.limits import read_limits
    from edge_router.device.machine import free_memory, usable_cores

    option = config.option
    named = [argument.partition("::") for argument in config.args]
    if any(test or not Path(path).is_dir() for path, _, test in named):
        return 0
    if option.usepdb or option.trace or option.capture == "no":
        return 0
    if "gpu" in asked(config):  # there is one, and its memory is measured
        return 0
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    physical, _ = usable_cores(read_limits())
    found = min(physical, free_memory() // ROOM)
    return found if found > 1 else 0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{UNIT}: no TVM, no model, no socket: all that is in no other lane")
    for name, lane in LANES.items():
        config.addinivalue_line("markers", f"{name}: {lane.about}")
    _no_mlc()  # now, for tests bring stand-ins
    os.environ.setdefault("LP_NUM_THREADS", "1")  # of Mesa's software adapter
    os.environ.setdefault(
        "TVM_THREAD_POOL_SPIN_COUNT", "0"
    )  # idle threads of TVM's would keep cores from others
    if (
        signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    ):  # so do a shell's background jobs, and what they start
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _stay(config)
    if asked(config) == {UNIT}:
        config.pluginmanager.register(Guarded(), "unit-guard")


def _stay(config: pytest.Config) -> None:
    """What ends its process in the midst of things may not end this one: the rest would count as passed."""
    leave, here = os._exit, os.getpid()

    def refused(status: int) -> NoReturn:
        if os.getpid() != here:
            leave(status)
        raise AssertionError(f"os._exit({status}) would have ended pytest")

    os._exit = refused
    config.add_cleanup(lambda: setattr(os, "_exit", leave))


def asked(config: pytest.Config) -> set[str]:
    """The lanes that -m names."""
    return set(re.findall(r"\w+", config.option.markexpr)) & {UNIT, *LANES}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name in lanes(item) or [UNIT]:
            item.add_marker(name)
    if hasattr(config, "workerinput"):  # what takes long first, so that all workers end together
        long = {item.path for item in items if item.get_closest_marker(UNIT) is None}
        items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """Ten thousand tests stay as they are: the garbage collector need not walk them again and again."""
    gc.freeze()


def lanes(item: pytest.Item) -> list[str]:
    fixtures = set(getattr(item, "fixturenames", ()))
    below = item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else ""
    return [
        name
        for name, lane in LANES.items()
        if item.get_closest_marker(name)
        or lane.fixtures & fixtures
        or any(below.startswith(f"{folder}/") for folder in lane.folders)
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Raised here, for every test on the same line: so the summary has one line for each reason."""
    for name, lane in LANES.items():
        if item.get_closest_marker(name) is None:
            continue
        named = name in asked(item.config)
        if lane.on_demand and not named:
            pytest.skip(f"{lane.about}: python3 -m pytest -m {name}")
        reason = lane.missing()
        if reason and named:
            pytest.fail(reason, pytrace=False)
        if reason:
            pytest.skip(reason)


@pytest.fixture(scope="session")
def adapter() -> Any:
    """Whatever adapter WebGPU has here."""
    from edge_router.engines.webgpu.adapters import adapters

    return adapters()[0]


class Guarded:
    """`-m unit`: a test fails that is no unit test, and a file that is none is not collected."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name) / "attempts"
        self._file.touch()
        os.environ[guard.VARIABLE] = str(self._file)
        search = [str(Path(guard.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(search)
        guard.watch()

    def attempts(self) -> list[str]:
        """Since the last time that they were asked for."""
        found = self._file.read_text(encoding="utf-8").splitlines()
        if found:
            self._file.write_text("", encoding="utf-8")
        return found

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        folders = {TESTS / folder for lane in LANES.values() for folder in lane.folders}
        return True if collection_path in folders else None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Iterator[None]:
        report = yield
        if self.attempts():
            report.outcome, report.longrepr, report.result = "passed", None, []
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        yield
        if found := self.attempts():
            pytest.fail(
                f"not a unit test: it {', '.join(dict.fromkeys(found))}; see tests/README.md", pytrace=False
            )

    def pytest_unconfigure(self) -> None:
        self._folder.cleanup()
