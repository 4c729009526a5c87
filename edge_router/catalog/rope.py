"""What a scaling of rotary embedding amounts to, as far as files have to be told apart by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast


def llama3_factors(scaling: Mapping[str, object], frequencies: Sequence[float]) -> list[float]:
    """By how much each frequency (radians per position) is slowed, as transformers has it.

    Raises `KeyError`, `TypeError` and `ArithmeticError` for a scaling with gaps.
    """
    length, factor, low, high = (
        cast(float, scaling[key])
        for key in ("original_max_position_embeddings", "factor", "low_freq_factor", "high_freq_factor")
    )
    shares = (length * frequency / (2 * math.pi) for frequency in frequencies)
    smooth = (min(max((turns - low) / (high - low), 0.0), 1.0) for turns in shares)
    return [1 / ((1 - part) / factor + part) for part in smooth]
