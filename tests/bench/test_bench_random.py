"""Speed without the model's own weights, and what a GPU's memory allows."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_router.bench import weak as bench
from edge_router.bench.random_weights import random_model
from edge_router.bench.weak import bench_weak
from edge_router.bench.weak_results import Lengths, MedianRange, Speed, WeakBench
from edge_router.compile.readers.mlc import records
from edge_router.config.settings import Config
from edge_router.device import Gpu
from edge_router.errors import InvalidModel
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

LLAMA_3B = {
    "model_type": "llama",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Of a folder with the shape of a tiny Llama; its weights are never looked at."""
    file = Path(__file__).parent.parent / "compile/tiny_llama.py"
    spec = importlib.util.spec_from_file_location("tiny_llama_for_bench", file)
    assert spec is not None and spec.loader is not None
    import sys

    module = sys.modules["tiny_llama_for_bench"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = module.make(tmp_path / "tiny").folder
    return Config().replace(**{"weak.model": str(folder), "weak.threads": 1, "weak.device": "cpu"})


def test_as_many_weights_are_drawn_as_the_model_has(config: Config, paths: Paths) -> None:
    with random_model(config, paths, SilentProgress()) as drawn:
        held = records(drawn.model_dir, hashes=True)
        assert held["model.embed_tokens.q_weight"].shape == (288, 64 // 8)
        assert held["model.layers.1.mlp.down_proj.q_scale"].shape == (64, 96 // 32)
        lengths = Lengths((16,), 4)
    assert not drawn.model_dir.exists()
    assert drawn.library.is_file()
    found = bench_weak(config, paths, progress=SilentProgress(), rounds=1, lengths=lengths, random=True)
    assert found.speed.decode.median > 0
    assert found.memory_share is None  # a processor's is not asked


def test_a_card_without_numbers_has_no_shape(paths: Paths) -> None:
    config = Config().replace(**{"weak.model": "hf:someone/something"})
    with pytest.raises(InvalidModel, match="states no shape"), random_model(config, paths, SilentProgress()):
        pass


def test_the_share_of_what_the_gpus_memory_allows(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_router.device.gpus", lambda: (Gpu("H200", "nvidia", bandwidth=4.8e12),))
    chat = {"model_type": "llama", "quantization": "q4f16_1", "model_config": LLAMA_3B}
    compiled: Any = SimpleNamespace(config=chat, card=SimpleNamespace(name="Llama-3.2-3B"))
    config = Config().replace(**{"weak.engine": "tvm", "weak.device": "cuda"})
    name, limit = bench._device(config, compiled, paths)
    assert name == "H200"
    assert limit == pytest.approx(
        4.8e12 / (3.21e9 * 4.5 / 8), rel=0.02
    )  # of 3.2 billion weights 4.5 bits each
    one = MedianRange.of([limit / 2])
    found = WeakBench(name, "m", "q4f16_1", 1, Speed({}, one), one, 0, {}, memory_limit=limit)
    assert found.to_dict()["decode_memory_share"] == 0.5
    assert replace(found, memory_limit=None).memory_share is None
