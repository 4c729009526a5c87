"""Phi 3, 3.5 and 4 mini: Llama's layers under names of their own, turned by "longrope", perhaps in part."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from edge_router.compile.architectures.causal import CausalLM
from edge_router.compile.architectures.config import DecoderConfig, stated_window
from edge_router.compile.architectures.llama import FeedForward
from edge_router.compile.architectures.parts import Parts


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts) -> None:
        super().__init__()
        width = config.num_attention_heads * config.head_dim
        keys_and_values = 2 * config.num_key_value_heads * config.head_dim
        self.qkv_proj = parts.linear(config.hidden_size, width + keys_and_values, stored=True)
        self.out_proj = parts.linear(width, config.hidden_size)
        self.attention = parts.attention(config, config.head_dim**-0.5, windowed=config.slides)

    def forward(self, x: Tensor, residual: Tensor, cache: Any, layer: int) -> Tensor:
        return self.out_proj(self.attention(self.qkv_proj(x), cache, layer), residual)


class Layer(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts) -> None:
        super().__init__()
        self.ln = parts.norm(config.hidden_size, config.rms_norm_eps)
        self.mixer = Attention(config, parts)
        self.post_attention_layernorm = parts.norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config, parts)

    def forward(self, x: Tensor, cache: Any, layer: int) -> Tensor:
        x = self.mixer(self.ln(x), x, cache, layer)
        return self.mlp(self.post_attention_layernorm(x), x)


class Model(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts) -> None:
        super().__init__()
        self.embd = parts.embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList([Layer(config, parts) for _ in range(config.num_hidden_layers)])
        self.norm = parts.norm(config.hidden_size, config.rms_norm_eps)

    @property
    def embed_tokens(self) -> Any:
        return self.embd

    def forward(self, x: Tensor, cache: Any) -> Tensor:
        for number, layer in enumerate(self.h):
            x = layer(x, cache, number)
        return x


def phi3(values: Mapping[str, object], parts: Parts, where: str) -> CausalLM:
    config = DecoderConfig.read({**values, "sliding_window_size": stated_window(values)}, where)
    return CausalLM(config, parts, Model(config, parts), config.rotary(where), name="transformer")
