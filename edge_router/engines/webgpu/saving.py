"""Pages of a GPU's KV cache on their way to a file and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_router.engines.local.scheduling.pages import PageTable
from edge_router.engines.webgpu.gpu import GpuDevice
from edge_router.records import dataclass
from edge_router.webgpu_program import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class GpuPages:
    """What `runner.SavesPages` promises. `buffers`: each of the KV cache, with the bytes of a page;
    `arithmetic`: what numbers follow from beside model and program; `most` pages lie in one sequence."""

    gpu: GpuDevice
    buffers: Sequence[tuple[Any, int]]
    table: PageTable
    most: int
    arithmetic: Mapping[str, object]

    @property
    def saved_form(self) -> Mapping[str, object]:
        return {**self.arithmetic, "page": [size for _, size in self.buffers]}

    def saved_bytes(self, length: int) -> int:
        return length // PAGE_SIZE * sum(size for _, size in self.buffers)

    def has_all(self, sequence: int, length: int) -> bool:
        return self.table.has_all(sequence, length)

    def save(self, sequence: int, length: int, write: Callable[[memoryview], None]) -> None:
        runs = list(self.table.runs(sequence, length))
        for buffer, size in self.buffers:
            for first, count in runs:
                write(self.gpu.read(buffer, count * size, first * size).data)

    def restore(self, sequence: int, length: int, read: Callable[[memoryview], None]) -> None:
        if length > self.most * PAGE_SIZE:
            raise MemoryError(f"{length} tokens for a sequence of {self.most} pages")
        self.table.grow(sequence, length)
        runs = list(self.table.runs(sequence, length))
        for buffer, size in self.buffers:
            for first, count in runs:
                come = np.empty(count * size, np.uint8)
                read(come.data)
                self.gpu.upload(buffer, come, first * size)
