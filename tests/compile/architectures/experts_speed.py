"""A mixture of experts beside a dense model with as many active parameters, random weights, in turns.

    python tests/compile/architectures/experts_speed.py [--layers 4] [--rounds 5]

Layers have the shape of Qwen3-30B-A3B's: 2,048 channels, 128 experts of 768 of which a token takes 8.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.bench.random_weights import write_tokenizer
from edge_router.compile.library import compile_library
from edge_router.compile.link import library_name
from edge_router.compile.random_model import draw_model
from edge_router.compile.targets import host_target
from edge_router.compile.weights.package import PackageWindows
from edge_router.device import host
from edge_router.engines.tvm.engine import TvmRunner

SHAPE: Mapping[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 8 * 768,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "vocab_size": 4096,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}
EXPERTS = {"moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "dense": {"model_type": "qwen3", **SHAPE},
    "experts": {"model_type": "qwen3_moe", **SHAPE, **EXPERTS},
}
WRITTEN = 32  # tokens


def made(kind: str, layers: int, folder: Path) -> TvmRunner:
    config = {**KINDS[kind], "num_hidden_layers": layers}
    directory = folder / kind
    directory.mkdir()
    write_tokenizer(directory, config["vocab_size"])
    draw_model(directory, config, directory, PackageWindows(1024, 512, 1))
    chat = json.loads((directory / "mlc-chat-config.json").read_text(encoding="utf-8"))
    library = folder / f"{kind}-{library_name()}"
    compile_library(chat, "q4f16_1", host_target(host()), library)
    return TvmRunner(directory, library, max_sequences=1)


def measured(runner: TvmRunner, seed: int) -> dict[str, float]:
    """Tokens a second, each text another."""
    tokens = np.random.default_rng(seed).integers(0, runner.vocab_size, 512 + WRITTEN).tolist()
    found = {}
    for length in (64, 512):
        runner.reset()
        runner.add_sequence(0)
        begun = time.perf_counter()
        runner.prefill(0, tokens[:length])
        found[f"prefill of {length}"] = length / (time.perf_counter() - begun)
    begun = time.perf_counter()
    for token in tokens[512:]:
        runner.decode([0], [token])
    return {**found, "decode": WRITTEN / (time.perf_counter() - begun)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        runners = {kind: made(kind, options.layers, Path(name)) for kind in KINDS}
        speeds: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for turn in range(options.rounds + 1):
            for kind, runner in runners.items():
                found = measured(runner, turn)
                if turn:  # the first warms up
                    speeds[kind].append(found)
        for what in speeds["dense"][0]:
            dense, experts = (statistics.median(found[what] for found in speeds[kind]) for kind in KINDS)
            print(f"{what}: experts {experts:.1f}, dense {dense:.1f} tokens/s, ratio {experts / dense:.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
