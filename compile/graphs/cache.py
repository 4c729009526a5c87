"""TVM's paged KV cache with our own kernels in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import ir, relax
from tvm.relax.frontend.nn.llm import kv_cache as stock
from tvm.relax.frontend.nn.llm._page_kernels import _kv_cache_transpose_append_mla

from edge_router.compile.kernels.base import Kernels
from edge_router.compile.kernels.shapes import Heads
from edge_router.compile.rotary import Rotary

_MHA = 0  # the runtime's kind of attention
_NO_WINDOW = 1024  # of layers with a sliding window, of which there are none


def paged_cache(
    kernels: Kernels,
    heads: Heads,
    layers: int,
    turns: Rotary | None,
    sizes: Sequence[Any],
) -> Any:
    """`sizes` are the five arguments of `create_tir_paged_kv_cache`, in MLC's order.

    Without `turns` queries and keys come turned.
    The kernels' order is that of the runtime's constructor. What is an empty tuple is not offered: attention
    in a sliding window, and over a tree of guesses.
    """
    builder = relax.BlockBuilder.current()

    def added(name: str, function: Any) -> Any:
        return builder.add_func(function, name)

    def ours(name: str, function: Any) -> Any:
        return relax.Tuple([ir.StringImm("tirx"), added(name, function)])

    mode = stock.RopeMode.NORMAL if turns else stock.RopeMode.NONE
    nothing = relax.Tuple([])
    number = relax.prim_value
    call = relax.call_pure_packed(
        "vm.builtin.paged_attention_kv_cache_create",
        relax.ShapeExpr([*sizes, _NO_WINDOW]),
        relax.ShapeExpr([0, layers]),  # the layers of each pipeline stage
        number(heads.query),
        number(heads.key_value),
        number(heads.size),
        number(heads.size),
        relax.ShapeExpr([_MHA] * layers),
        number(False),  # no disaggregation
        number(int(mode)),
        number(1),  # rotary scale and base: those of our kernel are in its frequencies
        number(10000.0),
        number(0),  # no factors of "longrope"
        relax.op.zeros((), heads.dtype),
        added("kv_cache_append", kernels.append(heads)),
        added("kv_cache_append_mla", _kv_cache_transpose_append_mla(heads.size, heads.dtype)),
        ours("attention_fresh", kernels.fresh(heads)),
        ours("attention_cached", kernels.cached(heads)),
        ours("attention_decode", kernels.decode(heads)),
        nothing,  # cached, in a sliding window
        nothing,  # decode, in a sliding window
        nothing,  # fresh, over a tree
        nothing,  # cached, over a tree
        nothing,  # latent attention
        relax.Tuple([added("merge_attention", kernels.merge(heads))]),
        added("split_rotary", kernels.rotary(heads, *_numbers(turns))),
        added("kv_cache_copy_page", kernels.copy_page(heads)),
        added(
            "kv_cache_debug_get_kv",
            stock._kv_cache_debug_get_kv(layers, heads.key_value, heads.size, heads.dtype),
        ),
        added("kv_cache_compact", kernels.compact(heads)),
        ty_args=relax.AnyType(),
    )
    return stock.PagedKVCache(_expr=call, _name="paged_kv_cache")


def _numbers(turns: Rotary | None) -> tuple[list[float], float]:
    return ([0.0], 1.0) if turns is None else (turns.frequencies.tolist(), turns.amplitude)
