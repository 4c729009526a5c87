"""The KV cache's own kernels beside attention: tokens into pages, queries and keys turned, answers merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from edge_router.compile.gpu.arithmetic import choose, sine_cosine, to, to_float
from edge_router.compile.gpu.threads import WARP, barrier, each, every, f32, launch, register, shared
from edge_router.compile.kernels.ir import Buffer, Expr, cast, kernel, load, store, when
from edge_router.compile.kernels.shapes import PAGE, Heads

_QUAD = 4  # channels that a thread copies


def append(heads: Heads) -> Any:
    """(pages, keys [tokens, heads, channels], values, places [tokens]): place -1 is skipped."""
    with kernel("append_to_pages") as k:
        tokens, count = k.size(32), k.size(32)
        pages = k.tensor("pages", (count, 2, heads.key_value, PAGE, heads.size), heads.dtype)
        shape = (tokens, heads.key_value, heads.size)
        fresh = k.tensor("keys", shape, heads.dtype), k.tensor("values", shape, heads.dtype)
        places = k.tensor("places", (tokens,), "int32", offset=k.size(32))
        quads = heads.size // _QUAD
        with each(tokens * (heads.key_value * quads)) as i:
            token, head = register(i // (heads.key_value * quads)), register(i // quads % heads.key_value)
            quad, place = register(i % quads), register(load(places, token))
            with when(place >= 0):
                for which, source in enumerate(fresh):
                    value = load(source, token, head, quad * _QUAD, lanes=_QUAD)
                    store(pages, value, place // PAGE, which, head, place % PAGE, quad * _QUAD)
    return k.function


def merge(heads: Heads) -> Any:
    """(output, lse, other output, other lse): each pair becomes the attention over both sets of keys."""
    with kernel("merge_attention") as k:
        tokens = k.size(32)
        shape = (tokens, heads.query, heads.size)
        output, lse = k.tensor("output", shape, heads.dtype), k.tensor("lse", shape[:2])
        other, other_lse = k.tensor("other", shape, heads.dtype), k.tensor("other_lse", shape[:2])
        with launch((tokens, heads.query), WARP) as (token, head, thread):
            a, b = register(load(lse, token, head)), register(load(other_lse, token, head))
            peak = register(tirx.max(a, b))
            shares = [register(tirx.exp2(v - peak)) for v in (a, b)]
            both = register(shares[0] + shares[1])
            barrier()  # everybody has read what the first thread is about to overwrite
            with every(heads.size, thread, WARP) as channel:
                parts = [to_float(load(v, token, head, channel)) for v in (output, other)]
                value = (parts[0] * shares[0] + parts[1] * shares[1]) / both
                store(output, to(value, heads.dtype), token, head, channel)
            with when(thread == 0):
                store(lse, peak + tirx.log2(both), token, head)
    return k.function


def rotary(heads: Heads, frequencies: Sequence[float], amplitude: float) -> Any:
    """(qkv [tokens, all heads, channels], positions, q, k, v, apply int64).

    `frequencies` are the radians per position of channel pairs (i, i + their number); what is left of a head
    is not turned. What is turned is multiplied by `amplitude`. With `apply` 0 nothing is.
    """
    with kernel("split_rotary") as k:
        tokens = k.size(32)
        qkv = k.tensor("qkv", (tokens, _all(heads), heads.size), heads.dtype)
        positions = k.tensor("positions", (tokens,), "int32", offset=k.size(32))
        q, keys, values = (
            k.tensor(name, (tokens, count, heads.size), heads.dtype)
            for name, count in (("q", heads.query), ("k", heads.key_value), ("v", heads.key_value))
        )
        apply = k.scalar("apply", "int64")

        def write(token: Expr, head: Expr, channel: Expr, value: Expr) -> None:
            first_key, first_value = heads.query, heads.query + heads.key_value
            with when(head < first_key):
                store(q, value, token, head, channel)
            with when(tirx.all(head >= first_key, head < first_value)):
                store(keys, value, token, head - first_key, channel)
            with when(head >= first_value):
                store(values, value, token, head - first_value, channel)

        def read(token: Expr, head: Expr, channel: Expr) -> Expr:
            return load(qkv, token, head, channel)

        _turn(heads, frequencies, amplitude, tokens, positions, apply > 0, read, write)
    return k.function


def turn_together(heads: Heads, frequencies: Sequence[float], amplitude: float) -> Any:
    """(qkv [tokens, all heads * channels], positions, y): as `rotary`, but not taken apart."""
    with kernel("turn_together") as k:
        tokens = k.size(32)
        shape = (tokens, _all(heads) * heads.size)
        qkv = k.tensor("qkv", shape, heads.dtype)
        positions = k.tensor("positions", (tokens,), "int32", offset=k.size(32))
        y = k.tensor("y", shape, heads.dtype)

        def read(token: Expr, head: Expr, channel: Expr) -> Expr:
            return load(qkv, token, head * heads.size + channel)

        def write(token: Expr, head: Expr, channel: Expr, value: Expr) -> None:
            store(y, value, token, head * heads.size + channel)

        _turn(heads, frequencies, amplitude, tokens, positions, tirx.const(True, "bool"), read, write)
    return k.function


def _all(heads: Heads) -> int:
    return heads.query + 2 * heads.key_value


def _turn(
    heads: Heads, frequencies: Sequence[float], amplitude: float, tokens: Expr, positions: Buffer,
    wanted: Expr, read: Callable[..., Expr], write: Callable[..., None],
) -> None:  # fmt: skip
    """A block for each head of each token; its sines and cosines are made once and shared."""
    half, threads = len(frequencies), min(4 * WARP, -(-heads.size // WARP) * WARP)
    with launch((_all(heads), tokens), threads) as (head, token, thread):
        sines, cosines = shared((half,)), shared((half,))
        turned = register(cast(tirx.all(wanted, head < heads.query + heads.key_value), "int32"))
        position = register(cast(load(positions, token), "float32"))
        with every(half, thread, threads) as i:
            sine, cosine = sine_cosine(register(position * choose(frequencies, i)))
            store(sines, tirx.Select(turned > 0, sine * f32(amplitude), f32(0.0)), i)
            store(cosines, tirx.Select(turned > 0, cosine * f32(amplitude), f32(1.0)), i)
        barrier()
        with every(heads.size, thread, threads) as channel:
            value = register(to_float(read(token, head, channel)))
            low = register(cast(channel < half, "int32"))
            pair = register(tirx.Select(low > 0, channel, channel - half))
            inside = pair < half
            other = register(tirx.min(tirx.Select(low > 0, channel + half, pair), heads.size - 1))
            partner = to_float(read(token, head, tirx.max(other, 0)))
            place = register(tirx.min(pair, half - 1))
            sine = register(tirx.Select(low > 0, -load(sines, place), load(sines, place)))
            result = tirx.Select(inside, value * load(cosines, place) + partner * sine, value)
            write(token, head, channel, to(result, heads.dtype))
