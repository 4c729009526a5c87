"""The small model: with grouped heads, several layers and a context of several chunks; the same on every machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_router.bench.random_weights import write_tokenizer
from edge_router.compile.random_model import write_random_model
from edge_router.compile.weights.package import PackageWindows

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_hidden_layers": 4,
    "rms_norm_eps": 1e-5,
    "vocab_size": 2048,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
WINDOWS = PackageWindows(512, 128, 4)


def make_small(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    write_random_model(folder, SMALL, folder, WINDOWS)


def main() -> None:
    """In the unpacked pack, where its weights are not: they are made quicker than carried."""
    from common import folder, manifest

    if "small" in manifest()["logits"] and not list(folder("small").glob("params_shard_*")):
        make_small(folder("small"))


if __name__ == "__main__":
    main()
