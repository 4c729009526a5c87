"""The KV cache of a model that forgets what lies before its window: pages that the engine keeps account of.

Unlike the runtime's own it lets the engine say which pages are kept, so that conversations share and fork
them, and positions stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tvm import te
from tvm.relax.frontend.nn import Tensor, op

from edge_router.compile.graphs.config import DecoderConfig
from edge_router.compile.kernels.attention_sliding import Sliding
from edge_router.compile.kernels.base import SlidingKernels
from edge_router.compile.kernels.shapes import Heads
from edge_router.compile.rotary import Rotary
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.compile.graphs.parts import Parts


@dataclass(frozen=True)
class _Turned:
    """Where `Parts.turned` finds the positions to turn by."""

    positions: Tensor

    def get_query_positions(self, rows: Any) -> Tensor:
        return self.positions


class SlidingCache:
    """In place of the runtime's cache, for one function of the model.

    `positions` [rows], `table` [sequences, pages] and `pages` are its arguments, described in
    `kernels.attention_sliding`; `one_each`: every row belongs to another sequence, else all to one.
    """

    def __init__(
        self, parts: Parts, config: DecoderConfig, turns: Rotary, *, one_each: bool,
        positions: Tensor, table: Tensor, pages: Tensor,
    ) -> None:  # fmt: skip
        self._parts, self._config, self._one_each = parts, config, one_each
        self._turn = parts.turned(config, turns)
        self._sinks = max(0, config.attention_sink_size)
        self._positions, self._table, self._pages = positions, table, pages
        seen_from = [positions]
        if self._sinks:
            seen_from.append(_at_most(positions, config.sliding_window_size - 1))
        self._seen_from = [_Turned(place) for place in seen_from]

    def attend(self, qkv: Tensor, heads: Heads, scale: float, layer: int) -> Tensor:
        """qkv [rows, all heads * channels], not turned, to [rows, query heads, channels]."""
        kernels = self._parts.kernels
        assert isinstance(kernels, SlidingKernels)
        rows, every = qkv.shape[0], heads.query + 2 * heads.key_value
        shape = Sliding(heads, self._sinks, scale)
        turned = [op.reshape(self._turn(qkv, place), (rows, every, heads.size)) for place in self._seen_from]
        make = kernels.sliding_decode if self._one_each else kernels.sliding_prefill
        return self._parts.call(
            (make.__name__, shape),
            make.__name__,
            lambda: make(shape),
            [*turned, self._pages, self._table, self._positions],
            Tensor.placeholder((rows, heads.query, heads.size), heads.dtype),
            number=layer,
        )


def _at_most(positions: Tensor, last: int) -> Tensor:
    def nearer(places: Any) -> Any:
        return te.compute(places.shape, lambda i: te.min(places[i], last), name="nearer")

    return op.tensor_expr_op(nearer, "nearer", [positions])
