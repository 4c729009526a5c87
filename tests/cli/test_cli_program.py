"""`edge-router` as a process of its own: start, streams, exit codes, pipes, completion, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import edge_router
from edge_router.cli.command_line import VERBS

pytestmark = pytest.mark.integration

SCRIPTED = ("-o", "weak.engine=scripted", "-o", "router.name=length")


def loaded_by(*arguments: str, env: dict[str, str]) -> set[str]:
    """The modules that a run loads."""
    code = (
        "import sys; from edge_router.cli.main import run; code = run(sys.argv[1:]); "
        "print('\\nMODULES', *sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, env=env
    )
    return set(done.stdout.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_and_version_load_next_to_nothing(environment, arguments):
    loaded = loaded_by(*arguments, env=environment)
    ours = {name for name in loaded if name.startswith("edge_router.")}
    known = {"chat", "chat.quick", "command_line", "lazy", "main", "options", "terminal", "terminal.output"}
    known = {"cli", "records", "errors", "errors.redaction", *(f"cli.{name}" for name in known)}
    assert ours <= {f"edge_router.{name}" for name in known}
    assert not {"rich", "pydantic", "numpy", "tvm", "onnxruntime", "asyncio"} & loaded


def test_completion_of_a_verb_loads_next_to_nothing(environment, program):
    env = environment | {
        "_EDGE_ROUTER_COMPLETE": "complete_bash",
        "COMP_WORDS": "edge-router c",
        "COMP_CWORD": "1",
    }
    done = program(env=env)
    assert done.stdout.split() == ["chat", "compile", "calibrate", "cache", "completion", "config"]


def test_completion_knows_the_models(environment, program):
    for words in ("edge-router compile Smol", "edge-router chat --model Smol"):
        env = environment | {
            "_EDGE_ROUTER_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        assert "SmolLM2-135M-Instruct" in program(env=env).stdout.split(), words


def test_completion_of_nothing_known_is_nothing(environment, program):
    env = environment | {
        "_EDGE_ROUTER_COMPLETE": "complete_bash",
        "COMP_WORDS": "edge-router nonsense --m",
        "COMP_CWORD": "2",
    }
    assert "Traceback" not in program(env=env).stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_words_as_it_is_told_to(environment, program, tmp_path):
    """In a real one, without a terminal: its own function is called as it calls it."""
    place = tmp_path / "edge-router"
    place.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_router "$@"\n')
    place.chmod(0o755)
    lines = (
        'eval "$(edge-router completion bash)"',
        "type=$(complete -p edge-router)",
        "COMP_WORDS=(edge-router service st); COMP_CWORD=2; _edge_router_completion edge-router",
        'echo "$type: ${COMPREPLY[*]}"',
    )
    env = environment | {"PATH": f"{tmp_path}:{environment['PATH']}"}
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, env=env)
    assert done.stdout == "complete -o default -F _edge_router_completion edge-router: status\n", done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_each_shell_is_told_and_nothing_beside(cli, home, shell):
    done = cli("completion", shell)
    assert (done.code, done.err) == (0, "") and "edge-router" in done.out
    assert "_EDGE_ROUTER_COMPLETE" in done.out and f"complete_{shell}" in done.out
    assert list(home.iterdir()) == []


def test_version(program):
    done = program("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"edge-router {edge_router.__version__}\n", "")


def test_help_lists_every_verb(program):
    done = program("--help")
    for verb in VERBS:
        assert f"\n  {verb.name}" in done.stdout


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_a_help_that_begins_as_the_table_says(cli, verb):
    done = cli(verb.name, "--help")
    assert done.code == 0 and done.err == ""
    assert done.out.startswith(f"Usage: edge-router {verb.name} ")


def test_a_misspelled_verb_is_a_usage_error(cli):
    done = cli("chta")
    assert done.code == 2 and "Did you mean 'chat'?" in done.err


def test_an_answer_and_its_credit_come_on_two_streams(program):
    done = program("chat", "Why?", *SCRIPTED)
    assert (done.returncode, done.stdout) == (0, "You said: Why?\n")
    assert done.stderr.startswith("scripted-weak (weak): score 0.")


def test_a_pipe_is_read_and_json_is_written(program):
    done = program("chat", "Summarise.", "--json", *SCRIPTED, input="Grüße, 世界\n")
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads(done.stdout)["text"] == "You said: Summarise.\n\nGrüße, 世界"


def test_text_survives_an_environment_without_utf8(environment, program):
    env = environment | {"PYTHONIOENCODING": "cp1252"}
    done = program("chat", "Grüße, 世界", *SCRIPTED, env=env, encoding="cp1252")
    assert (done.returncode, done.stdout) == (0, "You said: Grüße, ??\n")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise on Windows")
def test_a_reader_that_goes_away_is_no_error(environment):
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run(
        [sys.executable, "-m", "edge_router", "route", "hello", "--json", "-o", "router.name=length"],
        stdout=write,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        check=False,
        env=environment,
    )
    os.close(write)
    assert (gone.returncode, gone.stderr) == (1, b"")


def test_a_program_without_a_standard_input(environment):
    code = "import sys; sys.stdin = None; from edge_router.cli.main import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "chat", *SCRIPTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2 and "the prompt is empty" in done.stderr
    done = subprocess.run([*command, "hello"], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "You said: hello\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_told(program):
    with Path("/dev/full").open("w") as full:
        done = program("chat", "x", *SCRIPTED, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert "standard output cannot be written" in done.stderr and "artifacts" not in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stderr_costs_no_answer(program):
    with Path("/dev/full").open("w") as full:
        done = program("chat", "x", *SCRIPTED, stdout=subprocess.PIPE, stderr=full)
    assert (done.returncode, done.stdout) == (0, "You said: x\n")


def test_libraries_keep_their_warnings(environment, tmp_path):
    script = tmp_path / "noisy.py"
    script.write_text(
        "import logging, warnings\n"
        "from edge_router.cli import session\n"
        "make = session.make_controller\n"
        "def noisy(*given):\n"
        "    warnings.warn('leaked', UserWarning)\n"
        "    logging.getLogger('urllib3').warning('leaked')\n"
        "    logging.getLogger('edge_router.ledger').warning('worth knowing')\n"
        "    return make(*given)\n"
        "session.make_controller = noisy\n"
        "from edge_router.cli.main import main\n"
        "main()\n",
        encoding="utf-8",
    )

    def run(*more: str) -> str:
        command = [sys.executable, str(script), "chat", "x", *SCRIPTED, *more]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        return done.stderr

    quiet = run()
    assert "leaked" not in quiet and "warning: worth knowing\n" in quiet
    assert "warning: leaked" in run("--debug")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_ends_one_answer_with_130(environment, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script), "chat", "x"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"One"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b" \n", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_ends_even_an_answer_that_is_stuck(environment, tmp_path):
    """An engine deep in native code that does not look at its cancel."""
    script = tmp_path / "stuck.py"
    script.write_text(
        SLOW.replace("[60.0]", "[stuck]").replace("main()", "turn.PATIENCE_S = 0.1\nmain()"), encoding="utf-8"
    )
    with subprocess.Popen(
        [sys.executable, str(script), "chat", "x"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"One"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


SLOW = """
import time
from edge_router.chat.events import TextDelta
from edge_router.cli import session
from edge_router.cli.chat import building
from edge_router.cli.chat import turn
from edge_router.cli.main import main
from edge_router.api.client import Controller
from edge_router.engines.scripted import ScriptedEngine
from edge_router.routing.routers.controls import LengthRouter

class Stuck(ScriptedEngine):
    def stream(self, prompt, cancel):
        yield TextDelta("One ")
        time.sleep(600)

stuck = object()
reply = ["One ", *[60.0]]
weak = Stuck(model_id="small") if stuck in reply else ScriptedEngine(reply, model_id="small")
session.make_controller = lambda config, paths, progress: Controller(
    config, weak=weak, router=LengthRouter(), paths=paths, progress=progress
)
building.is_ready = lambda config, paths: True
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="closes streams as a POSIX shell does")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("arguments", [("route", "-o", "router.name=length", "hi"), ("--help",)])
def test_a_closed_stream_is_no_fault_unless_the_answer_belongs_there(
    environment, arguments, closed, tmp_path
):
    """And what is written meanwhile does not land in a file that took the stream's number."""
    code = (
        "import os, sys; [os.close(int(number)) for number in sys.argv[1].split(',')]; "
        "os.execv(sys.executable, [sys.executable, '-m', 'edge_router', *sys.argv[2:]])"
    )
    numbers = ",".join(map(str, closed))
    done = subprocess.run(
        [sys.executable, "-c", code, numbers, *arguments],
        capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == (1 in closed) and "Traceback" not in done.stderr
    assert bool(done.stdout) is (1 not in closed)
    assert ("standard output cannot be written" in done.stderr) is (1 in closed and 2 not in closed)
