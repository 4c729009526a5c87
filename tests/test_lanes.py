"""Lanes hold what they say, unit tests are what they are called, and tests/README.md and .ci/run know them all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration  # starts pytest

TESTS = Path(__file__).parent
README = (TESTS / "README.md").read_text(encoding="utf-8")
RUN = (TESTS.parent / ".ci" / "run").read_text(encoding="utf-8")
Outcomes = dict[str, list[str]]
Suite = Callable[..., Outcomes]


def lanes() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", "import lanes; print(lanes.UNIT, *lanes.LANES)"],
        env={**os.environ, "PYTHONPATH": str(TESTS / "plugins")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def run_suite(folder: Path, code: str, *arguments: str, whole: bool = True) -> Outcomes:
    """What became of each test of a file with that code: names and reasons by outcome, and all that was said.

    The folder is asked for if `whole`, else what the arguments name.
    """
    (folder / "test_it.py").write_text(textwrap.dedent(code), encoding="utf-8")
    search = os.pathsep.join([str(TESTS / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {name: value for name, value in os.environ.items() if name not in ("UNIT_GUARD", "PYTEST_ADDOPTS")}
    command = ["-m", "pytest", "-c", os.devnull, "-rA", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *command, "--rootdir", str(folder), *arguments, "-p", "lanes", *([str(folder)] if whole else [])],
        env={**kept, "PYTHONPATH": search, "COLUMNS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    found: Outcomes = {"text": [done.stdout + done.stderr]}
    for outcome, rest in re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) (.*)$", done.stdout, re.MULTILINE):
        found.setdefault(outcome.lower(), []).append(rest)
    return found


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """`suite(code, "-m", "unit")`."""
    return partial(run_suite, tmp_path)


TRESPASSES = {
    "loads TVM": "import tvm",
    "loads a part of it": "from tvm.runtime import Module",
    "loads onnxruntime by name": "import importlib; importlib.import_module('onnxruntime')",
    "loads wgpu": "import wgpu",
    "swallows the refusal": "import contextlib\nwith contextlib.suppress(Exception):\n    import tvm",
    "in a thread": "import threading; t = threading.Thread(target=__import__, args=('tvm',)); t.start(); t.join()",
    "in a process": "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import tvm'])",
    "looks a name up": "import socket; socket.getaddrinfo('example.org', 80)",
    "looks this machine up": "import socket; socket.getaddrinfo('localhost', 80)",
    "asks the resolver": "import socket; socket.gethostbyname('example.org')",
    "connects": "import socket; socket.socket().connect_ex(('192.0.2.1', 9))",
    "sends": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
    "connects by IPv6": "import socket; socket.socket(socket.AF_INET6).connect_ex(('2001:db8::1', 9))",
    "listens": "import socket; socket.create_server(('127.0.0.1', 0)).close()",
    "connects to this machine": "import socket; socket.socket().connect_ex(('127.0.0.1', 9))",
    "sends to this machine": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "listens in asyncio": "import asyncio; asyncio.run(asyncio.start_server(lambda r, w: None, '127.0.0.1', 0))",
    "over HTTP": "import httpx; httpx.get('http://example.org', trust_env=False)",
    "in a process that connects": (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"example.org\", 80), 1)'])"
    ),
}


SPREAD = ("-p", "xdist", "--dist", "loadfile", "-n", "2")  # over two processes, as whole runs are


@pytest.fixture(scope="module", params=[(), SPREAD], ids=["one", "two"])
def trespassed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    tests = [
        f"def test_{number}():\n" + textwrap.indent(code, "    ")
        for number, code in enumerate(TRESPASSES.values())
    ]
    return run_suite(tmp_path_factory.mktemp("trespasses"), "\n\n".join(tests), "-m", "unit", *request.param)


@pytest.mark.parametrize("what", list(TRESPASSES))
def test_a_unit_test_that_is_none_fails(what: str, trespassed: Outcomes) -> None:
    name = f"test_it.py::test_{list(TRESPASSES).index(what)} "
    (line,) = [line for line in trespassed["error"] if line.startswith(name)]
    assert "not a unit test: it " in line, trespassed["text"]


def test_what_opens_no_socket_passes(suite: Suite) -> None:
    code = """
        import asyncio, importlib.util, socket, subprocess, sys

        async def loop():
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import json")
            assert await process.wait() == 0

        def test_it():
            asyncio.run(loop())
            getattr(socket, "_fallback_socketpair", socket.socketpair)()  # what loops have on Windows
            socket.getaddrinfo("192.0.2.1", 80)  # nobody is asked
            assert importlib.util.find_spec("tvm")  # whether it is here may be seen
            assert subprocess.run([sys.executable, "-c", "import json"]).returncode == 0
    """
    found = suite(code, "-m", "unit")
    assert len(found["passed"]) == 1 and "1 passed" in found["text"][0], found


def test_a_file_that_loads_a_runtime_when_it_is_imported_holds_no_unit_tests(suite: Suite) -> None:
    found = suite("import onnxruntime\n\ndef test_it():\n    pass\n", "-m", "unit")
    assert set(found) == {"text"} and "no tests ran" in found["text"][0], found


MARKED = """
    import lanes, pytest

    lanes.LANES["reference"] = lanes.Lane("", lambda: "not here")

    @pytest.mark.slow
    def test_slow(): pass

    @pytest.mark.gpu
    def test_gpu(): pass

    @pytest.mark.parametrize("number", range(3))
    @pytest.mark.reference
    def test_reference(number): raise AssertionError("nothing that it needs is here")

    @pytest.mark.integration
    def test_whole(): pass

    def test_unit(): pass
"""


@pytest.mark.parametrize("spread", [(), SPREAD], ids=["one", "two"])
def test_by_default_what_cannot_run_is_one_line_for_each_reason(
    suite: Suite, spread: tuple[str, ...]
) -> None:
    found = suite(MARKED, *spread)
    assert sorted(name.partition("::")[2] for name in found["passed"]) == ["test_unit", "test_whole"]
    reasons = [re.sub(r"\S*lanes\.py:\d+", "HERE", line) for line in sorted(found["skipped"])]
    assert reasons == [
        "[1] HERE: needs a GPU: python3 -m pytest -m gpu",
        "[1] HERE: takes minutes: python3 -m pytest -m slow",
        "[3] HERE: not here",
    ]


def test_a_lane_that_is_named_fails_where_it_cannot_run(suite: Suite) -> None:
    found = suite(MARKED, "-m", "reference or slow")
    assert len(found["error"]) == 3 and all("not here" in line for line in found["error"]), found
    assert len(found["passed"]) == 1


@pytest.mark.parametrize("spread", [(), SPREAD], ids=["one", "two"])
def test_no_test_ends_the_run(suite: Suite, spread: tuple[str, ...]) -> None:
    """With status 0 and without a word: everything after it would never have been tried."""
    code = "import os\n\ndef test_it():\n    os._exit(0)\n\ndef test_next():\n    pass\n"
    found = suite(code, *spread)
    assert len(found["failed"]) == len(found["passed"]) == 1, found


WHOLE = """
    def test_it(pytestconfig):
        assert hasattr(pytestconfig, "workerinput") == SPREAD
"""


@pytest.mark.parametrize(
    ("arguments", "spread"),
    [
        ((), True),
        (("-n", "0"), False),
        (("--capture=no",), False),
        (("FILE",), False),
        (("FILE::test_it",), False),
    ],
    ids=str,
)
def test_whole_folders_are_spread_and_what_is_named_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], spread: bool
) -> None:
    """And the variable of pytest-xdist has a say, where there is but one core."""
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    code = WHOLE.replace("SPREAD", str(spread))
    named = [word.replace("FILE", str(tmp_path / "test_it.py")) for word in arguments]
    found = run_suite(tmp_path, code, *SPREAD, "-n", "auto", *named, whole="FILE" not in str(arguments))
    assert len(found["passed"]) == 1, found["text"]


def test_the_readme_has_every_lane_and_ci_runs_it() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", README, re.MULTILINE))
    assert sorted(rows) == sorted(lanes())
    commands = {name: cell.strip("`") for name, cell in rows.items() if cell.startswith("`python3")}
    in_the_default = {"integration", "emulated"}
    for name, command in commands.items():
        assert name in in_the_default or command in RUN, f".ci/run has no {command}"


def test_the_readme_has_every_folder() -> None:
    (page,) = re.findall(r"<!-- folders -->\n```\n(.*?)```", README, re.DOTALL)
    listed = [line.split("/")[0] for line in page.splitlines()]
    assert listed == sorted(f.name for f in TESTS.iterdir() if f.is_dir() and any(f.rglob("*.py")))


def test_ci_runs_the_readmes_commands_first_and_in_environments_that_hold_nothing_else() -> None:
    steps = [line.strip() for line in RUN.splitlines()]
    first, second = (
        steps.index("as_printed first"),
        next(i for i, s in enumerate(steps) if s.endswith("as_printed test")),
    )
    assert steps[first - 1] == "fresh first" and "fresh second" in steps[first:second]
    installs = [i for i, step in enumerate(steps) if "pip install" in step]
    assert first < second < min(installs)
    assert not [step for step in steps[:second] if "apt-get" in step or "pytest -" in step]


def test_a_newcomers_warnings_are_no_errors(pytestconfig: pytest.Config) -> None:
    assert "error" not in pytestconfig.getini("filterwarnings")
    assert 'strict="-W error' in RUN
