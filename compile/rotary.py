"""Rotary embedding's frequencies, as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt


def frequencies(config: Mapping[str, object], head_dim: int) -> npt.NDArray[np.float32]:
    """Radians per position of each pair of channels, Llama 3's scaling included."""
    theta = cast(float, config.get("rope_theta", 10000.0))
    plain = theta ** -(np.arange(0, head_dim, 2) / head_dim)
    scaling = cast("Mapping[str, object] | None", config.get("rope_scaling"))
    if scaling is None:
        return cast("npt.NDArray[np.float32]", plain.astype(np.float32))
    factors = llama3_factors(scaling, plain)
    return cast("npt.NDArray[np.float32]", (plain / factors).astype(np.float32))


def llama3_factors(scaling: Mapping[str, object], plain: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By how much each frequency is slowed; transformers' `_compute_llama3_parameters`."""
    length, factor, low, high = (
        cast(float, scaling[key])
        for key in ("original_max_position_embeddings", "factor", "low_freq_factor", "high_freq_factor")
    )
    turns = length * plain / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)
