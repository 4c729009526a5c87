"""The main job as a person does it: the demo model, really built, asked from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest


@pytest.fixture
def demo(program, environment, built_home):
    """`demo("chat", ...)` where the demo model is built."""

    def call(*arguments, **options):
        env = {**environment, "EDGE_ROUTER_HOME": str(built_home)}
        return program(*arguments, env=env, timeout=120, **options)

    return call


def test_a_question_gets_its_answer_and_nothing_else_on_stdout(demo):
    done = demo("chat", "What is the capital of France?", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout and done.stdout.endswith("\n")
    # Nothing was built, and no library said anything.
    said = [line for line in done.stderr.splitlines() if not line.startswith("load: ")]
    credit, *suggested = said
    assert all(line.startswith("This was the demo model; ") for line in suggested) and len(suggested) <= 1
    assert credit.startswith("SmolLM2-135M-Instruct (weak): score ") and "tokens/s" in credit


def test_json_tells_what_was_measured(demo):
    done = demo("chat", "--json", "--temperature", "0", "--max-tokens", "8", input="Name three colours.")
    report = json.loads(done.stdout)
    assert report["usage"]["completion_tokens"] == 8 and report["decision"]["reason"] == "score"
    assert all(value > 0 for value in report["timings"].values()), report


def test_a_prompt_that_is_too_long_says_by_how_much(demo):
    done = demo("chat", "Summarise.", input="word " * 20000)
    assert done.returncode == 1 and done.stdout == ""
    assert "more than the context of" in done.stderr and "Traceback" not in done.stderr


def test_doctor_finds_the_model_built(demo):
    done = demo("doctor", "--json", "--offline")
    found = {(item["section"], item["name"]): item for item in json.loads(done.stdout)["findings"]}
    assert found["Weak model", "compiled"]["text"] == "for this machine and these settings"
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_stops_the_real_engine(environment, built_home):
    env = {**environment, "EDGE_ROUTER_HOME": str(built_home)}
    with subprocess.Popen(
        [sys.executable, "-m", "edge_router", "chat", "Write a very long story.", "--max-tokens", "3000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=env,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in err
