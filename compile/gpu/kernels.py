"""All kernels for a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm.relax.frontend.nn.llm import kv_cache as stock
from tvm.target import Target

from edge_router.compile.gpu import attending, linear, logits, norm, pages
from edge_router.compile.kernels.shapes import PAGE, Heads, Linear
from edge_router.compile.kernels.stored import Stored
from edge_router.records import dataclass

_SHARED = {"cuda": 48 << 10}
_SHARED_ANYWHERE = 32 << 10


@dataclass(frozen=True, slots=True)
class GpuKernels:
    """A `compile.kernels.base.Kernels`. `tensor_cores`: NVIDIA's, from sm_80 on."""

    target: Target
    kind: str
    tensor_cores: bool = False

    @property
    def _shared(self) -> int:
        """Bytes that a block may share."""
        return _SHARED.get(self.kind, _SHARED_ANYWHERE)

    def linear(self, shape: Linear) -> Any:
        return linear.linear(shape, tensor_cores=self.tensor_cores)

    def lookup(self, vocabulary: int, columns: int, y_dtype: str, stored: Stored) -> Any:
        return linear.lookup(vocabulary, columns, y_dtype, stored)

    def rms_norm(
        self, columns: int, epsilon: float, rows: int | None, x_dtype: str, weight_dtype: str, y_dtype: str
    ) -> Any:
        return norm.rms_norm(columns, epsilon, rows, x_dtype, weight_dtype, y_dtype)

    def head_norm(self, heads: Heads, epsilon: float, rows: int | None) -> Any:
        return norm.head_norm(heads, epsilon, rows)

    def turn_together(self, heads: Heads, frequencies: Sequence[float], amplitude: float) -> Any:
        return pages.turn_together(heads, frequencies, amplitude)

    def append(self, heads: Heads) -> Any:
        return pages.append(heads)

    def fresh(self, heads: Heads) -> Any:
        return attending.fresh(heads, self._shared)

    def cached(self, heads: Heads) -> Any:
        return attending.cached(heads, self._shared)

    def decode(self, heads: Heads) -> Any:
        return attending.decode(heads)

    def merge(self, heads: Heads) -> Any:
        return pages.merge(heads)

    def rotary(self, heads: Heads, frequencies: Sequence[float], amplitude: float) -> Any:
        return pages.rotary(heads, frequencies, amplitude)

    def copy_page(self, heads: Heads) -> Any:
        return stock._copy_single_page(heads.key_value, PAGE, heads.size, heads.dtype, self.target)

    def compact(self, heads: Heads) -> Any:
        return stock._compact_kv_copy(heads.key_value, heads.size, heads.dtype, self.target)

    def add_bias(self) -> Any:
        return logits.add_bias()

    def penalize(self) -> Any:
        return logits.penalize()

    def mask(self) -> Any:
        return logits.mask()

    def softmax(self, vocabulary: int, active: int) -> Any:
        return logits.softmax(vocabulary, active)
