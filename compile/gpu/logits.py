"""What MLC's engine does to logits [sequences, vocabulary] before it samples, as MLC calls it."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from edge_router.compile.gpu.threads import (
    MANY,
    Register,
    each,
    every,
    f32,
    launch,
    over_block,
    register,
    summed,
)
from edge_router.compile.kernels import logits
from edge_router.compile.kernels.ir import Expr, kernel, load, store, when
from edge_router.compile.kernels.logits import GREEDY, LOWEST
from edge_router.compile.kernels.vectors import LOG2_E

_THREADS = MANY


def add_bias() -> Any:
    """As on a processor, an entry a thread."""
    return logits.add_bias(each, register)


def penalize() -> Any:
    """As on a processor, an entry a thread."""
    return logits.penalize(each, register)


def mask() -> Any:
    """(logits, rows of the sequences, bit mask [rows, words of 32 tokens]): tokens with a 1 stay."""
    with kernel("apply_bitmask_inplace", public=True) as k:
        batch, vocabulary, sequences = k.size(32), k.size(32), k.size(32)
        values = k.tensor("logits", (batch, vocabulary))
        rows = k.tensor("seq_ids", (sequences,), "int32")
        words = k.tensor("bitmask", (batch, (vocabulary + 31) // 32), "int32")
        with each(sequences * vocabulary) as i:
            row, token = register(load(rows, i // vocabulary)), register(i % vocabulary)
            bit = (load(words, row, token // 32) >> (token % 32)) & 1
            with when(bit == 0):
                store(values, f32(LOWEST), row, token)
    return k.function


def softmax(vocabulary: int, active: int) -> Any:
    """(logits [sequences, 1, vocabulary], temperature [sequences], probabilities).

    Tokens from `active` on get 0. A temperature near 0 shares everything among the most probable tokens.
    """
    shape = (1, vocabulary)
    with kernel("softmax") as k:
        batch = k.size(32)
        values, temperature = k.tensor("logits", (batch, *shape)), k.tensor("temperature", (batch,))
        y = k.tensor("y", (batch, *shape))
        with launch(batch, _THREADS) as (row, thread):
            highest = Register(f32(LOWEST))
            with every(active, thread, _THREADS) as i:
                highest.set(tirx.max(highest.value, load(values, row, 0, i)))
            peak = over_block(highest.value, tirx.max, thread, _THREADS)
            heat = register(load(temperature, row))
            factor = register(f32(LOG2_E) / tirx.max(heat, f32(GREEDY)))

            def share(i: Expr) -> Expr:
                value = register(load(values, row, 0, i) - peak)
                best = tirx.Select(value >= f32(0.0), f32(1.0), f32(0.0))
                return tirx.Select(heat <= f32(GREEDY), best, tirx.exp2(value * factor))

            mine = Register(f32(0.0))
            with every(active, thread, _THREADS) as i:
                mine.add(share(i))
            inverse = register(f32(1.0) / over_block(mine.value, summed, thread, _THREADS))
            with every(vocabulary, thread, _THREADS) as i:
                value = tirx.Select(i < active, share(tirx.min(i, active - 1)) * inverse, f32(0.0))
                store(y, value, row, 0, i)
    return k.function
