"""A decoder of Llama's kind, as its architecture's description has it: norms, windows, turns and scales."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, cast

from tvm import te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from edge_router.architectures import Architecture
from edge_router.architectures.description import Turn
from edge_router.architectures.mixers import Mixer, MixerSizes
from edge_router.compile.graphs.causal import CausalLM
from edge_router.compile.graphs.config import DecoderConfig
from edge_router.compile.graphs.experts import Mixture
from edge_router.compile.graphs.mixing import KeptStates, gated_head_norms, gated_output, mixing
from edge_router.compile.graphs.parts import Parts
from edge_router.compile.kernels.base import PagedKernels
from edge_router.compile.kernels.shapes import Gate
from edge_router.compile.rotary import Rotary
from edge_router.errors import InvalidModel


@dataclass(frozen=True)
class Design:
    """What a layer is made after: the description, the numbers, and what differs from layer to layer.

    `turns` has an entry for each way in which some layer turns, and none where the KV cache turns all alike.
    `mixers` are those of layers that do not attend.
    """

    architecture: Architecture
    values: Mapping[str, object]
    config: DecoderConfig
    windowed: tuple[bool, ...]
    layer_turns: tuple[Turn, ...]
    turns: Mapping[Turn, Rotary]
    mixers: tuple[Mixer | None, ...]
    mixer_sizes: Mapping[str, MixerSizes]
    where: str

    @classmethod
    def of(cls, architecture: Architecture, values: Mapping[str, object], where: str) -> Design:
        """Raises `InvalidModel`."""
        config = _numbers(architecture, values, where)
        longest = architecture.trained_context(values) if "llama_4_scaling_beta" in _scaling(values) else None
        if isinstance(longest, int) and config.context_window_size > longest:
            raise InvalidModel(
                where,
                f"context_window_size is {config.context_window_size}; scores beyond {longest} tokens "
                "change by llama_4_scaling_beta, which no engine here computes",
            )
        count = config.num_hidden_layers
        windowed = (config.slides,) * count
        if architecture.windowed == "some":
            windowed = tuple(window > 0 for window in architecture.layer_windows(values, count))
        ways = architecture.layer_turns(values, count)
        turns: dict[Turn, Rotary] = {}
        if {*ways} != {"far"}:
            near = DecoderConfig.read(_near(architecture, values), where)
            turns["far"] = config.rotary(where)
            if "near" in ways:
                turns["near"] = near.rotary(where)
        mixers = architecture.layer_mixers(values, count, where)
        sizes = {mixer.kind: mixer.sizes(values, where) for mixer in mixers if mixer is not None}
        return cls(architecture, values, config, windowed, ways, turns, mixers, sizes, where)

    def place(self, layer: int) -> int:
        """The layer's among those with a cache of the same kind."""
        return self.mixers[:layer].count(self.mixers[layer])

    @property
    def kept(self) -> tuple[KeptStates, ...]:
        """The states of all layers."""
        kinds = {mixer.kind: mixer for mixer in self.mixers if mixer is not None}
        return tuple(
            KeptStates.of(mixer, state, self.mixers.count(mixer))
            for mixer in kinds.values()
            for state in self.mixer_sizes[mixer.kind].states
        )

    @property
    def width(self) -> int:
        """Of all queries."""
        return self.config.num_attention_heads * self.config.head_dim

    @property
    def key_width(self) -> int:
        return self.config.num_key_value_heads * self.config.head_dim

    @property
    def gate(self) -> Gate:
        return "silu" if "silu" in self.architecture.gates else "gelu_tanh"

    @property
    def residual(self) -> float:
        return self.architecture.residual_scale(self.values)


class Attention(nn.Module):
    def __init__(self, design: Design, parts: Parts, layer: int) -> None:
        super().__init__()
        self._design, self._parts, described, config = design, parts, design.architecture, design.config
        names, hidden, epsilon = described.names, config.hidden_size, config.rms_norm_eps
        way = design.layer_turns[layer]
        turns = design.turns.get(way) if design.turns else None
        if described.split:
            self.q_proj = parts.linear(hidden, design.width)
            self.k_proj = parts.linear(hidden, design.key_width)
            self.v_proj = parts.linear(hidden, design.key_width)
        else:
            plain, rows = described.head_norms == "none", design.width + 2 * design.key_width
            rows += design.width if described.gated else 0
            whole = parts.linear(hidden, rows, stored=plain, bias=described.bias)
            setattr(self, names.qkv, whole)
        if described.head_norms != "none":
            each = described.head_norms == "each"
            self.q_norm = parts.norm(config.head_dim if each else design.width, epsilon)
            self.k_norm = parts.norm(config.head_dim if each else design.key_width, epsilon)
        setattr(self, names.out, parts.linear(design.width, hidden))
        self._normalised = parts.head_norms(config) if described.head_norms == "each" else None
        if described.gated:
            self._normalised = gated_head_norms(parts, config)
        self._turned = parts.turned(config, turns) if design.turns else None
        scale = described.score_scale(design.values, config.head_dim)
        self.attention = parts.attention(config, scale, windowed=design.windowed[layer])

    def forward(self, x: Tensor, cache: Any, layer: int) -> Tensor:
        """What `project` is to be multiplied with."""
        names, gates = self._design.architecture.names, None
        if self._design.architecture.split:
            qkv = op.concat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=1)
        else:
            qkv = getattr(self, names.qkv)(x)
        if self._design.architecture.gated:
            gates = qkv
        if self._normalised is not None:
            qkv = self._normalised(qkv, self.q_norm, self.k_norm)
        elif self._design.architecture.head_norms == "all":
            qkv = self._normalised_together(qkv)
        if self._turned is not None:
            qkv = self._turned(qkv, cache)
        attended = self.attention(qkv, cache, layer)
        return attended if gates is None else gated_output(self._parts, self._design.config, attended, gates)

    def _normalised_together(self, qkv: Tensor) -> Tensor:
        width = self._design.width
        last = width + 2 * self._design.key_width
        ends = (0, width, width + self._design.key_width, last)
        query, key, value = (_columns(qkv, *pair) for pair in pairwise(ends))
        return self._parts.together(self.q_norm(query), self.k_norm(key), value)

    def project(self, attended: Tensor, *residual: Tensor) -> Tensor:
        return getattr(self, self._design.architecture.names.out)(attended, *residual)


class FeedForward(nn.Module):
    def __init__(self, design: Design, parts: Parts) -> None:
        super().__init__()
        config = design.config
        self.gate_up_proj = parts.gated(config.hidden_size, config.intermediate_size, design.gate)
        self.down_proj = parts.linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor, *residual: Tensor) -> Tensor:
        return self.down_proj(self.gate_up_proj(x), *residual)


def _mlp(design: Design, parts: Parts) -> FeedForward | Mixture:
    experts = design.architecture.experts
    if experts is None:
        return FeedForward(design, parts)
    sizes = experts.sizes(design.values, design.where)
    return Mixture(experts, sizes, design.config.hidden_size, design.gate, parts)


class Layer(nn.Module):
    def __init__(self, design: Design, parts: Parts, layer: int) -> None:
        super().__init__()
        self._design, self._parts, names = design, parts, design.architecture.names
        norms, size = design.architecture.norms, design.config.hidden_size
        made = ["post_attention_layernorm"]
        if norms != "after":
            made.append(names.before)
        if norms != "before":
            made.append("post_feedforward_layernorm")
        if norms == "around":
            made.append("pre_feedforward_layernorm")
        mixer, self._place = design.mixers[layer], design.place(layer)
        self._attention = names.attention if mixer is None else mixer.name
        made_of = Attention(design, parts, layer) if mixer is None else mixing(design, parts, layer, mixer)
        setattr(self, self._attention, made_of)
        self.mlp = _mlp(design, parts)
        for name in made:
            setattr(self, name, parts.norm(size, design.config.rms_norm_eps))

    def forward(self, x: Tensor, cache: Any, layer: int) -> Tensor:
        names, norms = self._design.architecture.names, self._design.architecture.norms
        attention, by = getattr(self, self._attention), self._design.residual
        before = getattr(self, names.before)(x) if norms != "after" else x
        attended = attention(before, cache, self._place)
        if norms == "before" and by == 1:  # one kernel adds what the product gives
            x = attention.project(attended, x)
            return self.mlp(self.post_attention_layernorm(x), x)
        if norms == "before":
            x = self._added(x, attention.project(attended))
            return self._added(x, self.mlp(self.post_attention_layernorm(x)))
        x = x + self.post_attention_layernorm(attention.project(attended))
        inner = self.pre_feedforward_layernorm(x) if norms == "around" else x
        return x + self.post_feedforward_layernorm(self.mlp(inner))

    def _added(self, x: Tensor, more: Tensor) -> Tensor:
        """More of the stream, by its scale."""
        kernels, columns = getattr(self._parts, "kernels", None), self._design.config.hidden_size
        by = self._design.residual
        if not isinstance(kernels, PagedKernels):
            return x + more * by
        make = partial(kernels.scaled_sum, columns, by)
        return self._parts.call(("scaled_sum", columns, by), "scaled_sum", make, [x, more], _like(x))


class Model(nn.Module):
    def __init__(self, design: Design, parts: Parts) -> None:
        super().__init__()
        config, self._names = design.config, design.architecture.names
        self._scale = design.architecture.embedding_scale(design.values)
        setattr(self, self._names.embedding, parts.embedding(config.vocab_size, config.hidden_size))
        layers = [Layer(design, parts, index) for index in range(config.num_hidden_layers)]
        setattr(self, self._names.layers, nn.ModuleList(layers))
        self.norm = parts.norm(config.hidden_size, config.rms_norm_eps)

    @property
    def embedding(self) -> Any:
        return getattr(self, self._names.embedding)

    def forward(self, x: Tensor, cache: Any) -> Tensor:
        x = x if self._scale == 1 else x * self._scale
        for index, layer in enumerate(getattr(self, self._names.layers)):
            x = layer(x, cache, index)
        return x


class Language(nn.Module):
    """A model one level down: beside it one that also sees would have what it sees with."""

    def __init__(self, model: Model, name: str) -> None:
        super().__init__()
        self._name = name
        setattr(self, name, model)

    @property
    def _model(self) -> Any:
        return getattr(self, self._name)

    @property
    def embedding(self) -> Any:
        return self._model.embedding

    @property
    def norm(self) -> Any:
        return self._model.norm

    def forward(self, x: Tensor, cache: Any) -> Tensor:
        return self._model(x, cache)


def decoder(architecture: Architecture, values: Mapping[str, object], parts: Parts, where: str) -> CausalLM:
    """The model that `values`, an MLC `model_config`, describes. Raises `InvalidModel`."""
    design = Design.of(architecture, values, where)
    return causal(design, parts, Model(design, parts), where)


def causal(design: Design, parts: Parts, model: Any, where: str) -> CausalLM:
    """`model` under the names of its architecture, with the head that turns its states into logits."""
    name, _, inner = design.architecture.names.body.partition(".")
    body = Language(model, inner) if inner else model
    return CausalLM(
        design.config,
        parts,
        body,
        None if design.turns else design.config.rotary(where),
        name=name,
        cap=design.architecture.logit_cap(design.values),
        scale=design.architecture.logit_scale(design.values),
        states=design.kept,
        attending=design.mixers.count(None),
    )


def _like(x: Tensor) -> Tensor:
    return Tensor.placeholder(x.shape, x.dtype)


def _columns(x: Tensor, first: int, end: int) -> Tensor:
    """x [rows, width] from one column up to another, as one function: WebGPU programs know no tuples."""

    def columns(x: Any) -> Any:
        return te.compute((x.shape[0], end - first), lambda i, j: x[i, first + j], name="columns")

    return op.tensor_expr_op(columns, "columns", [x])


def _numbers(architecture: Architecture, values: Mapping[str, object], where: str) -> DecoderConfig:
    """Raises `InvalidModel`."""
    _check_gate(architecture, values, where)
    plain = {"tie_word_embeddings": architecture.tied, **values}
    own, stated = values.get("sliding_window"), values.get("sliding_window_size")
    if architecture.windowed == "all":
        return DecoderConfig.read({**plain, "sliding_window_size": _window(stated, own)}, where)
    if architecture.windowed == "none":
        return DecoderConfig.read(plain, where)
    window = _window(stated, own)
    if own is not None and own != window:
        raise InvalidModel(
            where, f"sliding_window_size is {window}, but some of its layers look back at everything"
        )
    if window < 1 and architecture.turns != "near only":  # which is made without a window, too
        raise InvalidModel(where, "model_config lacks sliding_window")
    config = DecoderConfig.read({**plain, "sliding_window_size": -1}, where)
    return replace(config, layer_window=max(0, window))


def _near(architecture: Architecture, values: Mapping[str, object]) -> Mapping[str, object]:
    """`values` for layers that turn for near tokens."""
    base = values.get("rope_theta") or values.get("position_embedding_base")
    near = architecture.near_rope({**values, "rope_theta": base})
    return {**near, "position_embedding_base": near["rope_theta"], "sliding_window_size": -1}


def _scaling(values: Mapping[str, object]) -> Mapping[str, object]:
    stated = values.get("rope_scaling")
    return stated if isinstance(stated, Mapping) else {}


def _window(*stated: object) -> int:
    """As the user or MLC says, else as the model was made; -1 where there is none."""
    return next((size for size in stated if isinstance(size, int) and size > 0), -1)


def _check_gate(architecture: Architecture, values: Mapping[str, object], where: str) -> None:
    key = "hidden_activation" if values.get("hidden_activation") else "hidden_act"
    named = values.get(key) or architecture.gates[0]
    if named not in architecture.gates:
        raise InvalidModel(where, f"{key} is {cast(str, named)!r}, not {architecture.gates[0]}")
