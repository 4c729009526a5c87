"""What some layers have in the place of attention, and what those keep: states, as large for any text.

A `Mixer` says it in data. What computes it lies elsewhere, in a graph for the compiler and in numpy, and is
named here by "module:name".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from edge_router.errors import InvalidModel
from edge_router.records import dataclass

STATE_BYTES = 4  # of a number: states add up over whole texts, so they are float32 in every format
LEAST_SPARE, MOST_SPARE = 4, 16
_SHARE = 8  # one in so many of the numbers that are a text's keys and values


@dataclass(frozen=True, slots=True)
class State:
    """An array that a layer keeps of all tokens so far: the tail of a convolution, a recurrent state."""

    name: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Keys:
    """The cache of a layer that attends: keys and values of the last `window` tokens, or of all for 0."""

    window: int = 0


@dataclass(frozen=True, slots=True)
class States:
    """The cache of a layer with a mixer."""

    arrays: tuple[State, ...]


LayerCache: TypeAlias = Keys | States


@dataclass(frozen=True, slots=True)
class MixerSizes:
    """One layer's tensors, by their names within the mixer.

    `inputs`: the rows of each matrix that what comes in is multiplied with, in the order in which the results
    follow one another; `width`: the columns of the one that what comes out is multiplied with; `vectors`:
    what is never quantized, with the last word of its name.
    """

    inputs: Mapping[str, int]
    width: int
    vectors: Mapping[str, tuple[int, ...]]
    states: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Mixer:
    """`kind` is its word in `layer_types`, `name` what its tensors' names begin with in a layer.

    `sizes` is given a config and what to call it in errors; it raises `InvalidModel`. `graph` is a class that
    is made of (the design, the parts, a layer's number, `self`), see `compile.graphs.mixing.Mixing`;
    `reference` a function of (config, projected inputs, weights by name, states by name) that changes the
    states.
    """

    kind: str
    name: str
    sizes: Callable[[Mapping[str, object], str], MixerSizes]
    graph: str
    reference: str
    inputs: str = "in_proj"  # ours, for all of them fused
    out: str = "out_proj"


def count(config: Mapping[str, object], key: str, where: str, default: int | None = None) -> int:
    """A positive whole number of a config. Raises `InvalidModel`."""
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidModel(where, f"{key} is {value!r}, not a positive whole number")
    return value


def spare_states(state_numbers: int, key_numbers: int) -> int:
    """How many states are there beside each text's own, twice: for guesses, and to come back to.

    `state_numbers` are all layers', `key_numbers` those of a whole text's keys and values.
    """
    return max(LEAST_SPARE, min(MOST_SPARE, key_numbers // _SHARE // max(1, state_numbers)))


def state_slots(texts: int, state_numbers: int, key_numbers: int) -> int:
    """States that are planned and allocated, each of all layers, for so many texts at the same time."""
    return texts + 2 * spare_states(state_numbers, key_numbers)
