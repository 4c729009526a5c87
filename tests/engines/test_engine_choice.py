"""Which engine "auto" is, as a table."""

from __future__ import annotations

import pytest

from edge_router import engines
from edge_router.config.settings import Config
from edge_router.device import Gpu
from edge_router.engines import load_weak, resolved
from edge_router.engines.base import Engine
from edge_router.engines.choice import Here, choose_engine
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import BuildFailed, EngineUnavailable
from edge_router.registry import Registry
from edge_router.system.paths import Paths
from edge_router.types import Progress, SilentProgress

NOTHING = Here()
MLC, WEBGPU, BOTH = Here(mlc=True), Here(webgpu=True), Here(mlc=True, webgpu=True)


@pytest.mark.parametrize(
    ("device", "here", "engine"),
    [
        # the processor is TVM's, whatever else is installed
        ("cpu", NOTHING, "tvm"),
        ("cpu", Here(mlc=True, webgpu=True, gpu="amd"), "tvm"),
        # Vulkan and ROCm are MLC's where it is installed
        ("vulkan", MLC, "mlc"),
        ("vulkan", BOTH, "mlc"),
        ("vulkan", WEBGPU, "webgpu"),
        ("vulkan", NOTHING, "webgpu"),
        ("rocm", MLC, "mlc"),
        ("rocm", NOTHING, "mlc"),
        ("rocm:1", BOTH, "mlc"),
        ("opencl", NOTHING, "mlc"),
        # elsewhere it steps in where it is the only one
        ("cuda", MLC, "mlc"),
        ("cuda:1", BOTH, "mlc"),
        ("cuda", Here(mlc=True, cuda=True), "tvm"),
        ("cuda", NOTHING, "tvm"),
        ("metal", MLC, "mlc"),
        ("metal", BOTH, "webgpu"),
        ("metal", WEBGPU, "webgpu"),
        ("metal", NOTHING, "webgpu"),
        ("d3d12", BOTH, "webgpu"),
        # no device named
        ("auto", NOTHING, "tvm"),
        ("auto", MLC, "tvm"),
        ("auto", BOTH, "webgpu"),
        ("auto", Here(gpu="amd"), "tvm"),
        ("auto", Here(mlc=True, webgpu=True, gpu="amd"), "mlc"),
        ("auto", Here(mlc=True, gpu="intel"), "mlc"),
        ("auto", Here(mlc=True, webgpu=True, gpu="nvidia"), "mlc"),
        ("auto", Here(webgpu=True, gpu="nvidia"), "webgpu"),
        ("auto", Here(mlc=True, webgpu=True, gpu="apple"), "webgpu"),
        ("auto", Here(mlc=True, gpu="apple"), "mlc"),
        # what nobody knows is told by the engine that would have to run it
        ("abacus", BOTH, "tvm"),
    ],
)
def test_the_choice(device: str, here: Here, engine: str) -> None:
    assert choose_engine(device, here) == engine


@pytest.mark.integration
def test_a_gpu_that_tvm_drives_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine("auto", Here(mlc=True, webgpu=True, cuda=True, gpu="nvidia")) == "tvm"
    assert choose_engine("auto", Here(mlc=True, webgpu=True, cuda=True, gpu="amd")) == "mlc"
    monkeypatch.setattr("edge_router.engines.tvm.device.has_cuda", lambda: True)
    monkeypatch.setattr("edge_router.device.gpus", lambda: (Gpu("H200", "nvidia"),))
    found = resolved(Config())
    assert (found.weak.engine, found.weak.device) == ("tvm", "cuda")


@pytest.mark.integration
def test_a_gpu_of_nvidias_that_fails_leaves_the_work_to_the_processor(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_router.engines.tvm.device.has_cuda", lambda: True)
    monkeypatch.setattr("edge_router.device.gpus", lambda: (Gpu("H200", "nvidia"),))
    devices: list[str] = []

    def load(config: Config, paths: Paths, progress: Progress) -> Engine:
        devices.append(config.weak.device)
        if config.weak.device == "cuda":
            raise EngineUnavailable("tvm", "no CUDA GPU number 0 is usable here")
        return ScriptedEngine()

    registry: Registry[Engine] = Registry("weak engine")
    registry.add("tvm", load)
    load_weak(registry, Config(), paths, SilentProgress())
    assert devices == ["cuda", "cpu"]
    with pytest.raises(EngineUnavailable):
        load_weak(registry, Config().replace(**{"weak.device": "cuda"}), paths, SilentProgress())


@pytest.mark.parametrize("installed", [True, False])
def test_what_is_here_is_asked(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_is_installed", lambda package: installed and package == "mlc_llm")
    vulkan = Config().replace(**{"weak.device": "vulkan"})
    assert resolved(vulkan).weak.engine == ("mlc" if installed else "webgpu")
    monkeypatch.setattr("edge_router.device.gpus", lambda: (Gpu("Radeon", "amd"),))
    assert resolved(Config()).weak.engine == ("mlc" if installed else "tvm")
    monkeypatch.setattr("edge_router.device.gpus", lambda: ())
    assert resolved(Config()).weak.engine == "tvm"


@pytest.mark.parametrize(
    "error", [EngineUnavailable("mlc", "it hangs"), BuildFailed("m", "compile", "no target")]
)
def test_a_broken_mlc_llm_that_nobody_asked_for_costs_a_note(
    error: Exception, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_is_installed", lambda package: package == "mlc_llm")
    monkeypatch.setattr("edge_router.device.gpus", lambda: (Gpu("Radeon", "amd"),))
    notes: list[str] = []
    progress = SilentProgress()
    monkeypatch.setattr(progress, "note", notes.append)

    def broken(config: Config, paths: Paths, progress: Progress) -> Engine:
        raise error

    spare = ScriptedEngine()
    registry: Registry[Engine] = Registry("weak engine")
    registry.add("mlc", broken)
    registry.add("tvm", lambda config, paths, progress: spare)
    assert load_weak(registry, Config(), paths, progress) is spare
    assert notes == [f"{error}; the processor does the work"]
    with pytest.raises(type(error)):
        load_weak(registry, Config().replace(**{"weak.device": "vulkan"}), paths, progress)


def test_mlcs_engine_takes_the_processor_where_no_gpu_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take a Vulkan device in software; and a Python of its own counts as installed."""
    named = Config().replace(**{"weak.engine": "mlc"})
    elsewhere = Config().replace(**{"mlc.python": "/opt/mlc/bin/python"})
    monkeypatch.setattr(engines, "_is_installed", lambda package: False)
    for gpus, config, engine, device in (
        ((), named, "mlc", "cpu"),
        ((Gpu("Radeon", "amd"),), named, "mlc", "auto"),
        ((), named.replace(**{"weak.device": "vulkan"}), "mlc", "vulkan"),
        ((Gpu("Radeon", "amd"),), elsewhere, "mlc", "auto"),
        ((), elsewhere, "tvm", "auto"),
    ):
        monkeypatch.setattr("edge_router.device.gpus", lambda gpus=gpus: gpus)
        found = resolved(config).weak
        assert (found.engine, found.device) == (engine, device), (gpus, config)


def test_an_engine_that_was_named_stays() -> None:
    config = Config().replace(**{"weak.engine": "scripted", "weak.device": "vulkan"})
    assert resolved(config) is config
