"""Safetensors checkpoints: a folder as transformers saves it, sharded or not, or one file of it.

The format is a length, a JSON header and raw little-endian data, so numpy alone reads it, bfloat16 included.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from edge_router.compile.readers.base import Floats, TensorInfo, missing_tensor, read_numbers
from edge_router.compile.readers.folder import Folder, check_complete, weight_files, without_one
from edge_router.errors import InvalidModel, WeightsCorrupt
from edge_router.parsing import strict_json
from edge_router.records import dataclass

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MAX_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True, slots=True)
class _Place:
    file: Path
    start: int  # bytes from the file's start
    info: TensorInfo


class SafetensorsReader(Folder):
    """A folder with config.json and *.safetensors, or one such file with config.json beside it."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._places = _places(source)

    def close(self) -> None:
        """Nothing stays open between reads."""

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {name: self._places[held].info for name, held in self.names.items()}

    @cached_property
    def names(self) -> Mapping[str, str]:
        """As the file has them, by those of Llama's checkpoints."""
        return self.llama_names(self._places)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        if name not in self.names:
            raise missing_tensor(self.source, name, self.names)
        place = self._places[self.names[name]]
        shape, dtype = place.info.shape, place.info.dtype
        first, last, _ = slice(start, stop).indices(shape[0])
        row = math.prod(shape[1:])
        count, offset = max(0, last - first) * row, place.start + first * row * _BYTES[dtype]
        numbers = read_numbers(place.file, _NUMPY[dtype], count, offset)
        if dtype == "BF16":  # the upper half of a float32
            numbers = np.left_shift(numbers, 16, dtype=np.uint32).view(np.float32)
        floats: Floats = numbers.astype(np.float32, copy=False)
        return floats.reshape(max(0, last - first), *shape[1:])


def _places(source: Path) -> dict[str, _Place]:
    """Every tensor of the checkpoint; the index, where there is one, says which files belong to it."""
    files, wanted = weight_files(source, "*.safetensors", "model.safetensors.index.json")
    places: dict[str, _Place] = {}
    for file in files:
        places |= _header(file)
    check_complete(source, wanted, places)
    return places


def _header(file: Path) -> dict[str, _Place]:
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            start = opened.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(size - 8, _MAX_HEADER):
                raise WeightsCorrupt(file, f"a header within its {size} bytes", f"a header of {length} bytes")
            raw = opened.read(length)
    except OSError as error:
        raise InvalidModel(file, f"cannot be read: {error.strerror}") from error
    try:
        header = strict_json.parse_object(raw)
    except strict_json.NotJson as error:
        raise WeightsCorrupt(file, "a JSON object as header", str(error)) from error
    begin = 8 + length
    return {
        name: _place(file, size, begin, name, entry)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _place(file: Path, size: int, begin: int, name: str, entry: object) -> _Place:
    try:
        fields = cast("dict[str, list[int]]", entry)
        dtype, shape = str(fields["dtype"]), tuple(int(axis) for axis in fields["shape"])
        start, end = (int(offset) for offset in fields["data_offsets"])
    except (TypeError, KeyError, ValueError) as error:
        raise WeightsCorrupt(file, f"dtype, shape and data_offsets of {name}", repr(entry)) from error
    if dtype not in _BYTES:
        raise InvalidModel(file, f"{name} is {dtype}; readable: {', '.join(_BYTES)}")
    expected = math.prod(shape) * _BYTES[dtype]
    if not shape or min(shape) < 0 or start < 0 or end - start != expected:
        raise WeightsCorrupt(file, f"{expected} bytes for {name}", f"{end - start} at {start}")
    if begin + end > size:
        raise WeightsCorrupt(file, f"{begin + end} bytes (up to {name})", f"{size} bytes")
    return _Place(file, begin + start, TensorInfo(without_one(shape), dtype))
