"""The server as a service: what is written and run, what is told, and that no secret is written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from edge_router.cli.runtime_file import RuntimeFile
from edge_router.cli.verbs.service import carry_out
from edge_router.system.background_service import Step

SCRIPTED = ("-o", "weak.engine=scripted", "-o", "router.name=length")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a stand-in for systemctl")


@pytest.fixture
def systemctl(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that writes down what it is told; FAILS holds what it fails at."""
    place, log = tmp_path / "bin", tmp_path / "told"
    place.mkdir()
    log.touch()
    program = place / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> "{log}"\n'
        'case "$*" in $FAILS) echo "no bus here" >&2; exit 1;; esac\n'
    )  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("FAILS", "nothing")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return log


def unit(tmp_path: Path) -> Path:
    return tmp_path / ".config" / "systemd" / "user" / "edge-router.service"


@on_linux
@pytest.mark.integration
def test_it_is_installed_told_and_removed(cli, systemctl, tmp_path, monkeypatch, paths):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-one")
    monkeypatch.setenv("EDGE_ROUTER_API_KEY", "sk-secret-two")
    monkeypatch.setenv("EDGE_ROUTER_ACCESS", "a-secret-three")
    monkeypatch.setenv("EDGE_ROUTER_STRONG_API_KEY_ENV", "EDGE_ROUTER_ACCESS")
    monkeypatch.setenv("EDGE_ROUTER_WEAK_THREADS", "2")
    done = cli("service", "install", *SCRIPTED)
    assert done.code == 0, done.err
    assert systemctl.read_text().splitlines()[-2:] == [
        "--user enable edge-router.service",
        "--user restart edge-router.service",
    ]
    text = unit(tmp_path).read_text()
    assert "secret" not in text and "secret" not in done.err
    assert unit(tmp_path).stat().st_mode & 0o077 == 0, "addresses may hold passwords"
    assert 'Environment="EDGE_ROUTER_STRONG_API_KEY_ENV=EDGE_ROUTER_ACCESS"' in text
    assert 'Environment="EDGE_ROUTER_WEAK_THREADS=2"' in text and "weak.engine=scripted" in text
    assert "keyring set edge_router EDGE_ROUTER_ACCESS" in done.err and "edge-router keys new" in done.err
    told = cli("service", "status")
    assert told.code == 1 and str(unit(tmp_path)) in told.out and str(paths.log) in told.out
    file = RuntimeFile()
    file.prepare()
    file.write("http://127.0.0.1:7070", {})
    told = json.loads(cli("service", "status", "--json").out)
    assert told["installed"] and told["running"]["url"] == "http://127.0.0.1:7070"
    assert cli("service", "status").code == 0
    assert cli("service", "remove").code == 0
    assert "--user disable --now edge-router.service" in systemctl.read_text()
    assert not unit(tmp_path).exists()
    assert cli("service", "remove").err == "No service is installed.\n"


@on_linux
@pytest.mark.integration
def test_where_no_session_keeps_programs_nothing_is_written(cli, systemctl, tmp_path, monkeypatch):
    monkeypatch.setenv("FAILS", "*show-environment")
    done = cli("service", "install", *SCRIPTED)
    assert (done.code, done.out) == (1, "")
    assert "(no bus here)" in done.err and done.err.rstrip().endswith("start it by hand: edge-router serve")
    assert not unit(tmp_path).exists()


@on_linux
@pytest.mark.integration
def test_what_the_system_refuses_is_told(cli, systemctl, monkeypatch):
    monkeypatch.setenv("FAILS", "*restart*")
    done = cli("service", "install", *SCRIPTED)
    assert done.code == 1 and "restart edge-router.service: no bus here" in done.err


@on_linux
@pytest.mark.integration
def test_printing_it_changes_nothing(cli, systemctl, tmp_path):
    done = cli("service", "install", "--print")
    assert done.code == 0 and "ExecStart=" in done.out and "# systemctl --user restart" in done.out
    assert not unit(tmp_path).exists() and systemctl.read_text() == ""


@on_linux
@pytest.mark.integration
def test_a_setting_that_no_file_can_hold_is_told_and_hinders_nothing_else(cli, systemctl, monkeypatch):
    for value in ("a\nb", "a\udcff"):
        monkeypatch.setenv("EDGE_ROUTER_WEAK_MODEL", value)
        done = cli("service", "install", *SCRIPTED)
        assert (done.code, done.out) == (2, "") and "error: systemd cannot be told that" in done.err, value
        assert cli("service", "status").code == 1 and "no; " in cli("service", "status").out
        assert cli("service", "remove").err == "No service is installed.\n"
        assert cli("uninstall", "--dry-run").code == 0


def test_a_step_that_is_not_needed_may_fail():
    asked = list[Step]()

    def run(step: Step) -> subprocess.CompletedProcess[str]:
        asked.append(step)
        return subprocess.CompletedProcess(step.words, 1, "", "not there")

    steps = (Step(("end",), needed=False), Step(("begin",)), Step(("never",)))
    with pytest.raises(typer.Exit):
        carry_out(steps, run)
    assert tuple(asked) == steps[:2]
