"""Every architecture in plain numpy: slow, short and exact, for measuring and for checking the compiled ones.

Float32 throughout; any `WeightsReader` gives it weights, so the same code runs a checkpoint and what a
quantizer made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import cast

import numpy as np

from edge_router.architectures import architecture
from edge_router.architectures.description import Turn
from edge_router.architectures.experts import ExpertSizes
from edge_router.architectures.mixers import Mixer
from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.compile.rotary import Rotary, rotary
from edge_router.compile.weights.key_values import kept
from edge_router.compile.weights.mixing import Mix
from edge_router.compile.weights.parameters import Sizes, is_tied, parameters

_TOGETHER = 1024  # tokens in one product

Observer = Callable[[str, Floats], None]  # parameter's name (MLC's), its inputs (tokens, columns)


class Reference:
    """One conversation at a time: `hidden` appends tokens to it, `reset` forgets them.

    `config` is the reader's own where none is given. `kept`: as what keys and values are kept, "" for as they
    come. Raises `UnsupportedArchitecture`.
    """

    def __init__(
        self, reader: WeightsReader, config: Mapping[str, object] | None = None, *, kept: str = ""
    ) -> None:
        config, where = config or reader.config, str(reader.source)
        self._reader, self._config, self._kept = reader, config, kept
        self._kind = architecture(str(config.get("model_type")))
        size = Sizes.of({**config, "tie_word_embeddings": is_tied(config)}, where)
        self._size = size.of_experts(self._kind, config, where)
        self._epsilon = cast(float, config["rms_norm_eps"])
        self._fed = {source: made.name for made in parameters(config, where) for source in made.sources}
        self._scale = self._kind.embedding_scale(config)
        self._residual = np.float32(self._kind.residual_scale(config))
        self._gate = _silu if "silu" in self._kind.gates else _gelu
        self._score_scale = self._kind.score_scale(config, self._size.head_dim)
        self._where = where
        self._mixers = self._kind.layer_mixers(config, self._size.layers, where)
        self._windows = self._kind.layer_windows(config, self._size.layers)
        turns: dict[Turn, Rotary | None] = {
            "far": rotary(config, self._size.head_dim),
            "near": rotary(self._kind.near_rope(config), self._size.head_dim),
            "none": None,
        }
        self._turns = [turns[way] for way in self._kind.layer_turns(config, self._size.layers)]
        self._weights: dict[str, Floats] = {}
        self.reset()

    def reset(self) -> None:
        size = self._size
        empty = np.zeros((0, size.kv_heads, size.head_dim), np.float32)
        self._keys, self._values = [empty] * size.layers, [empty] * size.layers
        self._states: list[dict[str, Floats]] = [
            {}
            if mixer is None
            else {
                state.name: np.zeros(state.shape, np.float32)
                for state in mixer.sizes(self._config, self._where).states
            }
            for mixer in self._mixers
        ]

    def hidden(self, tokens: Sequence[int], observe: Observer | None = None) -> Floats:
        """Final normalised states of the appended tokens, shape (tokens, hidden)."""
        look: Observer = observe or (lambda name, inputs: None)
        states = self._embedded(tokens)
        for number in range(self._size.layers):
            states = self._layer(number, states, look)
        return self._final(states, look)

    def observe(self, sequences: Sequence[Sequence[int]], look: Observer) -> Iterator[None]:
        """Show `look` what each parameter meets over whole texts, and stop after each layer.

        All texts go through one layer before the next, so only one layer's weights are in memory at a time;
        several together, for a product of many rows takes less time than many products of a few.
        """
        batches = _batches(sequences)
        states = [self._embedded([token for tokens in batch for token in tokens]) for batch in batches]
        self._weights.clear()
        for number in range(self._size.layers):
            for at, batch in enumerate(batches):
                states[at] = self._layer(number, states[at], look, [len(tokens) for tokens in batch])
            self._weights.clear()
            yield
        self.reset()
        for left in states:
            self._final(left, look)
        yield

    def logits(self, hidden: Floats) -> Floats:
        """Shape (tokens, vocabulary)."""
        head = "model.embed_tokens" if self._size.tied else "lm_head"
        logits = hidden @ self._weight(f"{head}.weight").T
        scaled = logits * np.float32(self._kind.logit_scale(self._config))
        return _capped(scaled, self._kind.logit_cap(self._config))

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

    def _embedded(self, tokens: Sequence[int]) -> Floats:
        found = self._weight("model.embed_tokens.weight")[np.asarray(tokens)]
        return cast(Floats, found * np.float32(self._scale))

    def _final(self, states: Floats, look: Observer) -> Floats:
        states = self._normalise(states, "model.norm.weight")
        look("lm_head", states)
        return states

    def _layer(
        self, number: int, states: Floats, look: Observer, texts: Sequence[int] | None = None
    ) -> Floats:
        """`texts` are the lengths of those that the states belong to, one after another: all new ones."""
        layer, norms = f"model.layers.{number}", self._kind.norms
        inputs = states if norms == "after" else self._normalise(states, f"{layer}.input_layernorm.weight")
        mixer = self._mixers[number]
        if mixer is None:
            mixed = self._attention(number, inputs, look, texts)
            if self._kind.gated:
                mixed = mixed / (1 + np.exp(-self._gates))
            (mixed,) = self._products(look, mixed, f"{layer}.self_attn.o_proj")
        else:
            mixed = self._mixed_by(mixer, number, inputs, look, texts)
        if norms != "before":
            mixed = self._normalise(mixed, f"{layer}.post_attention_layernorm.weight")
        states = states + self._residual * mixed
        before = "pre_feedforward_layernorm" if norms == "around" else "post_attention_layernorm"
        inputs = states if norms == "after" else self._normalise(states, f"{layer}.{before}.weight")
        out = self._mlp(f"{layer}.mlp", inputs, look)
        if norms != "before":
            out = self._normalise(out, f"{layer}.post_feedforward_layernorm.weight")
        return states + self._residual * out

    def _mlp(self, mlp: str, inputs: Floats, look: Observer) -> Floats:
        if self._kind.experts is None:
            return self._one_mlp(mlp, inputs, look)
        sizes, router = self._size.experts, self._kind.experts.router
        assert sizes is not None
        chosen, shares = _routed(inputs @ self._weight(f"{mlp}.{router}.weight").T, sizes)
        out = np.zeros_like(inputs)
        for expert in np.unique(chosen):
            tokens, places = np.nonzero(chosen == expert)
            found = self._one_mlp(f"{mlp}.experts.{expert}", inputs[tokens], look)
            out[tokens] += shares[tokens, places, None] * found
        return out

    def _one_mlp(self, mlp: str, inputs: Floats, look: Observer) -> Floats:
        if self._kind.fused or self._kind.fused_mlp:
            (both,) = self._products(look, inputs, f"{mlp}.gate_up_proj")
            gate, up = np.split(both, 2, axis=-1)
        else:
            gate, up = self._products(look, inputs, f"{mlp}.gate_proj", f"{mlp}.up_proj")
        (out,) = self._products(look, self._gate(gate) * up, f"{mlp}.down_proj")
        return out

    def _attention(self, number: int, inputs: Floats, look: Observer, texts: Sequence[int] | None) -> Floats:
        heads = self._queries_keys_values(f"model.layers.{number}.self_attn", inputs, look)
        if texts is None:
            return self._mixed(number, *heads)
        found, ends = [], np.cumsum(texts)[:-1]
        for query, key, value in zip(*(np.split(part, ends) for part in heads), strict=True):
            self.reset()
            found.append(self._mixed(number, query, key, value))
        return np.concatenate(found)

    def _mixed_by(
        self, mixer: Mixer, number: int, inputs: Floats, look: Observer, texts: Sequence[int] | None
    ) -> Floats:
        prefix = f"model.layers.{number}.{mixer.name}"
        sources = [f"{prefix}.{name}" for name in mixer.sizes(self._config, self._where).inputs]
        projected = np.concatenate(self._products(look, inputs, *sources), axis=-1)
        module, _, function = mixer.reference.partition(":")
        mix: Mix = getattr(import_module(module), function)

        def weight(name: str) -> Floats:
            return self._weight(f"{prefix}.{name}")

        found = []
        for part in [projected] if texts is None else np.split(projected, np.cumsum(texts)[:-1]):
            if texts is not None:
                self.reset()
            found.append(mix(self._config, part, weight, self._states[number]))
        (out,) = self._products(look, np.concatenate(found), f"{prefix}.{mixer.out}")
        return out

    def _mixed(self, number: int, query: Floats, key: Floats, value: Floats) -> Floats:
        """Values as the queries of new tokens ask for them; shape (tokens, heads * head_dim)."""
        size, tokens, past = self._size, len(query), len(self._keys[number])
        angles = np.arange(past, past + tokens)
        query, key = (_turned(heads, angles, self._turns[number]) for heads in (query, key))
        if self._kept:
            key, value = (kept(numbers, self._kept) for numbers in (key, value))
        keys = self._keys[number] = np.concatenate([self._keys[number], key])
        values = self._values[number] = np.concatenate([self._values[number], value])
        share = size.heads // size.kv_heads
        grouped = query.reshape(tokens, size.kv_heads, share, size.head_dim)
        scores = np.einsum("tgsd,pgd->gstp", grouped, keys, optimize=True) * np.float32(self._score_scale)
        scores = _capped(scores, self._kind.score_cap(self._config))
        distance = np.arange(past, past + tokens)[:, None] - np.arange(past + tokens)
        unseen = (distance < 0) | (distance >= (self._windows[number] or past + tokens))
        weights = _softmax(np.where(unseen, np.float32(-np.inf), scores))
        mixed = np.einsum("gstp,pgd->tgsd", weights, values, optimize=True)
        return cast(Floats, mixed.reshape(tokens, size.heads * size.head_dim))

    def _queries_keys_values(self, prefix: str, inputs: Floats, look: Observer) -> list[Floats]:
        """Each of shape (tokens, heads, head_dim)."""
        size, names = self._size, ["qkv"] if self._kind.fused else ["q", "k", "v"]
        sources = [f"{prefix}.{name}_proj" for name in names]
        flat = np.concatenate(self._products(look, inputs, *sources), axis=-1)
        if self._kind.bias:
            flat += np.concatenate([self._weight(f"{source}.bias") for source in sources])
        query, key = size.heads * size.head_dim, size.kv_heads * size.head_dim
        queries = 2 * query if self._kind.gated else query
        widths = np.split(flat, [queries, queries + key], axis=-1)
        if self._kind.gated:
            both = widths[0].reshape(len(inputs), size.heads, 2, size.head_dim)
            widths[0] = both[:, :, 0].reshape(len(inputs), query)
            self._gates = both[:, :, 1].reshape(len(inputs), query)
        if self._kind.head_norms == "all":
            widths = self._normalised_pair(prefix, widths)
        parts = [part.reshape(len(inputs), -1, size.head_dim) for part in widths]
        return self._normalised_pair(prefix, parts) if self._kind.head_norms == "each" else parts

    def _normalised_pair(self, prefix: str, parts: Sequence[Floats]) -> list[Floats]:
        """The first two, queries and keys, normalised along their last axis."""
        query, key, value = parts
        names = (f"{prefix}.{name}_norm.weight" for name in "qk")
        return [*(self._normalise(part, name) for part, name in zip((query, key), names, strict=True)), value]

    def _products(self, look: Observer, inputs: Floats, *sources: str) -> list[Floats]:
        names = [f"{source}.weight" for source in sources]
        for parameter in dict.fromkeys(self._fed[name] for name in names):
            look(parameter, inputs)
        return [inputs @ self._weight(name).T for name in names]

    def _normalise(self, states: Floats, name: str) -> Floats:
        scale = 1 / np.sqrt((states * states).mean(-1, keepdims=True) + np.float32(self._epsilon))
        return cast(Floats, states * scale * (self._weight(name) + np.float32(self._kind.plus_one)))

    def _weight(self, name: str) -> Floats:
        if name not in self._weights:
            self._weights[name] = self._reader.rows(name)
        return self._weights[name]


def _batches(sequences: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """Texts that go together, in their order."""
    found: list[list[Sequence[int]]] = []
    room = 0
    for tokens in sequences:
        if not found or len(tokens) > room:
            found.append([])
            room = _TOGETHER
        found[-1].append(tokens)
        room -= len(tokens)
    return found


def _turned(heads: Floats, positions: np.typing.NDArray[np.intp], turns: Rotary | None) -> Floats:
    """Rotary embedding over (tokens, heads, head_dim), the two halves of what is turned forming the pairs."""
    if turns is None:
        return heads
    angles = positions[:, None] * turns.frequencies
    cosine, sine = ((turns.amplitude * of(angles))[:, None, :].astype(np.float32) for of in (np.cos, np.sin))
    pairs = len(turns.frequencies)
    first, second, rest = np.split(heads, [pairs, 2 * pairs], axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine, rest], axis=-1)


def _routed(rated: Floats, sizes: ExpertSizes) -> tuple[np.typing.NDArray[np.intp], Floats]:
    """Of each token its experts, the best first, and their shares in its result."""
    chosen = np.argsort(-rated, axis=-1, kind="stable")[:, : sizes.chosen]
    among = np.take_along_axis(rated, chosen, -1) if sizes.shared_out else rated
    shares = _softmax(among)
    return chosen, shares if sizes.shared_out else np.take_along_axis(shares, chosen, -1)


def _silu(gate: Floats) -> Floats:
    half = np.float32(0.5) * gate
    return cast(Floats, half * (1 + np.tanh(half)))  # gate * sigmoid(gate), without exp's overflow


def _gelu(gate: Floats) -> Floats:
    inner = np.float32(math.sqrt(2 / math.pi)) * (gate + np.float32(0.044715) * gate**3)
    return cast(Floats, np.float32(0.5) * gate * (1 + np.tanh(inner)))


def _capped(values: Floats, cap: float) -> Floats:
    return cast(Floats, np.float32(cap) * np.tanh(values / np.float32(cap))) if cap else values


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return cast(Floats, powers / powers.sum(-1, keepdims=True))
