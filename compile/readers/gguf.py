"""GGUF files as Hugging Face checkpoints: names, row order, norms, dequantization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import cast

import numpy as np

from edge_router.architectures import gguf_architectures, of_gguf
from edge_router.architectures.gguf_names import ROPE_TENSORS
from edge_router.catalog.gguf import GgufModel, GgufTensor
from edge_router.compile.readers.base import Floats, TensorInfo, missing_tensor, read_numbers
from edge_router.compile.readers.gguf_tokenizer import doubt, generation_config, tokenizer_files
from edge_router.errors import InvalidModel, UnsupportedArchitecture, WeightsCorrupt


class GgufReader:
    """A model in one .gguf file, or in several; see `WeightsReader`."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._file = GgufModel(source)
        name = str(self._file.fields.get("general.architecture", ""))
        described = of_gguf(name)
        if described is None or described.gguf is None:
            raise UnsupportedArchitecture(name, gguf_architectures())
        self._described, self._gguf = described, described.gguf
        layers = cast(int, self.config["num_hidden_layers"]) if self._gguf.spare else 0
        useful = self._gguf.useful(self._file.tensors, layers)
        known = {name: self._gguf.hugging_face_name(name) for name in useful}
        self._names = {theirs: name for name, theirs in known.items() if theirs is not None}
        self._check_types()
        for name in self._file.tensors:
            self._check_extent(name)

    def close(self) -> None:
        """Nothing stays open between reads."""

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Without the factors that turn positions: `config` says what they do."""
        found = {}
        for name, inner in self._names.items():
            tensor = self._file.tensors[inner]
            if name not in ROPE_TENSORS:
                found[name] = TensorInfo(tensor.shape, readable_types()[tensor.type_number])
        return found

    @cached_property
    def config(self) -> Mapping[str, object]:
        return self._file.config()

    @cached_property
    def generation(self) -> Mapping[str, object]:
        return generation_config(self._file.fields)

    @property
    def doubts(self) -> Sequence[str]:
        said = doubt(self._file.fields, self.source)
        return () if said is None else (said,)

    def tokenizer_files(self) -> Mapping[str, bytes]:
        return tokenizer_files(self._file.fields, self.source)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        if name not in self._names:
            raise missing_tensor(self.source, name, self._names)
        inner = self._names[name]
        tensor = self._file.tensors[inner]
        within = name.split(".", 3)[-1]  # the layer
        rows = self._gguf.rows(self.config, within)
        if len(tensor.shape) == 1:
            vector: Floats = self._dequantize(tensor, np.arange(1))[0]
            vector = (vector if rows is None else vector[rows])[start:stop]
            if within in self._gguf.powers:
                return cast(Floats, np.log(-vector))
            mixed = within.startswith(tuple(f"{mixer.name}." for mixer in self._described.mixers))
            added = self._described.plus_one and name.endswith("norm.weight") and not mixed
            return vector - 1 if added else vector
        order = np.arange(tensor.shape[0]) if rows is None else np.array(rows)
        if self._gguf.turned and inner.endswith((".attn_q.weight", ".attn_k.weight")):
            order = _rotary_order(tensor.shape[0], cast(int, self.config["head_dim"]))
        found, columns = self._dequantize(tensor, order[start:stop]), self._gguf.columns(self.config, within)
        return found if columns is None else np.ascontiguousarray(found[:, columns])

    def _dequantize(self, tensor: GgufTensor, order: np.typing.NDArray[np.intp]) -> Floats:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        if not len(order):
            return np.empty((0, *tensor.shape[1:]), np.float32)
        length = _byte_length(tensor) // (1 if len(tensor.shape) == 1 else tensor.shape[0])
        first, count = int(order.min()), int(np.ptp(order)) + 1
        raw = read_numbers(tensor.file, np.uint8, count * length, tensor.offset + first * length)
        rows = raw.reshape(count, length)[order - first]
        found = dequantize(rows, GGMLQuantizationType(tensor.type_number))
        floats: Floats = np.ascontiguousarray(found, dtype=np.float32)
        if len(tensor.shape) == 1:
            return floats.reshape(1, -1)
        return floats.reshape(len(order), *tensor.shape[1:])

    def _check_types(self) -> None:
        """That each tensor's numbers can be read, before any of them is. Raises `InvalidModel`."""
        types = readable_types()
        for name, tensor in self._file.tensors.items():
            if tensor.type_number not in types:
                known = ", ".join(types.values())
                raise InvalidModel(
                    self.source,
                    f"{name} is of a type that this version can't read ({_shown(tensor.type_number)}); it "
                    f"reads {known}",
                )

    def _check_extent(self, name: str) -> None:
        tensor = self._file.tensors[name]
        end, size = tensor.offset + _byte_length(tensor), self._file.sizes[tensor.file]
        if end > size:
            raise WeightsCorrupt(tensor.file, f"{end} bytes (up to {name})", f"{size} bytes")


@cache
def readable_types() -> dict[int, str]:
    """Number to name of every type whose numbers the gguf package can give."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    found = {}
    for kind in GGMLQuantizationType:
        with suppress(NotImplementedError, KeyError):
            _, length = GGML_QUANT_SIZES[kind]
            dequantize(np.zeros((1, length), np.uint8), kind)
            found[int(kind)] = str(kind.name)
    return found


def _shown(number: int) -> str:
    from gguf.constants import GGMLQuantizationType

    named = {int(kind): kind.name for kind in GGMLQuantizationType}
    return f"{number}, {named[number]}" if number in named else str(number)


def _rotary_order(rows: int, head_dim: int) -> np.typing.NDArray[np.intp]:
    """Which row of the file is row i of the checkpoint.

    llama.cpp keeps the two halves that rotary embedding pairs next to each other, transformers keeps the
    halves apart.
    """
    return np.arange(rows).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).ravel()


def _byte_length(tensor: GgufTensor) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    kind = GGMLQuantizationType(tensor.type_number)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if tensor.shape[-1] % block:
        raise WeightsCorrupt(
            tensor.file, f"rows of whole {kind.name} blocks ({block})", f"{tensor.shape[-1]} values"
        )
    length: int = math.prod(tensor.shape) // block * block_bytes
    return length
