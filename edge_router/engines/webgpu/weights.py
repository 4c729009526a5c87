"""A model directory's tensors as they are to lie on the device."""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.errors import ArtifactCorrupt
from edge_router.webgpu_program import Weight

_HALF = np.dtype(np.uint16)


class DirectoryWeights:
    """Reads from an MLC directory, a tensor at a time. Raises `InvalidModel`, `WeightsCorrupt`.

    `read` raises `ArtifactCorrupt` for a tensor that is not there.
    """

    def __init__(self, folder: Path) -> None:
        from edge_router.store.tensor_index import records

        self._folder, self._records = folder, records(folder)
        self._maps: dict[Path, mmap.mmap] = {}

    def read(self, weight: Weight) -> npt.NDArray[Any]:
        record = self._records.get(weight.tensor)
        if record is None:
            raise ArtifactCorrupt(self._folder, f"the program wants {weight.tensor}, which is not there")
        if record.shard not in self._maps:
            with record.shard.open("rb") as file:
                self._maps[record.shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        raw = np.frombuffer(self._maps[record.shard], np.uint8, record.bytes, record.offset)
        if weight.rows is not None:
            first, last = weight.rows
            size = record.bytes // math.prod(record.shape[:-1])  # those of all experts follow one another
            raw = raw[first * size : last * size]
        if weight.stored == "raw":
            return raw
        if record.halved:
            return (raw.view(_HALF).astype(np.uint32) << 16).view(np.float32)
        return raw.view(record.dtype).astype(np.float32)

    def close(self) -> None:
        """The memory maps go when the last view of them does."""
        self._maps.clear()
