"""The states of layers that do not attend, in memory of ours beside the pages of those that do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_router.architectures.mixers import STATE_BYTES, spare_states, state_slots
from edge_router.engines.local.scheduling.states import NOTHING, StateTable
from edge_router.engines.tvm.buffers import aligned

_BEFORE = -1  # in the place of a slot: the state that the row before left


class StateMemory:
    """`kept` is what the library's metadata says under "pages", `key_numbers` a whole text's keys and values.

    For at most `texts` that go on at the same time, and `rows` of one call.
    """

    def __init__(self, ffi: Any, kept: Mapping[str, Any], texts: int, key_numbers: int, rows: int) -> None:
        self._from_dlpack = ffi.from_dlpack
        numbers = _numbers(kept)
        self.spare = spare_states(numbers, key_numbers)
        slots = state_slots(texts, numbers, key_numbers)
        self.table = StateTable(slots)
        self._memory = [
            aligned((state["layers"], slots, *state["shape"]), np.float32) for state in kept["states"]
        ]
        self._shared = [self._from_dlpack(array) for array in self._memory]
        self._sources, self._saves = (aligned((rows,), np.int32) for _ in range(2))
        self._rows = 0

    @staticmethod
    def bytes(kept: Mapping[str, Any], texts: int, key_numbers: int) -> int:
        """Of all of them."""
        numbers = _numbers(kept)
        return state_slots(texts, numbers, key_numbers) * numbers * STATE_BYTES

    def grow(self, text: int, count: int, *, each: bool = False) -> None:
        """The next rows of a call are those of `text`."""
        if not self._rows:
            self.table.settle()
        source, saves = self.table.grow(text, count, each=each)
        first, self._rows = self._rows, self._rows + count
        self._sources[first : self._rows] = _BEFORE
        self._sources[first] = source
        self._saves[first : self._rows] = NOTHING
        for row, slot in saves.items():
            self._saves[first + row] = slot

    def arguments(self) -> Sequence[Any]:
        """Of a call with all rows that have grown since the last one."""
        count, self._rows = self._rows, 0
        places = (self._sources[:count], self._saves[:count])
        return [*(self._from_dlpack(array) for array in places), *self._shared]

    @property
    def saved_form(self) -> list[list[int]]:
        """Of each array all that one text has of it."""
        return [[len(array), *array.shape[2:]] for array in self._memory]

    @property
    def saved_bytes(self) -> int:
        return sum(array[:, 0].nbytes for array in self._memory)

    def save(self, text: int, length: int, write: Callable[[memoryview], None]) -> None:
        self._each(self.table.slot(text, length), write)

    def restore(self, text: int, length: int, read: Callable[[memoryview], None]) -> None:
        self._each(self.table.restore(text, length), read)

    def _each(self, slot: int, do: Callable[[memoryview], None]) -> None:
        for array in self._memory:
            for layer in array:
                do(memoryview(layer[slot]))

    def clear(self) -> None:
        self.table.clear()
        self._rows = 0


def _numbers(kept: Mapping[str, Any]) -> int:
    """Of one text's states, in all layers."""
    return sum(int(state["layers"]) * math.prod(state["shape"]) for state in kept["states"])
