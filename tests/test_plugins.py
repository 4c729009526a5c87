"""Entry points of real installed packages, in this process and in a fresh one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_router import plugins
from edge_router.errors import DuplicateName, PluginFailed
from edge_router.registry import Registry


def install(folder: Path, package: str, points: dict[str, str], module: str) -> None:
    """What pip leaves behind for a package with entry points in the group of routers."""
    (folder / f"{package}.py").write_text(module, encoding="utf-8")
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8"
    )
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{plugins.ROUTERS}]\n{lines}\n", encoding="utf-8")


def test_a_plugin_is_found_and_imported_only_when_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "their_routers", {"coin": "their_routers:make"}, "def make(threads=1): return 'coin'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[object] = plugins.extend(Registry("router"), plugins.ROUTERS)
    assert "their_routers" not in sys.modules
    assert registry.get("coin")(threads=2) == "coin"
    assert registry.owner("coin") == "their_routers"


def test_a_taken_name_is_refused_with_both_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "second_mf", {"mf": "second_mf:make"}, "")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[object] = Registry("router")
    registry.add("mf", dict)
    with pytest.raises(DuplicateName) as caught:
        plugins.extend(registry, plugins.ROUTERS)
    assert caught.value.owners == ("edge_router", "second_mf")


def test_a_broken_plugin_fails_when_used_and_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "broken_router", {"bad": "broken_router:make"}, "raise RuntimeError('no luck')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[object] = plugins.extend(Registry("router"), plugins.ROUTERS)
    with pytest.raises(PluginFailed, match="no luck") as caught:
        registry.get("bad")()
    assert (caught.value.owner, caught.value.name) == ("broken_router", "bad")


def test_a_worker_process_sees_the_same_plugins(tmp_path: Path) -> None:
    install(tmp_path, "far_router", {"far": "far_router:make"}, "def make(threads=1): return 'far away'\n")
    code = (
        "from edge_router import plugins; from edge_router.registry import Registry;"
        "print(plugins.extend(Registry('router'), plugins.ROUTERS).get('far')())"
    )
    import os

    search = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": search}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "far away"


def test_a_router_of_another_package_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_router import Controller, ScriptedEngine

    module = (
        "class Shouting:\n"
        "    name, default_threshold = 'shouting', 0.5\n"
        "    def score(self, messages): return self.score_texts([messages[-1].text])[0]\n"
        "    def score_texts(self, texts): return [float(text.isupper()) for text in texts]\n"
        "def make(threads=1): return Shouting()\n"
    )
    install(tmp_path, "shouting_router", {"shouting": "shouting_router:make"}, module)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Controller(weak=ScriptedEngine("w"), strong=ScriptedEngine("s")) as controller:
        models = [controller.route(text, model="router-shouting-0.7").model for text in ("hi", "HELP")]
    assert models == ["weak", "strong"]
