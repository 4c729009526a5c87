"""Qwen 2 and 2.5, and the models distilled into them: queries, keys and values have a bias."""
# mypy: disable-error-code="misc"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor

from edge_router.compile.architectures.causal import CausalLM
from edge_router.compile.architectures.config import DecoderConfig
from edge_router.compile.architectures.llama import Model
from edge_router.compile.architectures.parts import Parts


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, parts: Parts) -> None:
        super().__init__()
        width = config.num_attention_heads * config.head_dim
        keys_and_values = 2 * config.num_key_value_heads * config.head_dim
        self.c_attn = parts.linear(config.hidden_size, width + keys_and_values, stored=True, bias=True)
        self.o_proj = parts.linear(width, config.hidden_size)
        self.attention = parts.attention(config, config.head_dim**-0.5, windowed=config.slides)

    def forward(self, x: Tensor, residual: Tensor, cache: Any, layer: int) -> Tensor:
        return self.o_proj(self.attention(self.c_attn(x), cache, layer), residual)


def qwen2(values: Mapping[str, object], parts: Parts, where: str) -> CausalLM:
    config = DecoderConfig.read(values, where)
    return CausalLM(config, parts, Model(config, parts, Attention), config.rotary(where))
