"""Quantize a checkpoint of Llama-3.1-8B's shapes and say how much memory that took, in bytes.

    python tests/compile/eight_billion.py FOLDER LAYERS

FOLDER gets the checkpoint (bfloat16, a sparse file: random numbers at the beginning of each tensor and zeros
after them, 16 GB of which little is on the disk) and 4.5 GB of q4f16_1 for all 32 layers.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np

CONFIG: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
RANDOM_BYTES = 1 << 20  # of each tensor


def write_checkpoint(folder: Path, layers: int, tokenizer: dict[str, bytes]) -> dict[str, object]:
    """Its config. The tokenizer's files are not looked at."""
    from edge_router.compile.weights.parameters import parameters

    config = CONFIG | {"num_hidden_layers": layers}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, content in tokenizer.items():
        (folder / name).write_bytes(content)
    header, at = {}, 0
    for parameter in parameters(config, "8B"):
        for source, rows in zip(parameter.sources, parameter.source_rows, strict=True):
            shape = [rows, *parameter.shape[1:]]
            end = at + 2 * int(np.prod(shape))
            header[source] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
            at = end
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        begin = file.tell()
        file.truncate(begin + at)
        for entry in header.values():
            start, end = entry["data_offsets"]
            count = min(RANDOM_BYTES, end - start) // 2
            numbers = rng.normal(0, 0.02, count).astype("<f4").view("<u4") >> 16
            file.seek(begin + start)
            file.write(numbers.astype("<u2").tobytes())
    return config


def main() -> None:
    from edge_router.compile.readers import open_weights
    from edge_router.compile.weights.equalize import Activations
    from edge_router.compile.weights.package import PackageWindows, write_model
    from edge_router.compile.weights.quantize import supported
    from edge_router.device.process import peak_bytes

    folder, layers = Path(sys.argv[1]), int(sys.argv[2])
    tokenizer = {
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "added_tokens": [],
    }
    words = {"tokenizer.json": json.dumps(tokenizer).encode(), "tokenizer_config.json": b"{}"}
    config = write_checkpoint(folder / "checkpoint", layers, words)
    (folder / "quantized").mkdir()
    activations = Activations(
        {f"model.layers.{n}.self_attn.o_proj": np.ones(4096, np.float32) for n in range(layers)}
    )
    reader = open_weights(folder / "checkpoint")
    write_model(
        reader,
        folder / "quantized",
        config=config,
        form=supported("q4f16_1"),
        quantizer="weighted",
        activations=activations,
        windows=PackageWindows(4096, 1024),
        threads=2,
    )
    reader.close()
    sys.stdout.write(f"{peak_bytes()}\n")


if __name__ == "__main__":
    main()
