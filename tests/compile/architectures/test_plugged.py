"""A new architecture out of another installed package, with pip and in a process of its own.

`PACKAGE` is all that such a package needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_router import plugins
from edge_router.architectures import architecture, architectures
from edge_router.compile.fingerprint import plugged
from edge_router.compile.graphs import definition
from edge_router.compile.weights.reference import Reference
from edge_router.errors import DuplicateName, PluginFailed, UnsupportedArchitecture

PACKAGE = {
    # What it is, for all who read its configuration and its weights. No TVM here.
    "loud_architecture.py": """
from edge_router.architectures import Architecture

def loud():
    return Architecture("loud", graph="loud:define", keys=("loudness",))
""",
    # What it computes, out of the parts that each target has.
    "loud.py": """
from edge_router.compile.graphs.config import number
from edge_router.compile.graphs.decoder import Design, Model, causal

class Louder(Model):
    def __init__(self, design, parts):
        super().__init__(design, parts)
        self._loudness = number(design.values, "loudness", 1.0)

    def forward(self, x, cache):
        return super().forward(x * self._loudness, cache)

def define(architecture, values, parts, where):
    design = Design.of(architecture, values, where)
    return causal(design, parts, Louder(design, parts), where)
""",
    "loud-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n",
    "loud-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "loud-1.0.dist-info/entry_points.txt": ("[edge_router.architectures]\nloud = loud_architecture:loud\n"),
}
LOUDNESS = 3.0
TOKENS = [5, 17, 44, 120, 9]
WORKER = """
import json, sys
from pathlib import Path
from edge_router.catalog import find_model
from edge_router.compile.pipeline import BuildSettings, ensure
from edge_router.config.settings import Config
from edge_router.engines.tvm.engine import TvmRunner
from edge_router.system.paths import Paths
from edge_router.vram.shapes import ModelShape

card = find_model(sys.argv[1])
config = Config()
built = ensure(card, BuildSettings.from_config(config), paths=Paths.under(Path(sys.argv[2])))
assert ModelShape.of({**built.config["model_config"], "model_type": "loud"}, "loud").layers == 2
runner = TvmRunner(built.model_dir, built.library, context_window_size=64)
runner.add_sequence(0)
logits = runner.prefill(0, json.loads(sys.argv[3]))
print(json.dumps({"folder": str(built.model_dir), "logits": logits.tolist()}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pip has put the package into."""
    folder = tmp_path_factory.mktemp("loud")
    wheel = folder / "loud-1.0-py3-none-any.whl"
    record = "".join(f"{name},,\n" for name in [*PACKAGE, "loud-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in {**PACKAGE, "loud-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(folder / "site"), str(wheel)], check=True, capture_output=True)
    return folder / "site"


@pytest.fixture
def seen(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(installed))
    return installed


class Loud:
    """A checkpoint whose embedding has the loudness in it, so that a Llama says the same."""

    def __init__(self, inner: Any) -> None:
        self.source, self._inner = inner.source, inner
        self.config: Mapping[str, Any] = {**inner.config, "model_type": "llama"}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        rows = self._inner.rows(name, start, stop)
        return rows * np.float32(LOUDNESS) if name == "model.embed_tokens.weight" else rows


def test_a_worker_process_builds_and_runs_it(tiny: Any, seen: Path, tmp_path: Path) -> None:
    from edge_router.compile.readers import open_weights

    made = tiny.make(tmp_path / "model", tied=False)
    config = {**made.config, "model_type": "loud", "loudness": LOUDNESS}
    (made.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    search = os.pathsep.join([str(seen), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(made.folder), str(tmp_path / "home"), json.dumps(TOKENS)],
        env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    reference = Reference(Loud(open_weights(Path(answer["folder"]))))  # type: ignore[arg-type]
    wanted = reference.logits(reference.hidden(TOKENS))[-1]
    found = np.array(answer["logits"])
    assert np.abs(found - wanted[: len(found)]).max() < 0.02 * wanted.std()


def test_it_is_known_only_where_it_is_installed(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for find in (definition, architecture):
        with pytest.raises(UnsupportedArchitecture) as caught:
            find("loud")
        assert "llama" in caught.value.supported
    monkeypatch.syspath_prepend(str(installed))
    assert architecture("loud").keys == ("loudness",)
    assert callable(definition("loud"))


def test_the_files_it_comes_from_are_inputs_of_what_is_built(seen: Path) -> None:
    before = plugged("loud")
    assert sorted(before) == ["loud", "loud_architecture"]
    file = seen / "loud.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "# changed\n", encoding="utf-8")
    after = plugged("loud")
    file.write_text(text, encoding="utf-8")
    assert [name for name in after if after[name] != before[name]] == ["loud"]
    assert plugged("llama") == {}


def test_a_name_that_exists_already_names_both_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "second_llama-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: second-llama\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.ARCHITECTURES}]\nllama = second_llama:define\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DuplicateName) as caught:
        architecture("llama")
    assert caught.value.owners == ("edge_router", "second-llama")


def test_a_broken_one_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{plugins.ARCHITECTURES}]\nbroken = nowhere_at_all.ever:define\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginFailed, match="nowhere_at_all") as caught:
        definition("broken")({}, SimpleNamespace(), "somewhere")
    assert caught.value.owner == "broken"
    assert "broken" in architectures()
    assert plugged("broken") == {}
