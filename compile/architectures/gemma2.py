"""Gemma 2: norms before and after attention and MLP, scores and logits bent to a cap, embeddings made larger.

Every other layer, the first one included, attends within a sliding window.
"""
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from edge_router.compile.architectures.causal import CausalLM
from edge_router.compile.architectures.config import DecoderConfig, number, stated_window
from edge_router.compile.architectures.parts import Parts
from edge_router.errors import InvalidModel

_GATES = {"gelu_pytorch_tanh", "gelu_tanh"}


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts, scale: float, windowed: bool) -> None:
        super().__init__()
        width = config.num_attention_heads * config.head_dim
        keys_and_values = 2 * config.num_key_value_heads * config.head_dim
        self.qkv_proj = parts.linear(config.hidden_size, width + keys_and_values, stored=True)
        self.o_proj = parts.linear(width, config.hidden_size)
        self.attention = parts.attention(config, scale, windowed=windowed)

    def forward(self, x: Tensor, cache: Any, layer: int) -> Tensor:
        return self.o_proj(self.attention(self.qkv_proj(x), cache, layer))


class FeedForward(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts) -> None:
        super().__init__()
        self.gate_up_proj = parts.gated(config.hidden_size, config.intermediate_size, "gelu_tanh")
        self.down_proj = parts.linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gate_up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts, attention: Any) -> None:
        super().__init__()
        size, epsilon = config.hidden_size, config.rms_norm_eps
        self.self_attn = attention
        self.mlp = FeedForward(config, parts)
        self.input_layernorm = parts.norm(size, epsilon)
        self.post_attention_layernorm = parts.norm(size, epsilon)
        self.pre_feedforward_layernorm = parts.norm(size, epsilon)
        self.post_feedforward_layernorm = parts.norm(size, epsilon)

    def forward(self, x: Tensor, cache: Any, layer: int) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), cache, layer))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class Model(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts, layers: list[Layer]) -> None:
        super().__init__()
        self._scale = config.hidden_size**0.5
        self.embed_tokens = parts.embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(layers)
        self.norm = parts.norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cache: Any) -> Tensor:
        x = x * self._scale
        for index, layer in enumerate(self.layers):
            x = layer(x, cache, index)
        return x


def alternating(values: Mapping[str, object], where: str) -> DecoderConfig:
    """The numbers of a model of which some layers have a window. Raises `InvalidModel`."""
    _check_gate(values, where)
    window, own = stated_window(values), values.get("sliding_window")
    if own is not None and own != window:
        raise InvalidModel(
            where, f"sliding_window_size is {window}, but some of its layers look back at everything"
        )
    if window < 1:
        raise InvalidModel(where, "model_config lacks sliding_window")
    plain = {"tie_word_embeddings": True, **values, "sliding_window_size": -1}
    return replace(DecoderConfig.read(plain, where), layer_window=window)


def windowed_layers(values: Mapping[str, object], config: DecoderConfig, *, every: int) -> list[bool]:
    """Of each layer whether it has a window: all but each `every`th, where the model does not say."""
    kinds = cast("Sequence[str] | None", values.get("layer_types"))
    if kinds is not None:
        return [kind == "sliding_attention" for kind in kinds]
    every = int(number(values, "sliding_window_pattern", every))
    return [(layer + 1) % every != 0 for layer in range(config.num_hidden_layers)]


def score_scale(values: Mapping[str, object], config: DecoderConfig) -> float:
    """Gemma divides scores by the root of a number of its own."""
    scalar = number(values, "query_pre_attn_scalar", config.head_dim)
    return float(scalar**-0.5)


def _check_gate(values: Mapping[str, object], where: str) -> None:
    named = values.get("hidden_activation") or values.get("hidden_act") or "gelu_pytorch_tanh"
    if named not in _GATES:
        raise InvalidModel(where, f"hidden_activation is {named!r}, not gelu_pytorch_tanh")


def gemma2(values: Mapping[str, object], parts: Parts, where: str) -> CausalLM:
    config = alternating(values, where)
    scale = score_scale(values, config)
    layers = [
        Layer(config, parts, Attention(config, parts, scale, windowed))
        for windowed in windowed_layers(values, config, every=2)
    ]
    cap = number(values, "final_logit_softcapping", 0.0)
    return CausalLM(config, parts, Model(config, parts, layers), config.rotary(where), cap=cap)
