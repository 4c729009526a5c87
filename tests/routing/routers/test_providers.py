"""Where a router's graph runs. Stand-ins for providers that are not here; WebGPU for real where Vulkan is."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_router.catalog import RouterCard, router_cards
from edge_router.config.settings import Config
from edge_router.errors import ConfigError, MissingExtra, ProviderUnavailable
from edge_router.routing.routers import loading
from edge_router.routing.routers.loading import AGREEMENT, load
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.routing.routers.providers import GPU_PROVIDERS, PROVIDERS, Provider
from edge_router.system.paths import Paths
from edge_router.system.telemetry import load_onnxruntime

onnxruntime = load_onnxruntime()
MakeRouter = Callable[..., RouterCard]
PLUGIN = "onnxruntime_ep_webgpu"
FAKE = Provider("fake", PROVIDERS["cpu"].execution, PROVIDERS["cpu"].attach)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider beside the CPU that is always there: onnxruntime's own CPU under another name."""
    monkeypatch.setitem(PROVIDERS, "fake", FAKE)
    monkeypatch.setattr(loading, "GPU_PROVIDERS", ("fake",))


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """An onnxruntime that has the CPU alone, and no plugin."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "get_ep_devices", list)
    monkeypatch.setitem(sys.modules, PLUGIN, None)


@pytest.mark.parametrize("name", ["cuda", "coreml"])
def test_a_provider_asked_for_by_name_that_is_not_here(
    make_router: MakeRouter, nothing_else: None, name: str
) -> None:
    with pytest.raises(ProviderUnavailable, match="built without it") as caught:
        load(make_router(), threads=1, provider=name)
    assert caught.value.provider == name
    assert not Paths.default().artifacts.exists()  # no graph is made for what cannot run it


def test_webgpu_without_its_plugin(make_router: MakeRouter, nothing_else: None) -> None:
    with pytest.raises(MissingExtra) as caught:
        load(make_router(), threads=1, provider="webgpu")
    assert (caught.value.package, caught.value.extra) == ("onnxruntime-ep-webgpu", "router-gpu")


def test_webgpu_without_a_gpu(
    make_router: MakeRouter, nothing_else: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = types.SimpleNamespace(get_library_path=lambda: "library.so")
    monkeypatch.setitem(sys.modules, PLUGIN, plugin)
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda name, path: None)
    with pytest.raises(ProviderUnavailable, match="finds no GPU"):
        load(make_router(), threads=1, provider="webgpu")


def test_a_plugin_that_is_loaded_already(
    make_router: MakeRouter, nothing_else: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(name: str, path: str) -> None:
        raise RuntimeError(f"EP library is already registered under {name}")

    plugin = types.SimpleNamespace(get_library_path=lambda: "library.so")
    monkeypatch.setitem(sys.modules, PLUGIN, plugin)
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", register)
    with pytest.raises(ProviderUnavailable, match="finds no GPU"):
        load(make_router(), threads=1, provider="webgpu")


def test_a_plugin_that_cannot_be_loaded(
    make_router: MakeRouter, nothing_else: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugin = types.SimpleNamespace(get_library_path=lambda: str(tmp_path / "none.so"))
    monkeypatch.setitem(sys.modules, PLUGIN, plugin)
    with pytest.raises(ProviderUnavailable, match="its library cannot be loaded"):
        load(make_router(), threads=1, provider="webgpu")


def test_auto_without_any_runs_on_the_cpu_and_says_why(
    make_router: MakeRouter, nothing_else: None, caplog: pytest.LogCaptureFixture
) -> None:
    card = make_router()
    with caplog.at_level(logging.WARNING):
        router = load(card, threads=1, provider="auto")
    assert router.provider == "CPUExecutionProvider"
    assert router.score_texts(["why ?"]) == OnnxRouter(card).score_texts(["why ?"])
    (record,) = caplog.records
    for name in GPU_PROVIDERS:
        assert name in router.note.lower()
    assert router.note in record.getMessage()
    assert record.name.startswith("edge_router")


@pytest.mark.parametrize("asked", ["fake", "auto"])
def test_a_provider_that_agrees_runs_the_float32_graph(
    make_router: MakeRouter, fake: None, caplog: pytest.LogCaptureFixture, asked: str
) -> None:
    card = make_router(surface=("questions",))
    router = load(card, threads=1, provider=asked)
    assert router.note == ""
    assert not caplog.records
    ours, shipped = router.score_texts(["what is hard ?"]), OnnxRouter(card).score_texts(["what is hard ?"])
    assert 0 < abs(ours[0] - shipped[0]) <= AGREEMENT


@pytest.mark.parametrize("asked", ["fake", "auto"])
def test_a_provider_that_computes_something_else_is_left_and_that_is_said(
    make_router: MakeRouter, fake: None, monkeypatch: pytest.MonkeyPatch, caplog, asked: str
) -> None:
    from edge_router.compile.router import float_graph

    card, other = make_router(), make_router("other", surface=("lines", "word_length"))
    wrong = Path(str(other.directory)) / other.graph
    monkeypatch.setattr(float_graph, "float32_graph", lambda card: wrong)
    router = load(card, threads=1, provider=asked)
    assert router.score_texts(["why ?"]) == OnnxRouter(card).score_texts(["why ?"])
    assert "fake gives scores that differ from the CPU's by 0." in router.note
    assert "runs on the CPU" in caplog.text


def test_a_provider_that_computes_no_number_is_left(
    make_router: MakeRouter, fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    from edge_router.compile.router import float_graph

    card, broken = make_router(), make_router("broken")
    file = Path(str(broken.directory)) / broken.graph
    model = onnx.load(str(file))
    (slope,) = (tensor for tensor in model.graph.initializer if tensor.name == "head.slope")
    slope.CopyFrom(onnx.numpy_helper.from_array(np.array(np.nan, np.float32), "head.slope"))
    onnx.save(model, str(file))
    monkeypatch.setattr(float_graph, "float32_graph", lambda card: file)
    router = load(card, threads=1, provider="fake")
    assert router.note == "on fake its score is [nan], not one number in 0..1"
    assert router.score_texts(["why ?"]) == OnnxRouter(card).score_texts(["why ?"])


def test_what_runs_counts_and_not_what_was_asked_for(
    make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Provider("fake", "CUDAExecutionProvider", PROVIDERS["cpu"].attach, built_in=False)
    monkeypatch.setitem(PROVIDERS, "fake", silent)
    with pytest.raises(ProviderUnavailable, match="took CPUExecutionProvider instead"):
        load(make_router(), threads=1, provider="fake")


def test_the_configuration_knows_every_provider() -> None:
    for name in ("auto", *PROVIDERS):
        assert Config().replace(**{"router.provider": name}).router.provider == name
    with pytest.raises(ConfigError, match=r"router\.provider.*must be one of"):
        Config().replace(**{"router.provider": "gpu"})


@pytest.mark.router_gpu
def test_webgpu_for_real(home: Path) -> None:
    """In a process of its own, for a plugin stays loaded. ROUTER_VULKAN: a folder with Mesa 25's files in it."""
    code = (
        "import json, sys; from edge_router.catalog import router_cards; from edge_router.routing.routers.loading import *;"
        "card = router_cards()['static']; fast, cpu = (load(card, threads=1, provider=p) for p in ('webgpu', 'cpu'));"
        "print(json.dumps([fast.provider, fast.note, fast.score_texts(PROBES), cpu.score_texts(PROBES)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=vulkan(), capture_output=True, text=True, check=False
    )
    if done.returncode and "ProviderUnavailable" in done.stderr and "ROUTER_VULKAN" not in os.environ:
        reason = next(line for line in done.stderr.splitlines() if "ProviderUnavailable:" in line)
        pytest.skip(f"no Vulkan that WebGPU can use here: {reason}")
    assert done.returncode == 0, done.stderr
    provider, note, ours, shipped = json.loads(done.stdout.splitlines()[-1])
    assert (provider, note) == ("WebGpuExecutionProvider", "")
    assert ours == pytest.approx(shipped, abs=AGREEMENT)


def vulkan() -> dict[str, str]:
    """The environment in which software Vulkan counts as a GPU."""
    found = {**os.environ, "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER": "1"}
    folder = os.environ.get("ROUTER_VULKAN")
    if folder:
        (driver,) = Path(folder).rglob("lvp_icd*.json")
        (library,) = Path(folder).rglob("libvulkan_lvp.so")
        found |= {"VK_ICD_FILENAMES": str(driver), "LD_LIBRARY_PATH": str(library.parent)}
    return found


def test_the_plain_default_is_the_cpu() -> None:
    assert Config().router.provider == "cpu"
    assert load(router_cards()["static"], threads=1, provider="cpu").provider == "CPUExecutionProvider"


def test_a_built_in_provider_is_asked_for_by_its_name(
    make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the one that every onnxruntime for Linux has, and that takes no node of ours: the CPU runs them all."""
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no second provider that is built in")
    azure = Provider("azure", "AzureExecutionProvider", PROVIDERS["cpu"].attach)
    monkeypatch.setitem(PROVIDERS, "azure", azure)
    router = load(make_router(), threads=1, provider="azure")
    assert (router.provider, router.note) == ("AzureExecutionProvider", "")
