"""Gemma 3 (text): most layers attend within a window and turn faster; queries and keys are normalised."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op

from edge_router.compile.architectures.causal import CausalLM
from edge_router.compile.architectures.config import DecoderConfig, number
from edge_router.compile.architectures.gemma2 import Layer, Model, alternating, score_scale, windowed_layers
from edge_router.compile.architectures.parts import Parts
from edge_router.compile.rotary import Rotary


class Attention(nn.Module):
    def __init__(
        self, config: DecoderConfig, parts: Parts, scale: float, turns: Rotary, windowed: bool
    ) -> None:
        super().__init__()
        query, key = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = parts.linear(config.hidden_size, query)
        self.k_proj = parts.linear(config.hidden_size, key)
        self.v_proj = parts.linear(config.hidden_size, key)
        self.q_norm = parts.norm(config.head_dim, config.rms_norm_eps)
        self.k_norm = parts.norm(config.head_dim, config.rms_norm_eps)
        self.o_proj = parts.linear(query, config.hidden_size)
        self.normalised = parts.head_norms(config)
        self.turned = parts.turned(config, turns)
        self.attention = parts.attention(config, scale, windowed=windowed)

    def forward(self, x: Tensor, cache: Any, layer: int) -> Tensor:
        qkv = op.concat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=1)
        qkv = self.turned(self.normalised(qkv, self.q_norm, self.k_norm), cache)
        return self.o_proj(self.attention(qkv, cache, layer))


class Language(nn.Module):
    """Beside it a model that also sees would have what it sees with."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    @property
    def embed_tokens(self) -> Any:
        return self.model.embed_tokens

    @property
    def norm(self) -> Any:
        return self.model.norm

    def forward(self, x: Tensor, cache: Any) -> Tensor:
        return self.model(x, cache)


def gemma3(values: Mapping[str, object], parts: Parts, where: str) -> CausalLM:
    config = alternating(values, where)
    near = replace(config, position_embedding_base=number(values, "rope_local_base_freq", 10000.0))
    turns = {True: replace(near, rope_scaling=None).rotary(where), False: config.rotary(where)}
    scale = score_scale(values, config)
    layers = [
        Layer(config, parts, Attention(config, parts, scale, turns[windowed], windowed))
        for windowed in windowed_layers(values, config, every=6)
    ]
    body = Language(Model(config, parts, layers))
    return CausalLM(config, parts, body, None, name="language_model")
