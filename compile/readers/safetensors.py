"""Safetensors checkpoints: a folder as transformers saves it, sharded or not, or one file of it.

The format is a length, a JSON header and raw little-endian data, so numpy alone reads it, bfloat16 included.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from edge_router.catalog.configs import plain_config
from edge_router.compile.readers.base import Floats, TensorInfo, missing_tensor, read_json, read_numbers
from edge_router.errors import InvalidModel, WeightsCorrupt

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_MAX_HEADER = 100_000_000  # the format's own limit
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class _Place:
    file: Path
    start: int  # bytes from the file's start
    info: TensorInfo


class SafetensorsReader:
    """A folder with config.json and *.safetensors, or one such file with config.json beside it."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._folder = source if source.is_dir() else source.parent
        self._places = _places(source)

    def close(self) -> None:
        """Nothing stays open between reads."""

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {name: place.info for name, place in self._places.items()}

    @cached_property
    def config(self) -> Mapping[str, object]:
        return plain_config(read_json(self._folder / "config.json"))

    @cached_property
    def generation(self) -> Mapping[str, object]:
        path = self._folder / "generation_config.json"
        return read_json(path) if path.is_file() else {}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        if name not in self._places:
            raise missing_tensor(self.source, name, self._places)
        place = self._places[name]
        shape, dtype = place.info.shape, place.info.dtype
        first, last, _ = slice(start, stop).indices(shape[0])
        row = math.prod(shape[1:])
        count, offset = max(0, last - first) * row, place.start + first * row * _BYTES[dtype]
        numbers = read_numbers(place.file, _NUMPY[dtype], count, offset)
        if dtype == "BF16":  # the upper half of a float32
            numbers = np.left_shift(numbers, 16, dtype=np.uint32).view(np.float32)
        floats: Floats = numbers.astype(np.float32, copy=False)
        return floats.reshape(max(0, last - first), *shape[1:])

    def tokenizer_files(self) -> Mapping[str, bytes]:
        found = {name: self._folder / name for name in _TOKENIZER}
        absent = [name for name, path in found.items() if not path.is_file()]
        if absent:
            raise InvalidModel(self._folder, f"{' and '.join(absent)} missing; the tokenizer needs both")
        files = {name: path.read_bytes() for name, path in found.items()}
        template = self._folder / "chat_template.jinja"
        if template.is_file():  # newer repositories keep it in a file of its own
            config = read_json(found["tokenizer_config.json"])
            config["chat_template"] = template.read_text(encoding="utf-8")
            files["tokenizer_config.json"] = json.dumps(config, ensure_ascii=False, indent=1).encode()
        return files


def _places(source: Path) -> dict[str, _Place]:
    """Every tensor of the checkpoint; the index, where there is one, says which files belong to it."""
    if source.is_file():
        return _header(source)
    index = source / "model.safetensors.index.json"
    if not index.is_file():
        files = sorted(source.glob("*.safetensors"))
        if len(files) != 1:
            names = ", ".join(file.name for file in files)
            raise InvalidModel(source, f"{len(files)} safetensors files ({names}) and no {index.name}")
        return _header(files[0])
    wanted = read_json(index).get("weight_map")
    if not isinstance(wanted, dict) or not wanted:
        raise WeightsCorrupt(index, "a weight_map", type(wanted).__name__)
    places: dict[str, _Place] = {}
    for name in sorted(set(wanted.values())):
        shard = source / str(name)
        if shard.parent != source or not shard.is_file():
            raise InvalidModel(source, f"{name}, which {index.name} names, is missing")
        places |= _header(shard)
    for tensor in wanted:
        if tensor not in places:
            raise missing_tensor(source, tensor, places)
    return places


def _header(file: Path) -> dict[str, _Place]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _MAX_HEADER):
            raise WeightsCorrupt(file, f"a header within its {size} bytes", f"a header of {length} bytes")
        raw = opened.read(length)
    try:
        header = json.loads(raw)
    except ValueError as error:
        raise WeightsCorrupt(file, "a JSON header", str(error)) from error
    if not isinstance(header, dict):
        raise WeightsCorrupt(file, "a JSON object as header", type(header).__name__)
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
    return _Place(file, begin + start, TensorInfo(shape, dtype))
