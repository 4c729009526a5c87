"""Llama 2 and 3, SmolLM2, TinyLlama, DeepSeek Coder, Gorilla and whatever shares their layout."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from edge_router.compile.architectures.causal import CausalLM
from edge_router.compile.architectures.config import DecoderConfig
from edge_router.compile.architectures.parts import Parts


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts) -> None:
        super().__init__()
        width = config.num_attention_heads * config.head_dim
        keys_and_values = 2 * config.num_key_value_heads * config.head_dim
        self.qkv_proj = parts.linear(config.hidden_size, width + keys_and_values, stored=True)
        self.o_proj = parts.linear(width, config.hidden_size)
        self.attention = parts.attention(config, config.head_dim**-0.5, windowed=config.slides)

    def forward(self, x: Tensor, residual: Tensor, cache: Any, layer: int) -> Tensor:
        return self.o_proj(self.attention(self.qkv_proj(x), cache, layer), residual)


# what an architecture may have in place of Llama's
MakeAttention = Callable[[DecoderConfig, Parts], Any]


class FeedForward(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts) -> None:
        super().__init__()
        self.gate_up_proj = parts.gated(config.hidden_size, config.intermediate_size)
        self.down_proj = parts.linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.down_proj(self.gate_up_proj(x), residual)


class Layer(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts, attention: MakeAttention = Attention) -> None:
        super().__init__()
        self.self_attn = attention(config, parts)
        self.mlp = FeedForward(config, parts)
        self.input_layernorm = parts.norm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = parts.norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cache: Any, layer: int) -> Tensor:
        x = self.self_attn(self.input_layernorm(x), x, cache, layer)
        return self.mlp(self.post_attention_layernorm(x), x)


class Model(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts, attention: MakeAttention = Attention) -> None:
        super().__init__()
        self.embed_tokens = parts.embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            [Layer(config, parts, attention) for _ in range(config.num_hidden_layers)]
        )
        self.norm = parts.norm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cache: Any) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x, cache, number)
        return x


def llama(values: Mapping[str, object], parts: Parts, where: str) -> CausalLM:
    config = DecoderConfig.read(values, where)
    return CausalLM(config, parts, Model(config, parts), config.rotary(where))
