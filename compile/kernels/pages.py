"""The KV cache's own kernels beside attention: new tokens into pages, two partial answers into one."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edge_router.compile.kernels.ir import bind, const, kernel, load, parallel, serial, splat, store, when
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.shapes import PAGE, Heads
from edge_router.compile.kernels.vectors import exp2, from_float, log2, to_float


def append(isa: Isa, heads: Heads) -> Any:
    """(pages, keys [tokens, heads, channels], values, places [tokens]): place -1 is skipped."""
    with kernel("append_to_pages") as k:
        tokens, count = k.size(), k.size()
        pages = k.tensor("pages", (count, 2, heads.key_value, PAGE, heads.size), heads.dtype, offset=k.size())
        shape = (tokens, heads.key_value, heads.size)
        fresh = k.tensor("keys", shape, heads.dtype), k.tensor("values", shape, heads.dtype)
        places = k.tensor("places", (tokens,), "int32", offset=k.size(32))
        with serial(tokens) as token:
            place = bind(load(places, token))
            with when(place >= 0), serial(heads.key_value) as head:
                for which, source in enumerate(fresh):
                    for i in range(0, heads.size, isa.lanes):
                        value = load(source, token, head, i, lanes=isa.lanes)
                        store(pages, value, place // PAGE, which, head, place % PAGE, i)
    return k.function


def merge(isa: Isa, heads: Heads) -> Any:
    """(output, lse, other output, other lse): each pair becomes the attention over both sets of keys."""
    with kernel("merge_attention") as k:
        tokens = k.size(32)
        shape = (tokens, heads.query, heads.size)
        output, lse = k.tensor("output", shape, heads.dtype), k.tensor("lse", shape[:2])
        other, other_lse = k.tensor("other", shape, heads.dtype), k.tensor("other_lse", shape[:2])
        with parallel(tokens) as token, serial(heads.query) as head:
            a, b = bind(load(lse, token, head)), bind(load(other_lse, token, head))
            peak = bind(tirx.max(a, b))
            shares = [bind(exp2(v - peak)) for v in (a, b)]
            both = bind(shares[0] + shares[1])
            factors = [bind(splat(share / both, isa.lanes)) for share in shares]
            for i in range(0, heads.size, isa.lanes):
                parts = [to_float(isa, load(v, token, head, i, lanes=isa.lanes)) for v in (output, other)]
                value = parts[0] * factors[0] + parts[1] * factors[1]
                store(output, from_float(isa, value, heads.dtype), token, head, i)
            store(lse, peak + log2(tirx.max(both, const(1.0, "float32"))), token, head)
    return k.function
