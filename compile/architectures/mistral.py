"""Mistral: Llama's layers. Its sliding window, where it has one, must not be shorter than the context."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.compile.architectures.causal import CausalLM
from edge_router.compile.architectures.config import DecoderConfig
from edge_router.compile.architectures.llama import Model
from edge_router.compile.architectures.parts import Parts
from edge_router.compile.layouts import check_window


def mistral(values: Mapping[str, object], parts: Parts, where: str) -> CausalLM:
    config = DecoderConfig.read(values, where)
    check_window(values, config.context_window_size, where)
    return CausalLM(config, parts, Model(config, parts), config.rotary(where))
