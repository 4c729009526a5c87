"""`serve` as a process: it listens, answers, and ends well; what it refuses to begin with."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from edge_router.cli.runtime_file import RuntimeFile
from edge_router.errors import LocalServerDown

SCRIPTED = ("-o", "weak.engine=scripted", "-o", "router.name=length")


def threshold_from(link):
    """What is told of a threshold that is saved from the page that `link` opens."""
    page = urllib.request.Request(link, headers={"Accept": "text/html"})
    with urllib.request.urlopen(page, timeout=30) as reply:
        cookie = reply.headers["Set-Cookie"].partition(";")[0]
    saving = urllib.request.Request(
        f"{link.partition('?')[0]}dashboard/threshold",
        data=b'{"threshold": 0.25}',
        headers={"Content-Type": "application/json", "Cookie": cookie},
    )
    with urllib.request.urlopen(saving, timeout=30) as reply:
        return json.load(reply)


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_it_listens_answers_and_ends(cli, environment, home):
    with subprocess.Popen(
        [sys.executable, "-m", "edge_router", "serve", "--port", "0", *SCRIPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"Listening on (http://127\.0\.0\.1:\d+/v1) \(weak: .*, strong: none\)", line)
        assert found is not None, line + process.stderr.read()
        assert "which this prints: edge-router dashboard" in process.stderr.readline()
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        request = urllib.request.Request(
            f"{found[1]}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            answer = json.load(reply)
        assert answer["choices"][0]["message"]["content"] == "You said: hello"
        link = cli("dashboard").out.strip()
        saved, renewed = threshold_from(link), cli("dashboard").out.strip()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    gone = cli("dashboard")
    assert (gone.code, gone.out) == (1, "") and "start one with: edge-router serve" in gone.err
    assert saved["file"] == str(home / "config.toml")
    assert "threshold = 0.25" in Path(saved["file"]).read_text(encoding="utf-8")
    header, told = err.splitlines()
    place = found[1].removesuffix("v1")
    assert link != renewed and link.startswith(place) and renewed.startswith(place)
    assert "token=" in link and "token=" not in err
    assert header.split() == ["time", "model", "reason", "score", "tokens", "ms"]
    assert re.fullmatch(
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d weak +scripted-weak +score +0\.\d+ +\d+\+\d+ +\d+", told
    )


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_its_words_go_to_a_file(environment, tmp_path):
    log = tmp_path / "logs" / "serve.log"
    command = [sys.executable, "-m", "edge_router", "serve", "--port", "0", "--log", str(log), *SCRIPTED]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment
    ) as process:
        while not (log.exists() and "Listening on" in log.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 0


@pytest.mark.integration
def test_a_busy_port_is_told_with_another(cli):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = cli("serve", "--port", str(port), *SCRIPTED)
    assert done.code == 1 and f"127.0.0.1:{port} is in use" in done.err
    assert f"edge-router serve --port {port + 1}" in done.err


@pytest.mark.integration
def test_a_port_that_a_server_of_ours_has_is_told_as_that(cli):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        url = f"http://127.0.0.1:{busy.getsockname()[1]}"
        file = RuntimeFile()
        file.prepare()
        file.write(url, {})
        done = cli("serve", "--port", url.rpartition(":")[2], *SCRIPTED)
        file.remove()
    assert done.code == 1
    assert f"A server of yours runs at {url} already: process {os.getpid()}, begun" in done.err


@pytest.mark.integration
def test_ollamas_port_is_tried_and_told_too(cli, models, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        chosen = ("--set", f"server.ollama_port={port}")
        done = cli("serve", "--port", "0", *chosen, *SCRIPTED)
    assert done.code == 1 and f"127.0.0.1:{port} is in use, most likely by Ollama" in done.err

    def run(controller, *, api_key, on_ready, on_waiting, dashboard):
        on_waiting(LocalServerDown("http://127.0.0.1:11434", "refused", "ollama"))
        on_ready("http://127.0.0.1:1")
        return True

    monkeypatch.setattr("edge_router.server.serve.run", run)
    told = f"Listening on http://127.0.0.1:1/v1 and, as Ollama would, on http://127.0.0.1:{port} (weak"
    said = cli("serve", *chosen).err
    assert told in said and "start it with `ollama serve`" in said and "as soon as it is there" in said


def test_a_public_address_needs_a_key(cli, models):
    done = cli("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.code == 1 and "set EDGE_ROUTER_API_KEY first" in done.err


@pytest.mark.parametrize("port", ["65536", "-1", "http"])
def test_a_port_that_is_none(cli, models, port):
    assert cli("serve", "--port", port).code == 2


def test_the_key_reaches_the_server(cli, models, monkeypatch):
    seen = {}

    def run(controller, *, api_key, on_ready, on_waiting, dashboard):
        seen["key"] = api_key
        seen.setdefault("pages", []).append(dashboard is not None)
        on_ready("http://127.0.0.1:1")
        return True

    monkeypatch.setattr("edge_router.server.serve.run", run)
    monkeypatch.setenv("EDGE_ROUTER_API_KEY", " abc ")
    assert "Listening on http://127.0.0.1:1/v1" in cli("serve").err
    elsewhere = ("--set", "questions.base_url=http://127.0.0.1:9/v1", "--set", "questions.model=jev")
    assert "strong: none, for typed questions: jev)" in cli("serve", *elsewhere).err
    assert seen["key"] == "abc" and cli("serve", "-q").err == ""
    assert "edge-router dashboard" in cli("serve").err
    for none in (("--no-dashboard",), ("--set", "server.dashboard=false")):
        assert "dashboard" not in cli("serve", *none).err, none
    assert seen["pages"] == [True, True, True, True, False, False]
