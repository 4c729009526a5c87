"""Models whose layers see different pasts, in pages of ours: against numpy, and several tokens at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.engines.tvm.engine import TvmRunner

CLOSE = 0.03  # of the logits' standard deviation
IN_8_BITS = 0.08  # likewise: what is computed a little otherwise may be rounded to the other side
CHUNK = 32
NUMBERS: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "vocab_size": 49152,  # as many as the demo model's tokenizer makes
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 16,
    "sliding_window": 40,
}
KINDS: dict[str, dict[str, Any]] = {
    "granite": {"model_type": "granite", "residual_multiplier": 0.3},
    "gemma2, rows that groups don't divide": {
        "model_type": "gemma2",
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
        "hidden_size": 72,
        "intermediate_size": 104,
        "head_dim": 24,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "num_experts": 16,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 96,
        "norm_topk_prob": True,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gemma3 in 8 bits": {
        "model_type": "gemma3_text",
        "layer_types": ["full_attention"] * 3,
        "kv_cache": "int8",
    },
}


def made(folder: Path, numbers: dict[str, Any], tokenizer: Path) -> Path:
    """An MLC directory of random weights, and its library."""
    from edge_router.compile.library import compile_library
    from edge_router.compile.random_model import RandomReader
    from edge_router.compile.targets import host_target
    from edge_router.compile.weights.equalize import Activations
    from edge_router.compile.weights.package import PackageWindows, write_model
    from edge_router.compile.weights.quantize import supported
    from edge_router.device import host

    class Loud(RandomReader):
        """Attention that prefers some tokens to others, so that it matters which are seen."""

        def rows(self, name: str, start: int = 0, stop: int | None = None) -> Any:
            found = super().rows(name, start, stop)
            return found if found.ndim == 1 else found * np.float32(75 / found.shape[-1] ** 0.5)

    folder.mkdir()
    write_model(
        Loud(numbers, tokenizer), folder, config=numbers, form=supported("q4f16_1"), quantizer="round",
        activations=Activations(), windows=PackageWindows(512, CHUNK, 8),
    )  # fmt: skip
    config = json.loads((folder / "mlc-chat-config.json").read_text(encoding="utf-8"))
    config["model_config"]["kv_cache"] = numbers.get("kv_cache", "auto")
    compile_library(config, "q4f16_1", host_target(host()), folder / "model.tar")
    return folder


def test_layers_with_a_window_and_without(built_model: Any, tmp_path: Path) -> None:
    from edge_router.compile.readers import open_weights
    from edge_router.compile.weights.reference import Reference

    tokens = np.random.default_rng(1).integers(0, 288, 160).tolist()
    for name, more in KINDS.items():
        folder = made(tmp_path / name, {**NUMBERS, **more}, built_model.model_dir)
        reference = Reference(open_weights(folder), kept=more.get("kv_cache", ""))
        runner = TvmRunner(folder, folder / "model.tar", max_sequences=3)
        try:
            wanted = reference.logits(reference.hidden(tokens))[:, : runner.vocab_size]
            close = (IN_8_BITS if "kv_cache" in more else CLOSE) * wanted.std()
            for sequence in range(3):
                runner.add_sequence(sequence)
            for start in range(0, 96, CHUNK):
                found = runner.prefill(0, tokens[start : start + CHUNK])
                assert np.abs(found - wanted[start + CHUNK - 1]).max() < close, name
            alone = [runner.decode([0], [token])[0].copy() for token in tokens[96:]]
            assert np.abs(np.stack(alone) - wanted[96:]).max() < close, name
            both = runner.prefill_many([1, 2], [tokens[:9], tokens[:20]])
            assert np.abs(both - wanted[[8, 19]]).max() < close, name
            runner.pop_tokens(0, 64)
            for done in range(0, 60, 4):  # the last guess is wrong
                rows = runner.verify([0], [[*tokens[96 + done : 100 + done], 7]])
                assert np.array_equal(rows[:4], alone[done : done + 4]), (name, done)
                runner.pop_tokens(0, 1)
        finally:
            runner.close()
