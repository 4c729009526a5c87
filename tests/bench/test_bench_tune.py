"""Measuring shaders in other layouts, on whatever adapter there is."""

from __future__ import annotations

from typing import Any

import pytest

from edge_router.bench import tune as module
from edge_router.bench.tune import Trial, sweep, tune
from edge_router.compile.webgpu.build import build_program
from edge_router.config.settings import Config
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.errors import EngineUnavailable
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "head_dim": 16,
    "vocab_size": 320,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "context_window_size": 128,
    "prefill_chunk_size": 32,
}


def test_every_product_in_every_layout(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMES", 1)
    monkeypatch.setattr(module, "_ROWS", 20)
    monkeypatch.setattr(module, "_THREADS", (64, 128))
    monkeypatch.setattr(module, "_MATRIX_ROWS", (1, 2))
    program = build_program(CONFIG, "q4f16_1")
    found = sweep(adapter, program, SilentProgress())
    products = {name for name, shader in program.shaders.items() if shader.about.get("op") == "product"}
    measured = {trial.shader for trial in found}
    assert measured == {
        name for name in products if name.startswith(("matvec", "matmul")) and "half" not in name
    }
    for name in measured:
        of_one = [trial for trial in found if trial.shader == name]
        assert len({trial.layout for trial in of_one}) == len(of_one)
        assert [trial.seconds for trial in of_one] == sorted(trial.seconds for trial in of_one)
        assert sum(trial.used for trial in of_one) <= 1
    assert all(trial.seconds > 0 and trial.bytes_per_s > 0 for trial in found)
    assert any("float16" in trial.layout for trial in found) is adapter.has_float16


def test_bandwidth() -> None:
    trial = Trial("a", "b", 2e-6, 6000, True)
    assert trial.bytes_per_s == pytest.approx(3e9)
    assert trial.to_dict() == {
        "shader": "a",
        "layout": "b",
        "microseconds": 2.0,
        "gigabytes_per_s": 3.0,
        "used": True,
    }


def test_only_shaders_can_be_tuned(tmp_path: Any) -> None:
    config = Config().replace(**{"weak.engine": "tvm"})
    with pytest.raises(EngineUnavailable, match="only shaders"):
        tune(config, Paths.under(tmp_path), SilentProgress())
