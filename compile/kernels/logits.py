"""What MLC's engine does to logits [sequences, vocabulary] before it samples, under MLC's calling convention."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from tvm import tirx

from edge_router.compile.kernels.ir import (
    Buffer,
    Cell,
    Expr,
    Kernel,
    bind,
    cast,
    const,
    kernel,
    load,
    parallel,
    serial,
    splat,
    store,
    when,
    zero,
)
from edge_router.compile.kernels.isa import Isa
from edge_router.compile.kernels.vectors import LOG2_E, exp2, largest, total

GREEDY = 1e-5  # temperatures up to this choose the most probable token
LOWEST = -3.4028234663852886e38

Over: TypeAlias = Callable[[Expr], AbstractContextManager[Expr]]  # a loop, or threads
Keep: TypeAlias = Callable[[Expr], Expr]  # computes once what is used often


def _logits(k: Kernel) -> Buffer:
    return k.tensor("logits", (k.size(32), k.size(32)))


def add_bias(over: Over = serial, keep: Keep = bind) -> Any:
    """(logits, which row, token, added [entries])."""
    with kernel("apply_logit_bias_inplace", public=True) as k:
        logits, entries = _logits(k), k.size(32)
        rows, tokens = k.tensor("pos2seq_id", (entries,), "int32"), k.tensor("token_ids", (entries,), "int32")
        added = k.tensor("logit_bias", (entries,))
        with over(entries) as i:
            row, token = keep(load(rows, i)), keep(load(tokens, i))
            store(logits, load(logits, row, token) + load(added, i), row, token)
    return k.function


def penalize(over: Over = serial, keep: Keep = bind) -> Any:
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
        with over(entries) as i:
            owner, token = keep(load(owners, i)), keep(load(tokens, i))
            row = keep(load(rows, owner))
            presence, frequency, repetition = (load(penalties, owner, n) for n in range(3))
            times = cast(load(counts, i), "float32")
            value = keep(load(logits, row, token) - (presence + times * frequency))
            below = value < const(0.0, "float32")
            store(logits, tirx.Select(below, value * repetition, value / repetition), row, token)
    return k.function


def mask() -> Any:
    """(logits, rows of the sequences, bit mask [rows, words of 32 tokens]): a token stays where its bit is 1."""
    with kernel("apply_bitmask_inplace", public=True) as k:
        batch, vocabulary, sequences = k.size(32), k.size(32), k.size(32)
        logits = k.tensor("logits", (batch, vocabulary))
        rows = k.tensor("seq_ids", (sequences,), "int32")
        words = k.tensor("bitmask", (batch, (vocabulary + 31) // 32), "int32")
        with serial(sequences) as sequence:
            row = bind(load(rows, sequence))
            with serial(vocabulary) as token:
                bit = (load(words, row, token // 32) >> (token % 32)) & 1
                with when(bit == 0):
                    store(logits, const(LOWEST, "float32"), row, token)
    return k.function


def softmax(isa: Isa, vocabulary: int, active: int) -> Any:
    """(logits [sequences, 1, vocabulary], temperature [sequences], probabilities); tokens from `active` on get 0.

    A temperature near 0 shares everything among the most probable tokens.
    """
    shape = (1, vocabulary)
    with kernel("softmax") as k:
        batch = k.size()
        logits, temperature = k.tensor("logits", (batch, *shape)), k.tensor("temperature", (batch,))
        y = k.tensor("y", (batch, *shape))
        with parallel(batch) as row:
            peak, summed = Cell(const(LOWEST, "float32")), Cell(const(0.0, "float32"))
            with serial(active // isa.lanes) as i:
                peak.set(tirx.max(peak.value, largest(load(logits, row, 0, i * isa.lanes, lanes=isa.lanes))))
            for i in range(active // isa.lanes * isa.lanes, active):
                peak.set(tirx.max(peak.value, load(logits, row, 0, i)))
            heat = bind(load(temperature, row))
            greedy = heat <= const(GREEDY, "float32")
            factor = bind(const(LOG2_E, "float32") / tirx.max(heat, const(GREEDY, "float32")))

            def share(first: Expr, lanes: int) -> Expr:
                value = bind(load(logits, row, 0, first, lanes=lanes) - splat(peak.value, lanes))
                best = tirx.Select(value >= zero(lanes), const(1.0, "float32", lanes), zero(lanes))
                return bind(tirx.Select(splat(greedy, lanes), best, exp2(value * splat(factor, lanes))))

            with serial(active // isa.lanes) as i:
                value = share(i * isa.lanes, isa.lanes)
                store(y, value, row, 0, i * isa.lanes)
                summed.add(total(value))
            for i in range(active // isa.lanes * isa.lanes, active):
                value = share(i, 1)
                store(y, value, row, 0, i)
                summed.add(value)
            inverse = bind(const(1.0, "float32") / summed.value)
            with serial(active) as i:
                store(y, load(y, row, 0, i) * inverse, row, 0, i)
            with serial(vocabulary - active) as i:
                store(y, const(0.0, "float32"), row, 0, i + active)
    return k.function
