"""The real programs read the files that are drawn for them, where they are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_router.bench.peers.cases import BenchCase
from edge_router.bench.peers.files import drawn
from edge_router.bench.peers.llama_cpp import LlamaCpp
from edge_router.bench.peers.openvino import ACTIVATIONS, OpenVino

pytestmark = pytest.mark.slow

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 320,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


def drawn_files(folder: Path) -> list[Path]:
    files = [folder / f"{kind}.gguf" for kind in ("llama", "qwen3")]
    for file in files:
        drawn({"model_type": file.stem, **CONFIG}, file)
    return files


def test_openvino_reads_them(tmp_path: Path) -> None:
    pytest.importorskip("openvino_genai", reason="pip install 'edge-router[bench]'")
    for file in drawn_files(tmp_path):
        for activations in ACTIVATIONS:
            given = {"gguf": str(file), "threads": 1, "activations": activations, "vocabulary": 320}
            side = OpenVino(given)
            assert side.read(16, 2) > 0 and side.write(8, 1) > 0 and side.write(0, 2) > 0, (file, activations)


def test_llama_bench_reads_them(tmp_path: Path) -> None:
    bench = shutil.which("llama-bench")
    if bench is None:
        pytest.skip("llama-bench is not on the PATH")
    for file in drawn_files(tmp_path):
        side = LlamaCpp(Path(bench), file, 1)
        for case in (BenchCase("prefill", 16), BenchCase("decode", 0), BenchCase("decode", 32)):
            assert (side.speed(case) or 0) > 0, (file, case)
        assert side.facts["flash_attn"] == 1 and side.facts["backends"]
        several = side.speed(BenchCase("prefill", 16, 2)), side.speed(BenchCase("decode", 32, 2))
        assert several == (None, None) or min(speed or 0 for speed in several) > 0, file
