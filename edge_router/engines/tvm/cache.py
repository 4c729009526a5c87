"""The two KV caches of engine tvm: pages of ours on a processor, and the runtime's own on a GPU.

Both are made, used and dropped by one thread. What they raise is TVM's, or `KeyError`, `ValueError` and
`MemoryError` of `PageTable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.architectures.key_values import PageForm
from edge_router.engines.local.scheduling.pages import PageTable
from edge_router.engines.tvm.buffers import aligned
from edge_router.engines.tvm.device import Device
from edge_router.engines.tvm.states import StateMemory
from edge_router.records import dataclass

PAGE_SIZE = 16  # tokens; what MLC's engine uses, too


@dataclass(frozen=True, slots=True)
class Sizes:
    """In tokens: of a sequence, and of one prefill call; how many sequences decode, and are read, at once."""

    context: int
    chunk: int
    sequences: int
    together: int = 1

    @property
    def pages(self) -> int:
        """Of a whole sequence."""
        return -(-self.context // PAGE_SIZE)


class RuntimeCache:
    """TVM's own: everything stays. `machine` is the library's, `parameters` its weights."""

    functions = ("embed", "batch_prefill", "decode", "batch_decode", "create_tir_paged_kv_cache")

    def __init__(self, ffi: Any, machine: Any, parameters: Any, sizes: Sizes, device: Device) -> None:
        self._shape, self._device, self._parameters = ffi.Shape, device, parameters
        self.together = sizes.together
        most, tokens = max(sizes.sequences, sizes.together), sizes.pages * sizes.sequences * PAGE_SIZE
        numbers = (most, tokens, sizes.chunk, PAGE_SIZE, 0)
        self._embed, self._prefill, self._decode, self._batch_decode, create = (
            machine[name] for name in self.functions
        )
        self._state = create(*(self._shape((number,)) for number in numbers))
        function = ffi.get_global_func
        self._add, self._remove, self._fork, self._pop, self._begin, self._end, self._clear = (
            function(f"vm.builtin.kv_state_{name}")
            for name in (
                *("add_sequence", "remove_sequence", "fork_sequence", "popn"),
                *("begin_forward", "end_forward", "clear"),
            )
        )
        self._free_pages = function("vm.builtin.attention_kv_cache_get_num_available_pages")
        self._reshape = function("vm.builtin.reshape")
        self._ids = aligned((max(sizes.chunk, sizes.sequences),), np.int32)
        self._ends = aligned((most,), np.int32)
        self._ids_there, self._ends_there = (
            device.empty(array.shape, "int32") for array in (self._ids, self._ends)
        )

    @property
    def free_tokens(self) -> int:
        return int(self._free_pages(self._state)) * PAGE_SIZE

    def add(self, sequence: int) -> None:
        self._add(self._state, sequence)

    def fork(self, parent: int, child: int, position: int) -> None:
        self._fork(self._state, parent, child, position)

    def pop(self, sequence: int, count: int) -> None:
        self._pop(self._state, sequence, count)

    def remove(self, sequence: int) -> None:
        self._remove(self._state, sequence)

    def clear(self) -> None:
        self._clear(self._state)

    def holds(self, sequence: int, position: int) -> bool:
        return True

    def reach(self, sequence: int, position: int) -> int:
        return position

    def new_pages(self, sequence: int, length: int, count: int) -> int:
        return -(-(length + count) // PAGE_SIZE) - -(-length // PAGE_SIZE)

    def prefill(self, sequence: int, tokens: Sequence[int]) -> Any:
        return self.prefill_many([sequence], [tokens])

    def prefill_many(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Any:
        """One function for one and for many: each has buffers of its own, which stay."""
        lengths = [len(more) for more in tokens]
        ends = self._ends[: len(lengths)]
        ends[:] = np.cumsum(lengths) - 1
        embedded = self._embedded(1, list(chain.from_iterable(tokens)))
        return self._run(
            self._prefill, sequences, lengths, embedded, self._device.put(ends, self._ends_there)
        )

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> Any:
        run = self._decode if len(sequences) == 1 else self._batch_decode
        return self._run(run, sequences, [1] * len(sequences), self._embedded(len(sequences), tokens))

    def _embedded(self, rows: int, tokens: Sequence[int]) -> Any:
        ids = self._ids[: len(tokens)]
        ids[:] = tokens
        found = self._embed(self._device.put(ids, self._ids_there), self._parameters)
        return self._reshape(found, self._shape((rows, len(tokens) // rows, found.shape[-1])))

    def _run(self, function: Any, sequences: Sequence[int], lengths: Sequence[int], *given: Any) -> Any:
        self._begin(self._state, self._shape(sequences), self._shape(lengths))
        logits = function(*given, self._state, self._parameters)[0]
        self._end(self._state)
        return logits


class PagedCache:
    """Of each sequence the first `sinks` tokens stay, and as many as its next tokens can look back at.

    `kept` is what the library's metadata says under "pages": without a window everything stays. `heads` is
    what it says under "kv_cache". Layers that do not attend keep `states`.
    """

    functions = ("paged_prefill", "paged_decode", "paged_batch_decode")

    def __init__(
        self, ffi: Any, machine: Any, parameters: Any, sizes: Sizes, kept: Mapping[str, Any],
        heads: Mapping[str, int],
    ) -> None:  # fmt: skip
        self._from_dlpack, self._parameters = ffi.from_dlpack, parameters
        self._sinks, self._near = int(kept["sinks"]), int(kept["window"]) - int(kept["sinks"])
        self._forgets, self.together = int(kept["window"]) > 0, sizes.together
        self._prefill, self._decode, self._batch_decode = (machine[name] for name in self.functions)
        self._most = self.pages_each(sizes, kept)
        layers, key_value, size = self.shape(kept, heads)
        form = PageForm(str(kept["dtype"]), key_value, size)
        self._memory = aligned(form.shape(layers, self._most * sizes.sequences), np.dtype(form.dtype))
        # Not a method of this: memory goes with the last that holds it, and waits for no search for circles.
        self._pages = PageTable(self._most * sizes.sequences, partial(_copy_page, self._memory))
        self._shared = self._from_dlpack(self._memory)
        rows = max(sizes.sequences, sizes.together)
        self._table = aligned((rows, sizes.pages), np.int32)
        self._shown: list[int | None] = [None] * rows  # whose pages lie in the table's rows,
        self._known = [0] * rows  # and how many of them are as they were then
        self._ids, self._positions = (aligned((max(sizes.chunk, rows),), np.int32) for _ in range(2))
        self._ends = aligned((rows,), np.int32)
        self.states: StateMemory | None = None
        self.ahead = self.together
        if "states" in kept:
            keys = 2 * sizes.context * layers * key_value * size
            self.states = StateMemory(ffi, kept, sizes.sequences, keys, len(self._ids))
            self.ahead = min(sizes.together, self.states.spare)
            self.together = min(sizes.together, self.states.spare // 2)  # those read may be forked once more

    @staticmethod
    def shape(kept: Mapping[str, Any], heads: Mapping[str, int]) -> tuple[int, int, int]:
        """Layers with keys and values, heads of those, channels of a head."""
        layers = kept.get("layers", heads.get("num_hidden_layers", 0))
        return int(layers), heads.get("num_key_value_heads", 0), heads.get("head_dim", 0)

    @staticmethod
    def pages_each(sizes: Sizes, kept: Mapping[str, Any]) -> int:
        """Of one sequence, at most."""
        if not kept["window"]:
            return sizes.pages
        sinks, near = int(kept["sinks"]), int(kept["window"]) - int(kept["sinks"])
        # the last chunk, what its first token looks back at, wherever in a page that begins; and the sinks
        return min(sizes.pages, -(-(near - 1 + sizes.chunk) // PAGE_SIZE) + 1 + -(-sinks // PAGE_SIZE))

    @property
    def free_tokens(self) -> int:
        return self._pages.free_tokens

    def add(self, sequence: int) -> None:
        self._pages.add(sequence)
        if self.states is not None:
            self.states.table.add(sequence)

    def fork(self, parent: int, child: int, position: int) -> None:
        if self.states is not None:
            self.states.table.fork(parent, child, position)
        self._pages.fork(parent, child, position)

    def pop(self, sequence: int, count: int) -> None:
        if self.states is not None:
            self.states.table.shorten(sequence, self._pages.length(sequence) - count)
        self._pages.pop(sequence, count)

    def remove(self, sequence: int) -> None:
        self._pages.remove(sequence)
        if self.states is not None:
            self.states.table.remove(sequence)
        self._shown = [None if shown == sequence else shown for shown in self._shown]

    def clear(self) -> None:
        self._pages.clear()
        if self.states is not None:
            self.states.clear()
        self._shown = [None] * len(self._shown)

    def holds(self, sequence: int, position: int) -> bool:
        """Whether what the token at `position` looks back at is still there."""
        return self.reach(sequence, position) == position

    def reach(self, sequence: int, position: int) -> int:
        """The last place up to `position` of which that is so; 0 for none."""
        if self.states is not None:
            position = self.states.table.reach(sequence, position)
        return position if self._pages.forgotten(sequence) <= self._seen_from(position) else 0

    @property
    def saved_form(self) -> Mapping[str, object]:
        """See `runner.SavesPages`, also for the four that follow."""
        layers, _, *page = self._memory.shape
        form: dict[str, object] = {"dtype": self._memory.dtype.str, "layers": layers, "page": page}
        return form if self.states is None else {**form, "states": self.states.saved_form}

    def saved_bytes(self, length: int) -> int:
        states = 0 if self.states is None else self.states.saved_bytes
        return length // PAGE_SIZE * self._memory[:, 0].nbytes + states

    def has_all(self, sequence: int, length: int) -> bool:
        return self._pages.has_all(sequence, length) and self.reach(sequence, length) == length

    def save(self, sequence: int, length: int, write: Callable[[memoryview], None]) -> None:
        for layer in self._memory:
            write(memoryview(layer[self._pages.pages(sequence)[: length // PAGE_SIZE]]))
        if self.states is not None:
            self.states.save(sequence, length, write)

    def restore(self, sequence: int, length: int, read: Callable[[memoryview], None]) -> None:
        if length > self._most * PAGE_SIZE:
            raise MemoryError(f"{length} tokens for a sequence of {self._most} pages")
        self._pages.grow(sequence, length)
        runs = list(self._pages.runs(sequence, length))
        for layer in self._memory:
            for first, count in runs:
                read(memoryview(layer[first : first + count]))
        if self.states is not None:
            self.states.restore(sequence, length, read)

    def new_pages(self, sequence: int, length: int, count: int) -> int:
        """Pages that are taken while it grows by `count` tokens, in chunks, and forgets others."""
        return min(self._pages.needed(sequence, count), self._most - self._pages.owned(sequence))

    def prefill(self, sequence: int, tokens: Sequence[int]) -> Any:
        return self.prefill_many([sequence], [tokens])

    def prefill_many(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Any:
        """One function for one and for many: each has buffers of its own, which stay."""
        end = 0
        for row, (sequence, more) in enumerate(zip(sequences, tokens, strict=True)):
            begin = self._grow(sequence, len(more), range(row, row + 1))
            if self.states is not None:
                self.states.grow(sequence, len(more))
            self._positions[end : end + len(more)] = np.arange(begin, begin + len(more))
            end += len(more)
            self._ends[row] = end - 1
        count = len(sequences)
        return self._run(self._prefill, count, list(chain.from_iterable(tokens)), self._ends[:count])

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> Any:
        return self.verify(sequences, [[token] for token in tokens])

    def verify(self, sequences: Sequence[int], tokens: Sequence[Sequence[int]]) -> Any:
        """Each token has a row of the table, which is its sequence's."""
        rows = 0
        for sequence, more in zip(sequences, tokens, strict=True):
            begin = self._grow(sequence, len(more), range(rows, rows + len(more)))
            if self.states is not None:
                self.states.grow(sequence, len(more), each=True)
            for place in range(len(more)):
                self._positions[rows] = begin + place
                rows += 1
        run = self._decode if rows == 1 else self._batch_decode
        return self._run(run, rows, list(chain.from_iterable(tokens)))

    def _seen_from(self, position: int) -> int:
        """The first token behind the sinks that the token at `position` looks back at."""
        return max(self._sinks, position - self._near + 1) if self._forgets else 0

    def _grow(self, sequence: int, count: int, rows: Iterable[int]) -> int:
        """Room for `count` more tokens, and the sequence's pages into some rows of the table."""
        begin = self._pages.length(sequence)
        if self._forgets:
            self._pages.forget(sequence, self._sinks, self._seen_from(begin))
        self._pages.grow(sequence, count)
        pages = self._pages.pages(sequence)
        for row, shown in enumerate(self._shown):
            if shown == sequence:
                self._known[row] = min(self._known[row], begin // PAGE_SIZE)
        for row in rows:
            known = self._known[row] if self._shown[row] == sequence else 0  # earlier ones only go
            self._table[row, known : len(pages)] = pages[known:]
            self._shown[row], self._known[row] = sequence, len(pages)
        return begin

    def _run(self, function: Any, sequences: int, tokens: Sequence[int], *more: npt.NDArray[Any]) -> Any:
        self._ids[: len(tokens)] = tokens
        rows = (self._ids[: len(tokens)], self._positions[: len(tokens)], self._table[:sequences])
        given = (*(self._from_dlpack(array) for array in rows), self._shared)
        states = [] if self.states is None else [self.states.arguments()]
        return function(*given, *(self._from_dlpack(array) for array in more), *states, self._parameters)


def _copy_page(memory: npt.NDArray[Any], source: int, target: int) -> None:
    memory[:, target] = memory[:, source]
