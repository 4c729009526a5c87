"""What stands in attention's place, in plain numpy: a function for each `architectures.mixers.Mixer`.

Each is given the config, what comes in multiplied with the mixer's input matrices [tokens, their rows], its
other weights by name and its states by name, which it changes: all tokens of one text so far are in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np

from edge_router.compile.readers.base import Floats

Weights = Callable[[str], Floats]
Mix = Callable[[Mapping[str, object], Floats, Weights, dict[str, Floats]], Floats]


def short_convolution(
    config: Mapping[str, object], projected: Floats, weight: Weights, states: dict[str, Floats]
) -> Floats:
    """LFM2's: C * convolution(B * x)."""
    before, after, x = np.split(projected, 3, axis=-1)
    return cast(Floats, after * convolved(before * x, weight("conv.weight"), states))


def convolved(inputs: Floats, taps: Floats, states: dict[str, Floats]) -> Floats:
    """inputs [tokens, channels], each convolved with its own of taps [channels, taps], now's the last."""
    count = taps.shape[1]
    whole = np.concatenate([states["tail"], inputs])
    states["tail"] = whole[len(whole) - (count - 1) :]
    found = np.zeros_like(inputs)
    for tap in range(count):
        found += whole[tap : tap + len(inputs)] * taps[:, tap]
    return found
