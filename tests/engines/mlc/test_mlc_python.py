"""mlc_llm in a Python of its own, and whose libraries run in it. See standin/."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import venv
from pathlib import Path
from typing import Any

import pytest

from edge_router.catalog import find_model
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.cli.verbs import mlc_checks
from edge_router.compile.link import compiler, shared_suffix
from edge_router.compile.pipeline import BuildSettings, CompiledModel, ensure
from edge_router.config.settings import Config
from edge_router.engines.base import answered
from edge_router.engines.mlc.load import load
from edge_router.errors import ConfigError, EngineUnavailable
from edge_router.mlc_python import here, mlc_python
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

STANDIN = Path(__file__).with_name("standin")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with mlc_llm and a TVM that only it has, and nothing of ours."""
    folder = tmp_path_factory.mktemp("mlc") / "python"
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    shutil.copytree(STANDIN, site, dirs_exist_ok=True)
    (site / "tvm").mkdir()
    (site / "tvm" / "__init__.py").write_text("", encoding="utf-8")
    for name, version, package in (("mlc-llm-standin", "0.21", "mlc_llm"), ("mlc-ai-standin", "0.9", "tvm")):
        described = site / f"{name.replace('-', '_')}-{version}.dist-info"
        described.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (described / "METADATA").write_text(text, encoding="utf-8")
        (described / "RECORD").write_text(f"{package}/__init__.py,,\n", encoding="utf-8")
    for package in (
        "pydantic",
        "pydantic_core",
        "annotated_types",
        "typing_inspection",
        "typing_extensions",
        "tokenizers",
    ):
        found = importlib.util.find_spec(package)
        assert found is not None and found.origin is not None
        place = Path(found.origin)
        if place.name == "__init__.py":
            shutil.copytree(place.parent, site / package)
        else:
            shutil.copy(place, site)
    return python


def test_another_python_runs_the_engine_and_its_compiler(
    other: Path, config: Config, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has none of our packages: of ours it sees the process's side alone, and of its own TVM all."""
    log = tmp_path / "log.jsonl"
    monkeypatch.setenv("MLC_STANDIN_LOG", str(log))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # as a build's process has it
    engine = load(config.replace(**{"mlc.python": str(other)}), paths, SilentProgress())
    try:
        said = collect(answered(engine, ChatRequest((Message("user", "Where?"),)), threading.Event()))
        assert said.text == "Voilà, the capital."
    finally:
        engine.close()
    events = [json.loads(line)["event"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert events == ["compile", "open", "generate", "terminate"]


def test_what_another_python_has_is_told(other: Path) -> None:
    found = mlc_python(str(other))
    assert str(found.packages["mlc_llm"]) == "0.21 (mlc-llm-standin)"
    assert str(found.packages["tvm"]) == "0.9 (mlc-ai-standin)"
    assert not found.packages["tvm_ffi"].there and found.version == sys.version_info[:3]
    assert not found.runs_libraries_of(here()) and not here().packages["mlc_llm"].there


def test_doctor_says_whether_its_compiler_works(other: Path, config: Config) -> None:
    """Which is tried: TVMs that it was not made for lack what it imports."""
    settings = config.replace(**{"mlc.python": str(other), "weak.device": "vulkan"})

    def checked() -> dict[str, Any]:
        return {finding.name: finding for finding in mlc_checks.mlc(settings)}

    found = checked()
    assert found["mlc_llm"].text.startswith(f"0.21 (mlc-llm-standin), in {other} (Python 3.")
    assert (found["mlc tvm"].text, found["mlc tvm"].state) == ("0.9 (mlc-ai-standin)", "ok")
    reason = "cannot compile (ModuleNotFoundError: No module named 'mlc_llm.interface')"
    assert found["mlc compiler"].text.startswith(reason) and found["mlc compiler"].state == "bad"
    asked = [str(other), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    (site / "mlc_llm" / "interface").mkdir()
    module = site / "mlc_llm" / "interface" / "compile.py"
    module.write_text("raise RuntimeError('no library:\\n- here')", encoding="utf-8")
    assert "cannot compile (RuntimeError: no library:)" in checked()["mlc compiler"].text
    module.write_text("", encoding="utf-8")
    assert checked()["mlc compiler"].text == "compiles"


def test_a_program_that_is_no_python_needs_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.frozen", True, raising=False)
    with pytest.raises(EngineUnavailable, match=r"name one that has mlc_llm with mlc\.python"):
        mlc_python(None)


def test_a_python_that_is_none_is_told(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    venv.create(alone, symlinks=os.name != "nt")
    bare = alone / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    for python, reason in (
        (tmp_path / "nobody", f"mlc.python = {tmp_path / 'nobody'} cannot be started"),
        (bare, f"the package mlc_llm is not installed in {bare}"),
    ):
        with pytest.raises(EngineUnavailable) as caught:
            mlc_python(str(python))
        assert reason in str(caught.value), python


@pytest.mark.skipif(os.name == "nt", reason="a script is no program there")
def test_a_program_that_is_no_python_is_told(tmp_path: Path) -> None:
    program = tmp_path / "program"
    for script, reason in (
        ("echo hello", "is no Python: hello"),
        ("exit 3", "is no Python: it says nothing"),
        ('echo \'{"version": [3, 9, 1], "packages": {}}\'', "is Python 3.9.1; it takes 3.11 or newer"),
        ('echo \'{"version": "3.13", "packages": {}}\'', "is no Python: {"),
        ('echo \'{"version": [3, 13], "packages": {"tvm": 1}}\'', "is no Python: {"),
        (f'echo hello; exec {shlex.quote(sys.executable)} "$@"', "the package mlc_llm is not installed in "),
    ):
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        with pytest.raises(EngineUnavailable) as caught:
            mlc_python(str(program))
        assert reason in str(caught.value), script


@pytest.mark.skipif(compiler() is None, reason="nothing links here")
def test_on_the_processor_a_library_of_ours_runs_where_tvm_is_the_same(
    mlc: Any, config: Config, paths: Paths
) -> None:
    """And is the one that `compile --shared` writes. Sinks, which MLC's engine would not keep, are refused."""
    mlc.install(tvm=False)
    made = _built(config, paths)
    assert not made.by_mlc and made.library.name == f"model{shared_suffix()}"
    assert made.library.parents[1] == paths.artifacts / "library" and not mlc.events("compile")
    settings = BuildSettings.from_config(config, shared=True)
    assert ensure(made.card, settings, paths=paths, build=False).library == made.library
    sliding = {"weak.sliding_window_size": 64}
    assert not _built(config.replace(**sliding), paths).by_mlc
    for more in ({"weak.attention_sink_size": 4}, {"weak.device": "vulkan"}):
        with pytest.raises(ConfigError, match=r"sliding windows of mistral, .*, not of llama"):
            _built(config.replace(**sliding, **more), paths)
    mlc.install(tvm=True)
    assert _built(config, paths).by_mlc and len(mlc.events("compile")) == 1


def test_without_a_linker_mlcs_own_library_does_the_work_and_that_is_said(
    mlc: Any, config: Config, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlc.install(tvm=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("edge_router.compile.link.find_spec", lambda name: None)
    notes: list[str] = []
    progress = SilentProgress()
    monkeypatch.setattr(progress, "note", notes.append)
    assert _built(config, paths, progress).by_mlc
    assert _built(config, paths, progress).by_mlc
    assert sum("pip install 'edge-router[link]'" in note for note in notes) == 1


def test_a_window_that_mlc_would_drop_is_refused_before_anything_is_quantized(
    mlc: Any, config: Config, paths: Paths
) -> None:
    sliding = {"weak.sliding_window_size": 64, "weak.device": "vulkan"}
    with pytest.raises(ConfigError, match=r"sliding windows of mistral, .*, not of llama"):
        _built(config.replace(**sliding), paths)
    assert not (paths.artifacts / "weights").exists()


def test_doctor_advises_by_whether_a_python_is_named(tmp_path: Path) -> None:
    for named, advice in (
        ({}, "a Python of their own"),
        ({"mlc.python": str(tmp_path / "no")}, "into that Python"),
    ):
        (finding,) = mlc_checks.mlc(Config().replace(**{"weak.engine": "mlc", **named}))
        assert finding.state == "bad" and advice in finding.text, finding.text


def _built(config: Config, paths: Paths, progress: SilentProgress | None = None) -> CompiledModel:
    card, settings = find_model(config.weak.model), BuildSettings.from_config(config)
    return ensure(card, settings, paths=paths, progress=progress or SilentProgress())
