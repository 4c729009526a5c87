"""Mistral: Llama's layers, in many versions within a sliding window."""

from __future__ import annotations

from collections.abc import Mapping

from edge_router.compile.architectures.causal import CausalLM
from edge_router.compile.architectures.config import stated_window
from edge_router.compile.architectures.llama import llama
from edge_router.compile.architectures.parts import Parts


def mistral(values: Mapping[str, object], parts: Parts, where: str) -> CausalLM:
    return llama({**values, "sliding_window_size": stated_window(values)}, parts, where)
