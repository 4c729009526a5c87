"""Every architecture in plain numpy: slow, short and exact, for measuring and for checking the compiled ones.

Float32 throughout; any `WeightsReader` gives it weights, so the same code runs a checkpoint and what a
quantizer made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from edge_router.compile.readers.base import Floats, WeightsReader
from edge_router.compile.rotary import Rotary, rotary
from edge_router.compile.weights.layouts import layout_of
from edge_router.compile.weights.parameters import Sizes, is_tied, parameters

Observer = Callable[[str, Floats], None]  # parameter's name (MLC's), its inputs (tokens, columns)


class Reference:
    """One conversation at a time: `hidden` appends tokens to it, `reset` forgets them.

    `config` is the reader's own where none is given. Raises `UnsupportedArchitecture`.
    """

    def __init__(self, reader: WeightsReader, config: Mapping[str, object] | None = None) -> None:
        config, where = config or reader.config, str(reader.source)
        self._reader, self._config = reader, config
        self._layout = layout_of(str(config.get("model_type")))
        self._size = Sizes.of({**config, "tie_word_embeddings": is_tied(config)}, where)
        self._epsilon = cast(float, config["rms_norm_eps"])
        self._fed = {source: made.name for made in parameters(config, where) for source in made.sources}
        # Gemma's: larger embeddings, another gate, scores divided by another number.
        around = self._layout.norms_around
        self._scale = math.sqrt(self._size.hidden) if around else 1.0
        self._gate = _gelu if around else _silu
        self._score_scale = 1 / math.sqrt(self._number("query_pre_attn_scalar", self._size.head_dim))
        self._windows = _windows(config, self._size.layers)
        far, near = rotary(config, self._size.head_dim), None
        if (theta := config.get("rope_local_base_freq")) is not None:
            near = rotary({**config, "rope_theta": theta, "rope_scaling": None}, self._size.head_dim)
        self._turns = [near if near is not None and window else far for window in self._windows]
        self._weights: dict[str, Floats] = {}
        self.reset()

    def reset(self) -> None:
        size = self._size
        empty = np.zeros((0, size.kv_heads, size.head_dim), np.float32)
        self._keys, self._values = [empty] * size.layers, [empty] * size.layers

    def hidden(self, tokens: Sequence[int], observe: Observer | None = None) -> Floats:
        """Final normalised states of the appended tokens, shape (tokens, hidden)."""
        look: Observer = observe or (lambda name, inputs: None)
        states = self._embedded(tokens)
        for number in range(self._size.layers):
            states = self._layer(number, states, look)
        return self._final(states, look)

    def observe(self, sequences: Sequence[Sequence[int]], look: Observer) -> Iterator[None]:
        """Show `look` what each parameter meets over whole texts, and stop after each layer.

        All texts go through one layer before the next, so only one layer's weights are in memory at a time.
        """
        states = [self._embedded(tokens) for tokens in sequences]
        self._weights.clear()
        for number in range(self._size.layers):
            for text, entered in enumerate(states):
                self.reset()
                states[text] = self._layer(number, entered, look)
            self._weights.clear()
            yield
        for left in states:
            self._final(left, look)
        yield

    def logits(self, hidden: Floats) -> Floats:
        """Shape (tokens, vocabulary)."""
        head = "model.embed_tokens" if self._size.tied else "lm_head"
        logits = hidden @ self._weight(f"{head}.weight").T
        return _capped(logits, self._number("final_logit_softcapping", 0))

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

    def _layer(self, number: int, states: Floats, look: Observer) -> Floats:
        layer, around = f"model.layers.{number}", self._layout.norms_around
        inputs = self._normalise(states, f"{layer}.input_layernorm.weight")
        (mixed,) = self._products(look, self._attention(number, inputs, look), f"{layer}.self_attn.o_proj")
        if around:
            mixed = self._normalise(mixed, f"{layer}.post_attention_layernorm.weight")
        states = states + mixed
        before = "pre_feedforward_layernorm" if around else "post_attention_layernorm"
        inputs = self._normalise(states, f"{layer}.{before}.weight")
        if self._layout.fused:
            (both,) = self._products(look, inputs, f"{layer}.mlp.gate_up_proj")
            gate, up = np.split(both, 2, axis=-1)
        else:
            gate, up = self._products(look, inputs, f"{layer}.mlp.gate_proj", f"{layer}.mlp.up_proj")
        (out,) = self._products(look, self._gate(gate) * up, f"{layer}.mlp.down_proj")
        if around:
            out = self._normalise(out, f"{layer}.post_feedforward_layernorm.weight")
        return states + out

    def _attention(self, number: int, inputs: Floats, look: Observer) -> Floats:
        size, tokens, past = self._size, len(inputs), len(self._keys[number])
        query, key, value = self._queries_keys_values(f"model.layers.{number}.self_attn", inputs, look)
        angles = np.arange(past, past + tokens)
        query, key = (_turned(heads, angles, self._turns[number]) for heads in (query, key))
        keys = self._keys[number] = np.concatenate([self._keys[number], key])
        values = self._values[number] = np.concatenate([self._values[number], value])
        share = size.heads // size.kv_heads
        grouped = query.reshape(tokens, size.kv_heads, share, size.head_dim)
        scores = np.einsum("tgsd,pgd->gstp", grouped, keys, optimize=True) * np.float32(self._score_scale)
        scores = _capped(scores, self._number("attn_logit_softcapping", 0))
        distance = np.arange(past, past + tokens)[:, None] - np.arange(past + tokens)
        unseen = (distance < 0) | (distance >= (self._windows[number] or past + tokens))
        weights = _softmax(np.where(unseen, np.float32(-np.inf), scores))
        mixed = np.einsum("gstp,pgd->tgsd", weights, values, optimize=True)
        return cast(Floats, mixed.reshape(tokens, size.heads * size.head_dim))

    def _queries_keys_values(self, prefix: str, inputs: Floats, look: Observer) -> list[Floats]:
        """Each of shape (tokens, heads, head_dim)."""
        size, names = self._size, ["qkv"] if self._layout.fused else ["q", "k", "v"]
        sources = [f"{prefix}.{name}_proj" for name in names]
        flat = np.concatenate(self._products(look, inputs, *sources), axis=-1)
        if self._layout.bias:
            flat += np.concatenate([self._weight(f"{source}.bias") for source in sources])
        heads = flat.reshape(len(inputs), -1, size.head_dim)
        parts = np.split(heads, [size.heads, size.heads + size.kv_heads], axis=1)
        if self._layout.head_norms:
            parts[:2] = (
                self._normalise(part, f"{prefix}.{name}_norm.weight")
                for name, part in zip("qk", parts, strict=False)
            )
        return parts

    def _products(self, look: Observer, inputs: Floats, *sources: str) -> list[Floats]:
        names = [f"{source}.weight" for source in sources]
        for parameter in dict.fromkeys(self._fed[name] for name in names):
            look(parameter, inputs)
        return [inputs @ self._weight(name).T for name in names]

    def _normalise(self, states: Floats, name: str) -> Floats:
        scale = 1 / np.sqrt((states * states).mean(-1, keepdims=True) + np.float32(self._epsilon))
        return cast(Floats, states * scale * (self._weight(name) + np.float32(self._layout.plus_one)))

    def _weight(self, name: str) -> Floats:
        if name not in self._weights:
            self._weights[name] = self._reader.rows(name)
        return self._weights[name]

    def _number(self, key: str, default: float) -> float:
        return float(cast(float, self._config.get(key) or default))


def _windows(config: Mapping[str, object], layers: int) -> list[int]:
    """How far back each layer looks; 0 for all the way."""
    architecture = str(config["model_type"])
    if "sliding_window" not in layout_of(architecture).keys:
        return [0] * layers  # a checkpoint may state one that it does not use
    stated = (config.get(key) for key in ("sliding_window_size", "sliding_window"))
    window = next((size for size in stated if isinstance(size, int) and size > 0), 0)
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return [window if kind == "sliding_attention" else 0 for kind in kinds]
    usual = {"gemma2": 2, "gemma3_text": 6}.get(architecture, layers + 1)
    every = cast(int, config.get("sliding_window_pattern") or usual)
    return [window if (layer + 1) % every else 0 for layer in range(layers)]


def _turned(heads: Floats, positions: np.typing.NDArray[np.intp], turns: Rotary) -> Floats:
    """Rotary embedding over (tokens, heads, head_dim), the two halves of what is turned forming the pairs."""
    angles = positions[:, None] * turns.frequencies
    cosine, sine = ((turns.amplitude * of(angles))[:, None, :].astype(np.float32) for of in (np.cos, np.sin))
    pairs = len(turns.frequencies)
    first, second, rest = np.split(heads, [pairs, 2 * pairs], axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine, rest], axis=-1)


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
