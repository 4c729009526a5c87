"""Tensors that hold the matrices of all experts, read as one matrix for each, as transformers names them.

`experts.gate_proj` [experts, rows, columns], as GGUF files have it, becomes `experts.0.gate_proj` and so on;
`experts.gate_up_proj`, where the rows of gate lie before those of up, becomes two for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from edge_router.compile.readers.base import Floats, TensorInfo, WeightsReader, missing_tensor
from edge_router.records import dataclass

_EXPERTS = ".experts."
_KEPT = 4  # matrices, for a matrix is read in pieces


@dataclass(frozen=True, slots=True)
class _Place:
    """One expert's matrix, or a part of its rows, from `first` on."""

    tensor: str
    expert: int
    first: int
    info: TensorInfo


class Stacked:
    """A checkpoint whose experts are taken apart; see `WeightsReader`."""

    def __init__(self, inner: WeightsReader) -> None:
        self._inner = inner
        self._whole: Callable[[str, int], Floats] = lru_cache(_KEPT)(self._read)

    @property
    def source(self) -> Path:
        return self._inner.source

    @property
    def config(self) -> Mapping[str, object]:
        return self._inner.config

    @property
    def generation(self) -> Mapping[str, object]:
        return self._inner.generation

    @property
    def doubts(self) -> Sequence[str]:
        return self._inner.doubts

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        plain = {name: info for name, info in self._inner.tensors.items() if not _stacked(name, info)}
        return plain | {name: place.info for name, place in self._places.items()}

    @cached_property
    def _places(self) -> Mapping[str, _Place]:
        found: dict[str, _Place] = {}
        for name, info in self._inner.tensors.items():
            if _stacked(name, info):
                found |= _apart(name, info)
        return found

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        place = self._places.get(name)
        if place is None:
            if name not in self.tensors:
                raise missing_tensor(self.source, name, self.tensors)
            return self._inner.rows(name, start, stop)
        first, last, _ = slice(start, stop).indices(place.info.shape[0])
        whole = self._whole(place.tensor, place.expert)
        return whole[place.first + first : place.first + last].copy()  # callers write into what they get

    def _read(self, tensor: str, expert: int) -> Floats:
        only: Floats = self._inner.rows(tensor, expert, expert + 1)[0]
        return only

    def tokenizer_files(self) -> Mapping[str, bytes]:
        return self._inner.tokenizer_files()

    def close(self) -> None:
        self._whole = self._read
        self._inner.close()


def taken_apart(reader: WeightsReader) -> WeightsReader:
    """`reader`, or over it one that takes experts apart, where some lie together."""
    stacked = any(_stacked(name, info) for name, info in reader.tensors.items())
    return Stacked(reader) if stacked else reader


def _stacked(name: str, info: TensorInfo) -> bool:
    return _EXPERTS in name and len(info.shape) == 3


def _apart(name: str, info: TensorInfo) -> Mapping[str, _Place]:
    layer, _, part = name.partition(_EXPERTS)
    count, rows, columns = info.shape
    part = part.removesuffix(".weight")
    parts = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
    each = TensorInfo((rows // len(parts), columns), info.dtype)
    return {
        f"{layer}{_EXPERTS}{expert}.{one}.weight": _Place(name, expert, number * each.shape[0], each)
        for expert in range(count)
        for number, one in enumerate(parts)
    }
