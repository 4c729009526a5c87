"""Nothing reports home: no name look-up, no connection, and no file outside of edge_router's own home."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from table import each

from edge_router.system.telemetry import SWITCHES, reporting, switched_off

ROOT = Path(__file__).parents[2]
NETWORK = re.compile(r"\b(?:connect|sendto|sendmsg|sendmmsg)\(.*sa_family=AF_INET6?\b.*")
LOOPBACK = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "(?:::1|::ffff:127\.)')
RESOLVER = re.compile(r'sun_path="[^"]*(?:nscd|resolve)')


OURS = [file for folder in ("edge_router", "compile", "tests") for file in ROOT.glob(f"{folder}/**/*.py")]


@each("file", [file for file in OURS if "visit" not in file.parts])  # which has machines of its own
def test_what_reports_home_is_imported_in_one_place(file):
    if file.name == "telemetry.py":
        return
    text = file.read_text(encoding="utf-8")
    if not any(name in text for name in SWITCHES):  # which spares reading a thousand trees
        return
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found = {name.partition(".")[0] for name in names} & set(SWITCHES)
        assert not found or _typing_only(file, node), f"{file}:{node.lineno} imports {found}"


def _typing_only(file: Path, node: ast.AST) -> bool:
    guarded = [
        block
        for block in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
    ]
    return any(block.lineno < node.lineno <= (block.end_lineno or 0) for block in guarded)


def test_a_child_gets_every_switch_whatever_the_environment_says():
    assert switched_off({"ORT_DISABLE_TELEMETRY": "0", "PATH": "x"}) == {
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PATH": "x",
    }


def test_a_library_that_was_imported_too_early_is_named():
    assert reporting({}, {"onnxruntime": object(), "json": object()}) == ["onnxruntime"]
    assert reporting({"ORT_DISABLE_TELEMETRY": "0"}, {"onnxruntime": object()}) == ["onnxruntime"]
    assert reporting(switched_off({}), dict.fromkeys(SWITCHES)) == []


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(SWITCHES))
def test_an_early_import_is_told_in_the_log_and_a_later_one_is_not(name):
    environment = {key: value for key, value in os.environ.items() if key not in SWITCHES.values()}
    said = "import logging, os, sys, types; logging.basicConfig(stream=sys.stdout)\n"
    load = f"from edge_router.system.telemetry import load_{name}; load_{name}(); print(os.environ['{SWITCHES[name]}'])"
    early = f"sys.modules['{name}'] = types.ModuleType('{name}')\n"
    for before, told in ("", False), (early, True):
        code = [sys.executable, "-c", said + before + load]
        done = subprocess.run(code, env=environment, capture_output=True, text=True, check=True)
        assert (f"{name} was imported before edge_router" in done.stdout) is told
        assert done.stdout.split()[-1] == "1"


class Watched:
    """One run of the program in an empty HOME, under strace and without any network where that can be had."""

    def __init__(self, folder: Path, arguments: Sequence[str], *, seconds: float = 0, home: Path) -> None:
        self.user_home, self.trace = folder / "user", folder / "trace"
        self.user_home.mkdir()
        command = [sys.executable, "-m", "edge_router", *arguments]
        self.traced = _works(["strace", "-f", "-o", os.devnull, "true"])
        if self.traced:
            calls = "trace=connect,sendto,sendmsg,sendmmsg"
            command = ["strace", "-f", "-e", calls, "-o", str(self.trace), *command]
        if _works(["unshare", "-rn", "true"]):
            command = ["unshare", "-rn", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *command]
        self.output = self._run(command, self._environment(home), seconds)

    def _environment(self, home: Path) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        for name in SWITCHES.values():
            kept.pop(name, None)
        user = str(self.user_home)
        return {
            **kept,
            "HOME": user,
            "USERPROFILE": user,
            "LOCALAPPDATA": user,
            "EDGE_ROUTER_HOME": str(home),
        }

    def _run(self, command: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                return process.communicate(timeout=seconds or 240)[0]
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM) if os.name == "posix" else process.terminate()
                return process.communicate(timeout=60)[0]

    def files_outside(self) -> list[str]:
        return sorted(str(path.relative_to(self.user_home)) for path in self.user_home.rglob("*"))

    def network(self) -> list[str]:
        """Calls that look a name up or leave the loopback interface; empty too where nothing was traced."""
        return network_calls(self.trace.read_text(errors="replace").splitlines()) if self.traced else []


def network_calls(lines: Sequence[str]) -> list[str]:
    """Of strace's lines those that look a name up, or reach for another machine."""
    out = [line for line in lines if NETWORK.search(line) and not LOOPBACK.search(line)]
    return out + [line for line in lines if RESOLVER.search(line)]


def _works(command: Sequence[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("line", "leaves"),
    [
        ('connect(8, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.2")}, 16) = 0', True),
        ('sendto(3, "GET", 3, 0, {sa_family=AF_INET, sin_addr=inet_addr("192.0.2.7")}, 16) = 3', True),
        ('connect(8, {sa_family=AF_INET6, inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28) = 0', True),
        ('connect(8, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT', True),
        (
            'connect(8, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
            False,
        ),
        ('connect(8, {sa_family=AF_INET6, inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0', False),
        ('connect(8, {sa_family=AF_UNIX, sun_path="/run/user/0/bus"}, 110) = 0', False),
    ],
)
def test_what_counts_as_leaving_the_machine(line, leaves):
    assert bool(network_calls([line])) is leaves


@pytest.mark.integration
def test_routing_leaves_no_trace(tmp_path, home):
    seen = Watched(tmp_path, ["route", "--offline", "hi"], home=home)
    assert "weak" in seen.output and "0." in seen.output
    assert seen.files_outside() == [] and seen.network() == []


def test_an_answer_leaves_no_trace(tmp_path, built_home):
    arguments = ["chat", "--offline", "--max-tokens", "4", "What is the capital of France?"]
    seen = Watched(tmp_path, arguments, home=built_home)
    assert "(weak)" in seen.output
    assert seen.files_outside() == [] and seen.network() == []


@pytest.mark.slow
def test_a_server_of_half_a_minute_leaves_no_trace(tmp_path, built_home):
    seen = Watched(tmp_path, ["serve", "--offline", "--port", "0"], seconds=35, home=built_home)
    assert "Listening on" in seen.output
    assert seen.files_outside() == [] and seen.network() == []
