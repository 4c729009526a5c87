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
from edge_router.compile.kernels.ir import Buffer, Expr, Kernel, cast, kernel, load, store, when
from edge_router.compile.kernels.logits import GREEDY, LOWEST
from edge_router.compile.kernels.vectors import LOG2_E

_THREADS = MANY


def _logits(k: Kernel) -> Buffer:
    return k.tensor("logits", (k.size(32), k.size(32)))


def add_bias() -> Any:
    """(logits, which row, token, added [entries])."""
    with kernel("apply_logit_bias_inplace", public=True) as k:
        logits, entries = _logits(k), k.size(32)
        rows, tokens = k.tensor("pos2seq_id", (entries,), "int32"), k.tensor("token_ids", (entries,), "int32")
        added = k.tensor("logit_bias", (entries,))
        with each(entries) as i:
            row, token = register(load(rows, i)), register(load(tokens, i))
            store(logits, load(logits, row, token) + load(added, i), row, token)
    return k.function


def penalize() -> Any:
    """(logits, rows of the sequences, which sequence, token, its count, penalties [sequences, 3]).

    Penalties are presence, frequency and repetition.
    """
    with kernel("apply_penalty_inplace", public=True) as k:
        logits, sequences, entries = _logits(k), k.size(32), k.size(32)
        rows = k.tensor("seq_ids", (sequences,), "int32")
        owners, tokens, counts = (
            k.tensor(name, (entries,), "int32") for name in ("pos2seq_id", "token_ids", "token_cnt")
        )
        penalties = k.tensor("penalties", (sequences, 3))
        with each(entries) as i:
            owner, token = register(load(owners, i)), register(load(tokens, i))
            row = register(load(rows, owner))
            presence, frequency, repetition = (load(penalties, owner, n) for n in range(3))
            times = cast(load(counts, i), "float32")
            value = register(load(logits, row, token) - (presence + times * frequency))
            below = value < f32(0.0)
            store(logits, tirx.Select(below, value * repetition, value / repetition), row, token)
    return k.function


def mask() -> Any:
    """(logits, rows of the sequences, bit mask [rows, words of 32 tokens]): tokens with a 1 stay."""
    with kernel("apply_bitmask_inplace", public=True) as k:
        batch, vocabulary, sequences = k.size(32), k.size(32), k.size(32)
        logits = k.tensor("logits", (batch, vocabulary))
        rows = k.tensor("seq_ids", (sequences,), "int32")
        words = k.tensor("bitmask", (batch, (vocabulary + 31) // 32), "int32")
        with each(sequences * vocabulary) as i:
            row, token = register(load(rows, i // vocabulary)), register(i % vocabulary)
            bit = (load(words, row, token // 32) >> (token % 32)) & 1
            with when(bit == 0):
                store(logits, f32(LOWEST), row, token)
    return k.function


def softmax(vocabulary: int, active: int) -> Any:
    """(logits [sequences, 1, vocabulary], temperature [sequences], probabilities).

    Tokens from `active` on get 0. A temperature near 0 shares everything among the most probable tokens.
    """
    shape = (1, vocabulary)
    with kernel("softmax") as k:
        batch = k.size(32)
        logits, temperature = k.tensor("logits", (batch, *shape)), k.tensor("temperature", (batch,))
        y = k.tensor("y", (batch, *shape))
        with launch(batch, _THREADS) as (row, thread):
            highest = Register(f32(LOWEST))
            with every(active, thread, _THREADS) as i:
                highest.set(tirx.max(highest.value, load(logits, row, 0, i)))
            peak = over_block(highest.value, tirx.max, thread, _THREADS)
            heat = register(load(temperature, row))
            factor = register(f32(LOG2_E) / tirx.max(heat, f32(GREEDY)))

            def share(i: Expr) -> Expr:
                value = register(load(logits, row, 0, i) - peak)
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
