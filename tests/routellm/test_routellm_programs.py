"""RouteLLM's server and calibration by their flags."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from local_servers import QWEN, WORDS

from edge_router.routellm import calibrate_threshold, openai_server
from edge_router.routellm.flags import main

pytestmark = pytest.mark.integration

CONFIG = "mf:\n  checkpoint_path: routellm/mf_gpt4_augmented\nbert:\n    checkpoint_path: x\n"


def test_a_threshold_for_a_share_of_the_calls(capsys, tmp_path):
    file = tmp_path / "config.example.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    flags = ["--routers", "mf", "random", "--strong-model-pct", "0.5", "--config", str(file)]
    assert main(calibrate_threshold.work, flags) == 0
    told = capsys.readouterr()
    found = re.findall(
        r'^50% strong model calls for (\w+): model="router-\1-(0\.\d+)"$', told.out, re.MULTILINE
    )
    assert [name for name, _ in found] == ["mf", "random"] and all(0 < float(value) < 1 for _, value in found)
    assert "of mf, bert is of RouteLLM's checkpoints" in told.err


def test_by_prompts_of_ones_own(capsys, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"{'x' * n}\n" for n in range(1, 101)), encoding="utf-8")
    flags = ["--routers", "length", "--strong-model-pct", "0.2", "--battles_dataset", str(file)]
    assert main(calibrate_threshold.work, flags) == 0
    assert capsys.readouterr().out.startswith("20% strong model calls for length: model=")


def test_what_is_missing_is_said(capsys):
    assert main(calibrate_threshold.work, ["--routers", "mf"]) == 2
    assert "--strong-model-pct" in capsys.readouterr().err
    assert main(calibrate_threshold.work, ["--task", "generate"]) == 0
    assert "Nothing has to be generated" in capsys.readouterr().err
    assert main(openai_server.work, ["--weak-model", "anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1"]) == 2
    assert "on this machine" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(openai_server.work, ["--routers", "nosuch"])


@pytest.mark.skipif(sys.platform == "win32", reason="a process is stopped by a signal here")
def test_the_server_by_its_flags(local_server, monkeypatch):
    server = local_server("ollama")
    monkeypatch.setenv("OLLAMA_API_BASE", server.address)
    flags = (
        "--routers",
        "length",
        "--strong-model",
        "gpt-4.1",
        "--weak-model",
        f"ollama/{QWEN}",
        "--port",
        "0",
    )
    command = [sys.executable, "-m", "edge_router.routellm.openai_server", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        url = re.search(r"http://\S+", said)
        assert url is not None and "with the routers length" in said, said
        body = json.dumps({"model": "router-length-1.0", "messages": [{"role": "user", "content": "hi"}]})
        asked = urllib.request.Request(
            f"{url[0]}/chat/completions", body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
            assert json.load(answer)["choices"][0]["message"]["content"] == "".join(WORDS)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
