"""What a target must bring: every function that a model's layers, its KV cache and MLC's engine call.

Each method returns a PrimFunc whose arguments are those of the function of the same name beside this file;
`edge_router.compile.gpu` has the same for GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from edge_router.compile.kernels.attention_paged import Sight
    from edge_router.compile.kernels.shapes import (
        Convolved,
        GatedNorm,
        Grouped,
        Heads,
        Linear,
        Recurrence,
        Routing,
    )
    from edge_router.compile.kernels.stored import Stored


class Kernels(Protocol):
    """`rows` None: known only when the kernel is called."""

    # ---- layers ----

    def linear(self, shape: Linear) -> Any: ...

    def lookup(self, vocabulary: int, columns: int, y_dtype: str, stored: Stored) -> Any: ...

    def rms_norm(
        self, columns: int, epsilon: float, rows: int | None, x_dtype: str, weight_dtype: str, y_dtype: str
    ) -> Any: ...

    def head_norm(self, heads: Heads, epsilon: float, rows: int | None) -> Any: ...

    def turn_together(self, heads: Heads, frequencies: Sequence[float], amplitude: float) -> Any: ...

    # ---- the KV cache ----

    def append(self, heads: Heads) -> Any: ...

    def fresh(self, heads: Heads) -> Any: ...

    def cached(self, heads: Heads) -> Any: ...

    def decode(self, heads: Heads) -> Any: ...

    def merge(self, heads: Heads) -> Any: ...

    def rotary(self, heads: Heads, frequencies: Sequence[float], amplitude: float) -> Any: ...

    def copy_page(self, heads: Heads) -> Any: ...

    def compact(self, heads: Heads) -> Any: ...

    # ---- logits ----

    def add_bias(self) -> Any: ...

    def penalize(self) -> Any: ...

    def mask(self) -> Any: ...

    def softmax(self, vocabulary: int, active: int) -> Any: ...


@runtime_checkable
class ExpertKernels(Kernels, Protocol):
    """What a target may bring beside them, for models whose MLP is made of many."""

    def route(self, routing: Routing, rows: int | None) -> Any: ...

    def grouped(self, shape: Grouped) -> Any: ...


@runtime_checkable
class PagedKernels(Kernels, Protocol):
    """What a target may bring beside them, so that what lies before a sliding window is forgotten."""

    def paged_prefill(self, shape: Sight) -> Any: ...

    def paged_decode(self, shape: Sight) -> Any: ...

    def scaled_sum(self, columns: int, by: float) -> Any: ...


@runtime_checkable
class StateKernels(Kernels, Protocol):
    """What a target may bring beside them, so that layers may keep states in the place of keys and values."""

    def short_convolution(self, channels: int, taps: int, weight_dtype: str) -> Any: ...

    def convolve(self, shape: Convolved) -> Any: ...

    def recurrence(self, shape: Recurrence) -> Any: ...

    def gated_norm(self, shape: GatedNorm) -> Any: ...

    def gated_head_norm(self, heads: Heads, epsilon: float) -> Any: ...

    def gated_output(self, heads: Heads) -> Any: ...
