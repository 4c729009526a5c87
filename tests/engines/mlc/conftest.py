"""mlc_llm's stand-in, installed as a package is, and a tiny model for it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_router.config.settings import Config
from edge_router.engines.mlc.engine import MlcEngine
from edge_router.engines.mlc.load import load
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

STANDIN = Path(__file__).with_name("standin")


class Mlc:
    """The installed stand-in."""

    def __init__(self, site: Path, log: Path) -> None:
        self._site, self._log = site, log

    def install(self, version: str = "0.20.0.dev0", build: str = "one", *, tvm: bool = True) -> None:
        """Two builds may carry one version, as nightly wheels do.

        With a `tvm` of its own, as MLC's wheels have one, so that libraries which ours made do not load.
        """
        for old in self._site.glob("*.dist-info"):
            shutil.rmtree(old)
        shutil.copytree(STANDIN, self._site, dirs_exist_ok=True)
        self._describe("mlc-llm-standin", version, "mlc_llm/__init__.py", build)
        if tvm:
            # No package: the real one, further on in the path, is what is imported. But it is there, for some
            # Pythons count no file that is not.
            (self._site / "tvm").mkdir(exist_ok=True)
            (self._site / "tvm" / "standin.py").touch()
            self._describe("mlc-ai-standin", "0.20.0", "tvm/standin.py", "")
        importlib.invalidate_caches()

    def _describe(self, name: str, version: str, file: str, build: str) -> None:
        described = self._site / f"{name.replace('-', '_')}-{version}.dist-info"
        described.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (described / "METADATA").write_text(text, encoding="utf-8")
        digest = hashlib.sha256(build.encode()).hexdigest()
        (described / "RECORD").write_text(f"{file},sha256={digest},1\n", encoding="utf-8")

    def events(self, kind: str) -> list[dict[str, Any]]:
        if not self._log.exists():
            return []
        lines = self._log.read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]


def installed(folder: Path, patch: pytest.MonkeyPatch) -> Mlc:
    """The stand-in, in a folder that Pythons started from here look into, too."""
    site, log = folder / "site", folder / "log.jsonl"
    site.mkdir()
    patch.syspath_prepend(str(site))
    known = os.environ.get("PYTHONPATH")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(site), *([known] if known else [])]))
    patch.setenv("MLC_STANDIN_LOG", str(log))
    found = Mlc(site, log)
    found.install()
    return found


def config_for(tiny_folder: Path) -> Config:
    settings = {"model": str(tiny_folder), "engine": "mlc", "device": "cpu", "context_window_size": 128}
    return Config().replace(**{f"weak.{name}": value for name, value in settings.items()})


@dataclass(frozen=True)
class Place:
    """Where an engine runs: on the stand-in, or on the real mlc_llm, in the Python that MLC_PYTHON names."""

    config: Config
    paths: Paths

    def open(self, **settings: object) -> MlcEngine:
        return load(self.config.replace(**settings), self.paths, SilentProgress())


@pytest.fixture(scope="module", params=["stand-in", pytest.param("real", marks=pytest.mark.mlc)])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Iterator[Place]:
    """Both, one after the other, which are held to the same."""
    folder, config = tmp_path_factory.mktemp("place"), config_for(tiny_folder)
    paths = Paths.under(folder / "home")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "stand-in":
            installed(folder, patch)
        elif os.environ.get("MLC_PYTHON"):
            config = config.replace(**{"mlc.python": os.environ["MLC_PYTHON"]})
        yield Place(config, paths)


@pytest.fixture(scope="module")
def engine(place: Place) -> Iterator[MlcEngine]:
    """Of four answers at once; kept for all tests of a file, for loading the real one takes half a minute."""
    opened = place.open(**{"weak.max_sequences": 4})
    yield opened
    opened.close()


@pytest.fixture
def mlc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mlc:
    return installed(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = Path(__file__).parents[2] / "compile" / "tiny_llama.py"
    spec = importlib.util.spec_from_file_location("tiny_llama_for_mlc", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_llama_for_mlc"] = module
    spec.loader.exec_module(module)
    return Path(module.make(tmp_path_factory.mktemp("for_mlc") / "tiny-llama").folder)


@pytest.fixture
def sliding_folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """The same model as one whose windows MLC knows."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny-mistral"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def config(tiny_folder: Path) -> Config:
    return config_for(tiny_folder)


@pytest.fixture
def open_engine(mlc: Mlc, config: Config, paths: Paths) -> Iterator[Callable[..., MlcEngine]]:
    """open_engine(**settings) -> an engine that is closed after the test."""
    engines: list[MlcEngine] = []

    def opened(**settings: object) -> MlcEngine:
        engines.append(load(config.replace(**settings), paths, SilentProgress()))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()
