"""What makes another program, and what does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_router.catalog import find_model
from edge_router.compile import fingerprint
from edge_router.compile.fingerprint import program_inputs, required
from edge_router.compile.recipe import BuildSettings, Recipe, recipe
from edge_router.config.settings import Config

CONFIG: dict[str, Any] = {"model_type": "llama", "hidden_size": 64, "context_window_size": 2048}


@pytest.fixture
def wanted() -> Recipe:
    return recipe(find_model("SmolLM2-135M-Instruct"), BuildSettings(target="webgpu"))


def test_windows_make_no_other_program(wanted: Recipe) -> None:
    before = program_inputs(wanted, {**CONFIG, "prefill_chunk_size": 512})
    after = program_inputs(wanted, {**CONFIG, "context_window_size": 1024, "max_batch_size": 4})
    assert before == after
    assert program_inputs(wanted, {**CONFIG, "hidden_size": 96}) != before
    assert program_inputs(replace(wanted, quantization="q4f16_2"), CONFIG) != before


@pytest.mark.parametrize(
    "more",
    [
        {"rope_scaling": {"type": "longrope"}},
        {"rope_scaling": {"rope_type": "su"}},
        {"sliding_window": 4096},
        {"sliding_window_size": 1024},
    ],
)
def test_but_where_long_texts_are_seen_in_another_way(wanted: Recipe, more: dict[str, Any]) -> None:
    inputs = [program_inputs(wanted, {**CONFIG, **more, "context_window_size": size}) for size in (1, 2)]
    assert inputs[0] != inputs[1]


def test_no_window_is_no_other_way(wanted: Recipe) -> None:
    plain = {"sliding_window_size": -1, "sliding_window": None, "rope_scaling": {"rope_type": "llama3"}}
    inputs = [program_inputs(wanted, {**CONFIG, **plain, "context_window_size": size}) for size in (1, 2)]
    assert inputs[0] == inputs[1]


def test_the_compiler_is_named_where_none_is_installed(
    wanted: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = program_inputs(wanted, CONFIG)
    monkeypatch.setattr(fingerprint, "installed", lambda name: None)
    assert program_inputs(wanted, CONFIG) == before
    assert str(before["tvm"]).startswith("apache-tvm==")
    monkeypatch.setattr(
        fingerprint, "requires", lambda name: ["apache-tvm-ffi==1", "apache-tvm==9; x", "numpy"]
    )
    assert required("apache-tvm") == "apache-tvm==9; x"
    assert required("torch") is None
    assert program_inputs(wanted, CONFIG) != before


def test_a_checkout_that_is_not_installed_states_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise fingerprint.PackageNotFoundError(name)

    monkeypatch.setattr(fingerprint, "requires", absent)
    assert required("apache-tvm") is None


def test_devices_choose_the_target() -> None:
    def target(**weak: str) -> str:
        overrides = {f"weak.{name}": value for name, value in weak.items()}
        return BuildSettings.from_config(Config.load(overrides=overrides)).target

    assert [target(device=device) for device in ("vulkan", "metal", "d3d12")] == ["webgpu"] * 3
    assert [target(device=device) for device in ("auto", "cpu")] == ["llvm"] * 2
    assert target(device="auto", engine="webgpu") == target(device="cpu", engine="webgpu") == "webgpu"
