"""A Llama-type model in plain numpy, float32, on the weights of an MLC directory in q4f16_1.

Written from the papers and the format's definition, sharing no code with the package: what the compiled
model says is held against it. Simple and slow: hand it whole texts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Array = np.ndarray


class ReferenceLlama:
    """With a `window` each token sees so many, itself and the first `sinks` among them.

    The sinks are seen as if they lay right before the rest of the window (Xiao et al., 2023). `rounds`: keys
    and values are those of an 8-bit cache.
    """

    def __init__(
        self, directory: Path, window: int | None = None, sinks: int = 0, *, rounds: bool = False
    ) -> None:
        self.window, self.sinks, self.rounds = window, sinks, rounds
        config = json.loads((directory / "mlc-chat-config.json").read_text())
        assert config["quantization"] == "q4f16_1"
        self.config = config["model_config"]
        self.tensors = read_tensors(directory)
        self.weights: dict[str, Array] = {}

    def logits(self, tokens: Sequence[int], start: int = 0) -> Array:
        """What follows each of `tokens[start:]`: shape (len(tokens) - start, vocabulary)."""
        c = self.config
        x = self.matrix("model.embed_tokens")[np.asarray(tokens)]
        for layer in range(c["num_hidden_layers"]):
            name = f"model.layers.{layer}"
            x = x + self.attention(f"{name}.self_attn", self.normalised(x, f"{name}.input_layernorm"))
            x = x + self.mlp(f"{name}.mlp", self.normalised(x, f"{name}.post_attention_layernorm"))
        x = self.normalised(x[start:], "model.norm")
        return x @ self.matrix("model.embed_tokens" if c["tie_word_embeddings"] else "lm_head").T

    def shortfalls(self, prompt: Sequence[int], answer: Sequence[int]) -> Array:
        """By how much each token of `answer` falls short of the greedy choice: 0 where it is that choice.

        Each choice depends only on the tokens before it, so one pass over the whole text tells them all.
        """
        rows = self.logits([*prompt, *answer[:-1]], len(prompt) - 1)
        return rows.max(axis=1) - rows[np.arange(len(answer)), np.asarray(answer)]

    def attention(self, name: str, x: Array) -> Array:
        c = self.config
        heads, groups, width = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        qkv = (x @ self.matrix(f"{name}.qkv_proj").T).reshape(len(x), heads + 2 * groups, width)
        q, k, v = np.split(qkv, [heads, heads + groups], axis=1)
        places = np.arange(len(x))
        near, far = places, places if self.window is None else np.minimum(places, self.window - 1)
        k = rotated(k, c["position_embedding_base"], places)
        if self.rounds:
            k, v = eight_bits(k), eight_bits(v)
        k, v = (np.repeat(part, heads // groups, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", rotated(q, c["position_embedding_base"], near), k)
        to_sinks = np.einsum("qhd,khd->hqk", rotated(q, c["position_embedding_base"], far), k)
        scores = np.where(places < self.sinks, to_sinks, scores) / np.sqrt(width, dtype=np.float32)
        behind = places[:, None] - places
        seen = behind >= 0
        if self.window is not None:
            seen &= (behind < self.window - self.sinks) | (places < self.sinks)
        scores = np.where(seen, scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", weights / weights.sum(axis=-1, keepdims=True), v)
        return mixed.reshape(len(x), -1) @ self.matrix(f"{name}.o_proj").T

    def mlp(self, name: str, x: Array) -> Array:
        gate, up = np.split(x @ self.matrix(f"{name}.gate_up_proj").T, 2, axis=1)
        silu = gate * (1 + np.tanh(gate / 2)) / 2  # gate * sigmoid(gate), without an exp that overflows
        return (silu * up) @ self.matrix(f"{name}.down_proj").T

    def normalised(self, x: Array, name: str) -> Array:
        weight = self.tensors[f"{name}.weight"].astype(np.float32)
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["rms_norm_eps"]) * weight

    def matrix(self, name: str) -> Array:
        if name not in self.weights:
            self.weights[name] = dequantised(
                self.tensors[f"{name}.q_weight"], self.tensors[f"{name}.q_scale"]
            )
        return self.weights[name]


def rotated(x: Array, base: float, places: Array) -> Array:
    """Rotary position embedding on (tokens, heads, width), the halves of a head being the pairs."""
    half = x.shape[-1] // 2
    angles = np.outer(places, base ** (-np.arange(half) / half))[:, None]
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def eight_bits(x: Array) -> Array:
    """Each row of channels as whole numbers up to 127 times a float16, and back."""
    scale = (np.abs(x).max(axis=-1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    return np.clip(np.rint(x / scale), -127, 127) * scale


def dequantised(words: Array, scales: Array) -> Array:
    """(n, k/8) uint32 and (n, k/32) float16 to (n, k): eight nibbles a word, the lowest first, less 7."""
    nibbles = (words[..., None] >> np.arange(0, 32, 4, dtype=np.uint32)) & np.uint32(15)
    values = nibbles.reshape(len(words), -1).astype(np.float32) - 7
    return values * np.repeat(scales.astype(np.float32), 32, axis=1)


def read_tensors(directory: Path) -> dict[str, Array]:
    found = {}
    for shard in json.loads((directory / "tensor-cache.json").read_text())["records"]:
        data = (directory / shard["dataPath"]).read_bytes()
        for record in shard["records"]:
            piece = data[record["byteOffset"] : record["byteOffset"] + record["nbytes"]]
            found[record["name"]] = np.frombuffer(piece, record["dtype"]).reshape(record["shape"])
    return found
