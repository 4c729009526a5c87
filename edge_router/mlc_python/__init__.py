"""The Python that has mlc_llm: this one, or another where two TVMs would not get along in one environment.

MLC's wheels bring a package `tvm`, and so does apache-tvm, which this package needs. `mlc.python` names a
Python of MLC's own: its process and its compiler run there, and of this package they see what they need.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_router.errors import EngineUnavailable
from edge_router.mlc_python import probe
from edge_router.parsing import strict_json
from edge_router.system.child_process import can_start
from edge_router.system.paths import expanded
from edge_router.system.telemetry import switched_off

OLDEST = (3, 11)  # Python that our side of the process runs on
_PROBE_S = 60.0  # of a cold disk
_IMPORT_S = 300.0  # importing MLC's compiler takes half a minute, and as much again on a cold disk
_LAST_LINE = 300  # characters
_RAISED = re.compile(r"[\w.]*(?:Error|Exception)\b")

# What tells where this Python finds its modules, which are not the other one's.
_OURS_ALONE = ("PYTHONPATH", "PYTHONHOME", "PYTHONEXECUTABLE", "__PYVENV_LAUNCHER__")

# Makes this package importable by another Python, and nothing else of ours.
_START = """
import importlib.util, runpy, sys
folder, module = sys.argv[1:3]
spec = importlib.util.spec_from_file_location(
    "edge_router", folder + "/__init__.py", submodule_search_locations=[folder]
)
package = sys.modules["edge_router"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, slots=True)
class Package:
    """`owners` are the distributions that bring it, each with its version; `build` hashes their files."""

    there: bool
    owners: tuple[tuple[str, str], ...]
    build: str

    @property
    def version(self) -> str | None:
        return " and ".join(version for _, version in self.owners) or None

    def __str__(self) -> str:
        return " and ".join(f"{version} ({name})" for name, version in self.owners) or "of no distribution"


@dataclass(frozen=True, slots=True)
class MlcPython:
    """`executable` None is this Python. What is asked of it is asked of a process of its own."""

    executable: str | None
    version: tuple[int, ...]
    packages: Mapping[str, Package]

    def command(self, arguments: Sequence[str]) -> list[str]:
        return [self.executable or sys.executable, *arguments]

    def program(self, module: str) -> list[str]:
        """The command that runs a module of this package as a program."""
        if self.executable is None:
            return self.command(["-m", module])
        return self.command(["-c", _START, str(Path(__file__).parent.parent), module])

    def environment(self) -> dict[str, str]:
        return _environment(self.executable)

    def runs_libraries_of(self, other: MlcPython) -> bool:
        """Whether both have one TVM each, and the same: a library that another made is not loaded."""
        pairs = [(self.packages[name].owners, other.packages[name].owners) for name in ("tvm", "tvm_ffi")]
        return all(len(mine) == 1 and mine == theirs for mine, theirs in pairs)

    def why_not_compiling(self) -> str | None:
        """What keeps MLC's compiler from being imported; None where nothing does. Takes half a minute."""
        done = _run(self.executable, ["-c", "import mlc_llm.interface.compile"], _IMPORT_S)
        if done is None:
            return f"importing it did not end within {_IMPORT_S:g} s"
        return None if done.returncode == 0 else _last_line(done) or f"it ended with status {done.returncode}"


def mlc_python(setting: str | None) -> MlcPython:
    """The Python that `mlc.python` names, this one where it is None. Raises `EngineUnavailable`."""
    executable = None if setting is None else str(expanded(setting))
    if executable is None and not can_start():
        raise EngineUnavailable("mlc", "this program is no Python; name one that has mlc_llm with mlc.python")
    found = here() if executable is None else _elsewhere(executable)
    where = "" if executable is None else f" in {executable}"
    if not found.packages or not found.packages["mlc_llm"].there:
        raise EngineUnavailable("mlc", f"the package mlc_llm is not installed{where}")
    return found


def here() -> MlcPython:
    """This Python, whether mlc_llm is in it or not."""
    return _of(None, {"version": list(sys.version_info[:3]), **probe.found()})


def _elsewhere(executable: str) -> MlcPython:
    try:
        done = _run(executable, ["-c", Path(probe.__file__).read_text(encoding="utf-8")], _PROBE_S)
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        reason = f"mlc.python = {executable} cannot be started: {getattr(error, 'strerror', None) or error}"
        raise EngineUnavailable("mlc", reason) from error
    if done is None:
        raise EngineUnavailable("mlc", f"mlc.python = {executable} did not answer within {_PROBE_S:g} s")
    try:
        found = _of(executable, _told(done.stdout))
        too_old = found.version < OLDEST
    except (strict_json.NotJson, LookupError, TypeError, ValueError) as error:
        reason = f"mlc.python = {executable} is no Python: {_last_line(done) or 'it says nothing'}"
        raise EngineUnavailable("mlc", reason) from error
    if too_old:
        told, oldest = ".".join(map(str, found.version)), ".".join(map(str, OLDEST))
        raise EngineUnavailable(
            "mlc", f"mlc.python = {executable} is Python {told}; it takes {oldest} or newer"
        )
    return found


def _told(output: str) -> dict[str, Any]:
    """What the probe says last; a Python's own start-up may have said something before. Raises `NotJson`."""
    return strict_json.parse_object((output.strip().splitlines() or [""])[-1])


def _of(executable: str | None, facts: Mapping[str, Any]) -> MlcPython:
    packages = {
        name: Package(held["there"], tuple((who, version) for who, version in held["owners"]), held["build"])
        for name, held in facts["packages"].items()
    }
    return MlcPython(executable, tuple(facts["version"]), packages)


def _run(
    executable: str | None, arguments: Sequence[str], timeout_s: float
) -> subprocess.CompletedProcess[str] | None:
    """None where it did not end in time. Raises `OSError`."""
    try:
        return subprocess.run(
            [executable or sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=_environment(executable),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def _environment(executable: str | None) -> dict[str, str]:
    environment = switched_off(os.environ)
    if executable is not None:
        environment = {name: value for name, value in environment.items() if name not in _OURS_ALONE}
        environment["PYTHONSAFEPATH"] = "1"  # the folder that this was started in has no say
    return environment


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Or what was raised, whose text may go on over more lines."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    raised = [line for line in lines if _RAISED.match(line)]
    return (raised or lines or [""])[-1].strip()[:_LAST_LINE]
