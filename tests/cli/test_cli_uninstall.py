"""Uninstalling leaves nothing behind, and takes nothing that is the user's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_router.cli.runtime_file import RuntimeFile
from edge_router.cli.verbs.uninstall import places
from edge_router.system.paths import Paths

SCRIPTED = ("-o", "weak.engine=scripted", "-o", "router.name=length")
OWN = ("notes.txt", "callers-of-mine.txt", "downloads2", ".hidden", "configuration.toml")


def fill(paths: Paths) -> None:
    for path in (paths.ledger, paths.config_file, paths.rules, paths.log, paths.spending, paths.share):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    for folder in (paths.downloads, paths.artifacts, paths.callers / "anna", paths.confidence):
        folder.mkdir(parents=True)
        (folder / "file").write_text("some bytes")


def test_below_a_folder_of_the_users_only_ours_goes(cli, home, paths):
    fill(paths)
    for name in ("ledger.sqlite3-wal", ".config.toml.lock", "config.toml.bak", "serve.log.1", *OWN):
        (home / name).write_text("x")
    told = json.loads(cli("uninstall", "--dry-run", "--json").out)
    assert len(told["would_remove"]) == 14 and (home / "artifacts").exists()
    refused = cli("uninstall")
    assert refused.code == 2 and "--yes" in refused.err and (home / "ledger.sqlite3").exists()
    done = cli("uninstall", "-y")
    assert done.code == 0 and "pip uninstall edge-router" in done.err
    assert sorted(each.name for each in home.iterdir()) == sorted(OWN)
    assert cli("uninstall", "-y").err.startswith("Nothing is left here")


def test_settings_may_stay(cli, home, paths):
    fill(paths)
    assert cli("uninstall", "-y", "--keep-settings").code == 0
    assert sorted(each.name for each in home.iterdir()) == ["config.toml", "rules.toml"]


def test_folders_that_hold_nothing_else_go_whole(tmp_path):
    """As Linux, macOS (one folder for data and settings) and Windows (the cache within it) lay them."""
    for config, data, cache in (
        ("config/edge_router", "data/edge_router", "cache/edge_router"),
        ("app/edge_router", "app/edge_router", "caches/edge_router"),
        ("local/edge_router", "local/edge_router", "local/edge_router/Cache"),
    ):
        root = tmp_path / config.partition("/")[0]
        below = Paths.under(root)
        moved = {
            "config_file": config,
            "rules": config,
            "downloads": cache,
            "artifacts": cache,
            "responses": cache,
        }
        names = {each: getattr(below, each).name for each in Paths.__slots__}
        paths = Paths(**{each: root.parent / moved.get(each, data) / names[each] for each in names})
        fill(paths)
        environ = {
            "XDG_CACHE_HOME": str((root.parent / cache).parent),
            "LOCALAPPDATA": str(root.parent / "local"),
        }
        gone = places(paths, environ)
        assert {*gone} == {
            Path(root.parent / each) for each in {config, data, cache} if "Cache" not in each
        }, config
        left = places(paths, environ, settings=False)
        assert paths.config_file not in left and paths.rules not in left
        parents = {parent for each in left for parent in (each, *each.parents)}
        assert paths.ledger in left or paths.ledger.parent in parents
        assert paths.artifacts in parents or paths.artifacts.parent in parents or paths.artifacts in left


def test_not_under_a_server_that_runs(cli, home, paths):
    fill(paths)
    file = RuntimeFile()
    file.prepare()
    file.write("http://127.0.0.1:7070", {})
    done = cli("uninstall", "-y")
    assert done.code == 1 and "http://127.0.0.1:7070; end it first" in done.err
    assert paths.ledger.exists()


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="HOME says where everything goes on Linux")
def test_a_home_is_as_it_was_before(environment, tmp_path):
    """All that a person does in a first hour, then the difference."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text("# mine\n")
    kept = {
        name: value for name, value in environment.items() if not name.startswith(("EDGE_ROUTER", "XDG_"))
    }
    env = {**kept, "HOME": str(home)}

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "edge_router", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(
        "config",
        "set",
        "weak.engine=scripted",
        "router.name=length",
        "response_cache.mode=disk",
        "server.resident=true",
    )
    run("config", "set", "ledger.store_prompts=true")
    run("chat", "hello", "--temperature", "0")
    run("rate", "up")
    run("keys", "new", "anna")
    log = home / ".local" / "share" / "edge_router" / "serve.log"
    command = [sys.executable, "-m", "edge_router", "serve", "--port", "0", "--log", str(log)]
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL) as process:
        while not (log.exists() and "Listening" in log.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        assert run("chat", "hello again") == "You said: hello again\n"
        process.send_signal(signal.SIGTERM)
    left = {str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()}
    assert len(left) > 4, left
    run("uninstall", "-y")
    assert [file for file in home.rglob("*") if not file.is_dir()] == [home / ".bashrc"]
    assert not [folder for folder in home.rglob("*") if "edge" in folder.name]
    assert list((home / ".config").iterdir()) == []
