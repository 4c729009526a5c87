"""A KV cache in pages that the engine keeps account of.

Unlike the runtime's own it computes a token alike whether it comes alone or with others, and lets the engine
say which pages are kept: conversations share and fork them, and what lies before a window is forgotten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvm import te
from tvm.relax.frontend.nn import Tensor, op

from edge_router.compile.graphs.config import DecoderConfig
from edge_router.compile.kernels.attention_paged import Sight
from edge_router.compile.kernels.base import PagedKernels
from edge_router.compile.kernels.shapes import Heads
from edge_router.compile.rotary import Rotary
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.compile.graphs.mixing import StateRows
    from edge_router.compile.graphs.parts import Parts


@dataclass(frozen=True)
class _Turned:
    """Where `Parts.turned` finds the positions to turn by."""

    positions: Tensor

    def get_query_positions(self, rows: Any) -> Tensor:
        return self.positions


class PagedCache:
    """In place of the runtime's cache, for one function of the model.

    `positions` [rows], `table` [sequences, pages], `pages` and `ends` [sequences] are its arguments, see
    `kernels.attention_paged`; without `ends` every row has one of the table. Without `turns` queries and
    keys come turned. `states` are those of layers that do not attend.
    """

    def __init__(
        self, parts: Parts, config: DecoderConfig, turns: Rotary | None, *,
        positions: Tensor, table: Tensor, pages: Tensor, ends: Tensor | None, states: StateRows | None = None,
    ) -> None:  # fmt: skip
        self.states = states
        self._parts, self._one_each = parts, ends is None
        self._turn = parts.turned(config, turns)
        self._sinks = config.sinks
        self._positions = positions
        self._where = [pages, table, positions, *([] if ends is None else [ends])]
        seen_from = [positions]
        if self._sinks:
            seen_from.append(_at_most(positions, config.sliding_window_size - 1))
        self._seen_from = [_Turned(place) for place in seen_from]

    def get_query_positions(self, rows: Any) -> Tensor:
        """As of the runtime's cache, for layers that turn queries and keys themselves."""
        return self._positions

    def attend(self, qkv: Tensor, heads: Heads, scale: float, layer: int) -> Tensor:
        """qkv [rows, all heads * channels] to [rows, query heads, channels].

        Below 0 `scale` says that this layer has the heads' window.
        """
        kernels = self._parts.kernels
        assert isinstance(kernels, PagedKernels)
        rows, every = qkv.shape[0], heads.query + 2 * heads.key_value
        near = heads if scale < 0 else replace(heads, window=0)
        shape = Sight(near, self._sinks, abs(scale), self._parts.kept)
        turned = [op.reshape(self._turn(qkv, place), (rows, every, heads.size)) for place in self._seen_from]
        make = kernels.paged_decode if self._one_each else kernels.paged_prefill
        return self._parts.call(
            (make.__name__, shape),
            make.__name__,
            lambda: make(shape),
            [*turned, *self._where],
            Tensor.placeholder((rows, heads.query, heads.size), heads.dtype),
            number=layer,
        )


def _at_most(positions: Tensor, last: int) -> Tensor:
    def nearer(places: Any) -> Any:
        return te.compute(places.shape, lambda i: te.min(places[i], last), name="nearer")

    return op.tensor_expr_op(nearer, "nearer", [positions])
