"""A long conversation of four with a small model, by calls of a `TvmRunner`: what two devices are compared by."""

from __future__ import annotations

from typing import Any

import numpy as np

Calls = list[tuple[str, tuple[Any, ...]]]


def talk(context: int, chunk: int, vocabulary: int) -> Calls:
    """Chunks up to near the context's end, decoding, forks, four at once, tokens taken back and others said."""
    tokens = np.random.default_rng(2).integers(0, vocabulary, context).tolist()
    long = context - 64
    calls: Calls = [("add_sequence", (0,))]
    calls += [("prefill", (0, tokens[first : min(first + chunk, long)])) for first in range(0, long, chunk)]
    calls += [("decode", ([0], [token])) for token in tokens[long : long + 8]]
    calls += [("fork_sequence", (0, 1, chunk + 5)), ("prefill", (1, tokens[:19]))]
    calls += [("add_sequence", (2,)), ("prefill", (2, tokens[:1])), ("decode", ([2], tokens[1:2]))]
    calls += [("add_sequence", (3,)), ("prefill", (3, tokens[3 : 3 + chunk]))]
    calls += [("decode", ([0, 1, 2, 3], tokens[first : first + 4])) for first in (10, 20, 30)]
    calls += [("pop_tokens", (0, 5)), ("pop_tokens", (3, 2)), ("remove_sequence", (2,))]
    calls += [("decode", ([0, 3], tokens[40:42])), ("prefill", (0, tokens[50:53])), ("decode", ([0], [7]))]
    return calls
