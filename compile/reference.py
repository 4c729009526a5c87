"""A Llama-type model in plain numpy: slow, short and exact, for measuring and for checking the compiled one.

Float32 throughout; any `WeightsReader` gives it weights, so the same code runs a checkpoint and what a
quantizer made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from edge_router.compile.parameters import Sizes
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.compile.rotary import frequencies
from edge_router.errors import UnsupportedArchitecture

_ARCHITECTURES = ("llama", "mistral")  # which compute the same

Observer = Callable[[str, Floats], None]  # parameter's name (MLC's), its inputs (tokens, columns)


class Reference:
    """One conversation at a time: `hidden` appends tokens to it, `reset` forgets them.

    Raises `UnsupportedArchitecture` for what is no Llama.
    """

    def __init__(self, reader: WeightsReader) -> None:
        architecture = str(reader.config.get("model_type"))
        if architecture not in _ARCHITECTURES:
            raise UnsupportedArchitecture(architecture, _ARCHITECTURES)
        self._reader = reader
        self._size = Sizes.of(reader.config, str(reader.source))
        self._epsilon = cast(float, reader.config["rms_norm_eps"])
        self._frequencies = frequencies(reader.config, self._size.head_dim)
        self._weights: dict[str, Floats] = {}
        self.reset()

    def reset(self) -> None:
        size = self._size
        empty = np.zeros((0, size.kv_heads, size.head_dim), np.float32)
        self._keys, self._values = [empty] * size.layers, [empty] * size.layers

    def hidden(self, tokens: Sequence[int], observe: Observer | None = None) -> Floats:
        """Final normalised states of the appended tokens, shape (tokens, hidden)."""
        look: Observer = observe or (lambda name, inputs: None)
        states = self._weight("model.embed_tokens")[np.asarray(tokens)]
        for number in range(self._size.layers):
            states = self._layer(number, states, look)
        states = self._normalise(states, "model.norm")
        look("lm_head", states)
        return states

    def logits(self, hidden: Floats) -> Floats:
        """Shape (tokens, vocabulary)."""
        head = "model.embed_tokens" if self._size.tied else "lm_head"
        return cast(Floats, hidden @ self._weight(head).T)

    def greedy(self, prompt: Sequence[int], count: int, stop: Sequence[int] = ()) -> list[int]:
        """The `count` most probable next tokens, or fewer up to and with the first of `stop`."""
        self.reset()
        found: list[int] = []
        states = self.hidden(prompt)
        while len(found) < count:
            found.append(int(self.logits(states[-1:])[0].argmax()))
            if found[-1] in stop:
                break
            states = self.hidden(found[-1:])
        return found

    def _layer(self, number: int, states: Floats, look: Observer) -> Floats:
        layer = f"model.layers.{number}"
        inputs = self._normalise(states, f"{layer}.input_layernorm")
        look(f"{layer}.self_attn.qkv_proj", inputs)
        mixed = self._attention(number, inputs)
        look(f"{layer}.self_attn.o_proj", mixed)
        states = states + mixed @ self._weight(f"{layer}.self_attn.o_proj").T
        inputs = self._normalise(states, f"{layer}.post_attention_layernorm")
        look(f"{layer}.mlp.gate_up_proj", inputs)
        gate = inputs @ self._weight(f"{layer}.mlp.gate_proj").T
        silu = 0.5 * gate * (1 + np.tanh(0.5 * gate))  # gate * sigmoid(gate), without exp's overflow
        inner = silu * (inputs @ self._weight(f"{layer}.mlp.up_proj").T)
        look(f"{layer}.mlp.down_proj", inner)
        return cast(Floats, states + inner @ self._weight(f"{layer}.mlp.down_proj").T)

    def _attention(self, number: int, inputs: Floats) -> Floats:
        size, tokens, past = self._size, len(inputs), len(self._keys[number])
        prefix = f"model.layers.{number}.self_attn"

        def project(part: str) -> Floats:
            flat = inputs @ self._weight(f"{prefix}.{part}_proj").T
            return cast(Floats, flat.reshape(tokens, -1, size.head_dim))

        angles = np.arange(past, past + tokens)[:, None] * self._frequencies
        query, key = _rotate(project("q"), angles), _rotate(project("k"), angles)
        keys = self._keys[number] = np.concatenate([self._keys[number], key])
        values = self._values[number] = np.concatenate([self._values[number], project("v")])
        share = size.heads // size.kv_heads
        grouped = query.reshape(tokens, size.kv_heads, share, size.head_dim)
        scores = np.einsum("tgsd,pgd->gstp", grouped, keys, optimize=True) / math.sqrt(size.head_dim)
        later = np.arange(past + tokens) > np.arange(past, past + tokens)[:, None]
        weights = _softmax(np.where(later, np.float32(-np.inf), scores))
        mixed = np.einsum("gstp,pgd->tgsd", weights, values, optimize=True)
        return cast(Floats, mixed.reshape(tokens, size.heads * size.head_dim))

    def _normalise(self, states: Floats, name: str) -> Floats:
        scale = 1 / np.sqrt((states * states).mean(-1, keepdims=True) + np.float32(self._epsilon))
        return cast(Floats, states * scale * self._weight(name))

    def _weight(self, name: str) -> Floats:
        if name not in self._weights:
            self._weights[name] = self._reader.rows(f"{name}.weight")
        return self._weights[name]


def _rotate(vectors: Floats, angles: Floats) -> Floats:
    """Rotary embedding over (tokens, heads, head_dim), the two halves of a head forming the pairs."""
    cosine = np.cos(angles)[:, None, :].astype(np.float32)
    sine = np.sin(angles)[:, None, :].astype(np.float32)
    first, second = np.split(vectors, 2, axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return cast(Floats, powers / powers.sum(-1, keepdims=True))
