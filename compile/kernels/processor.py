"""All kernels for a processor with one instruction set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm.relax.frontend.nn.llm import kv_cache as stock

from edge_router.compile.kernels import (
    attention_decode,
    attention_paged,
    attention_prefill,
    convolution,
    experts,
    linear,
    logits,
    norm,
    pages,
    recurrence,
    rotary,
)
from edge_router.compile.kernels.attention_paged import Sight
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import (
    PAGE,
    Convolved,
    GatedNorm,
    Grouped,
    Heads,
    Linear,
    Recurrence,
    Routing,
)
from edge_router.compile.kernels.stored import Stored


class Processor:
    """A `Kernels`, with those of pages and experts. Those of attention get vectors that fit into a head."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa

    def linear(self, shape: Linear) -> Any:
        return linear.linear(self.isa, shape)

    def lookup(self, vocabulary: int, columns: int, y_dtype: str, stored: Stored) -> Any:
        return linear.lookup(self.isa, vocabulary, columns, y_dtype, stored)

    def rms_norm(
        self, columns: int, epsilon: float, rows: int | None, x_dtype: str, weight_dtype: str, y_dtype: str
    ) -> Any:
        return norm.rms_norm(self.isa, columns, epsilon, rows, x_dtype, weight_dtype, y_dtype)

    def head_norm(self, heads: Heads, epsilon: float, rows: int | None) -> Any:
        return norm.head_norm(self.isa, heads, epsilon, rows)

    def turn_together(self, heads: Heads, frequencies: Sequence[float], amplitude: float) -> Any:
        return rotary.turn_together(self.isa, heads, frequencies, amplitude)

    def append(self, heads: Heads) -> Any:
        return pages.append(self._narrow(heads), heads)

    def fresh(self, heads: Heads) -> Any:
        return attention_prefill.fresh(self._narrow(heads), heads)

    def cached(self, heads: Heads) -> Any:
        return attention_prefill.cached(self._narrow(heads), heads)

    def decode(self, heads: Heads) -> Any:
        return attention_decode.decode(self._narrow(heads), heads)

    def merge(self, heads: Heads) -> Any:
        return pages.merge(self._narrow(heads), heads)

    def rotary(self, heads: Heads, frequencies: Sequence[float], amplitude: float) -> Any:
        return rotary.rotary(self._narrow(heads), heads, frequencies, amplitude)

    def paged_prefill(self, shape: Sight) -> Any:
        return attention_paged.paged_prefill(self._narrow(shape.heads), shape)

    def paged_decode(self, shape: Sight) -> Any:
        return attention_paged.paged_decode(self._narrow(shape.heads), shape)

    def scaled_sum(self, columns: int, by: float) -> Any:
        return norm.scaled_sum(self.isa, columns, by)

    def short_convolution(self, channels: int, taps: int, weight_dtype: str) -> Any:
        return convolution.short_convolution(self.isa, channels, taps, weight_dtype)

    def convolve(self, shape: Convolved) -> Any:
        return recurrence.convolve(self.isa, shape)

    def recurrence(self, shape: Recurrence) -> Any:
        return recurrence.recurrence(self.isa, shape)

    def gated_norm(self, shape: GatedNorm) -> Any:
        return recurrence.gated_norm(self.isa, shape)

    def gated_head_norm(self, heads: Heads, epsilon: float) -> Any:
        return recurrence.gated_head_norm(self.isa, heads, epsilon)

    def gated_output(self, heads: Heads) -> Any:
        return recurrence.gated_output(self.isa, heads)

    def copy_page(self, heads: Heads) -> Any:
        return stock._copy_single_page_cpu(heads.key_value, PAGE, heads.size, heads.dtype)

    def compact(self, heads: Heads) -> Any:
        return stock._compact_kv_copy_cpu(heads.key_value, heads.size, heads.dtype)

    def add_bias(self) -> Any:
        return logits.add_bias()

    def penalize(self) -> Any:
        return logits.penalize()

    def mask(self) -> Any:
        return logits.mask()

    def softmax(self, vocabulary: int, active: int) -> Any:
        return logits.softmax(self.isa, vocabulary, active)

    def route(self, routing: Routing, rows: int | None) -> Any:
        return experts.route(routing, rows)

    def grouped(self, shape: Grouped) -> Any:
        return experts.grouped(self.isa, shape)

    def _narrow(self, heads: Heads) -> Isa:
        return self.isa.narrowed(heads.size)
