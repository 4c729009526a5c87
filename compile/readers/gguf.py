"""GGUF files as Hugging Face checkpoints: names, row order, norms, dequantization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from edge_router.compile.readers.base import Floats, TensorInfo, missing_tensor, read_numbers
from edge_router.compile.readers.gguf_config import GgufConfig
from edge_router.compile.readers.gguf_families import FAMILIES, ROPE_TENSORS
from edge_router.compile.readers.gguf_file import GgufFile, GgufTensor
from edge_router.compile.readers.gguf_tokenizer import generation_config, tokenizer_files
from edge_router.errors import InvalidModel, UnsupportedArchitecture, WeightsCorrupt


class GgufReader:
    """One .gguf file; see `WeightsReader`."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._file = GgufFile(source)
        architecture = str(self._file.fields.get("general.architecture", ""))
        if architecture not in FAMILIES:
            raise UnsupportedArchitecture(architecture, tuple(FAMILIES))
        self._family = FAMILIES[architecture]
        self._names: dict[str, str] = {}
        for name in self._file.tensors:
            known = self._family.hugging_face_name(name)
            if known is None:
                raise InvalidModel(source, f"a tensor named {name}, which {architecture} models don't have")
            self._names[known] = name
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
                found[name] = TensorInfo(tensor.shape, _type_name(tensor.type_number, self.source))
        return found

    @cached_property
    def config(self) -> Mapping[str, object]:
        shapes = {name: tensor.shape for name, tensor in self._file.tensors.items()}
        return GgufConfig(self._file.fields, shapes, self.rows, self.source).config()

    @cached_property
    def generation(self) -> Mapping[str, object]:
        return generation_config(self._file.fields)

    def tokenizer_files(self) -> Mapping[str, bytes]:
        return tokenizer_files(self._file.fields, self.source)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        if name not in self._names:
            raise missing_tensor(self.source, name, self._names)
        inner = self._names[name]
        tensor = self._file.tensors[inner]
        if len(tensor.shape) == 1:
            vector: Floats = self._dequantize(tensor, np.arange(1))[0][start:stop]
            return vector - 1 if self._family.plus_one and name.endswith("norm.weight") else vector
        order = np.arange(tensor.shape[0])
        if self._family.turned and inner.endswith((".attn_q.weight", ".attn_k.weight")):
            order = _rotary_order(tensor.shape[0], cast(int, self.config["head_dim"]))
        return self._dequantize(tensor, order[start:stop])

    def _dequantize(self, tensor: GgufTensor, order: np.typing.NDArray[np.intp]) -> Floats:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        if not len(order):
            return np.empty((0, tensor.shape[-1]), np.float32)
        length = _byte_length(tensor, self.source) // (1 if len(tensor.shape) == 1 else tensor.shape[0])
        first, count = int(order.min()), int(np.ptp(order)) + 1
        raw = read_numbers(self.source, np.uint8, count * length, tensor.offset + first * length)
        rows = raw.reshape(count, length)[order - first]
        try:
            floats = dequantize(rows, GGMLQuantizationType(tensor.type_number))
        except NotImplementedError as error:
            raise InvalidModel(self.source, str(error)) from error
        return cast(Floats, np.ascontiguousarray(floats, dtype=np.float32).reshape(len(order), -1))

    def _check_extent(self, name: str) -> None:
        tensor = self._file.tensors[name]
        end = tensor.offset + _byte_length(tensor, self.source)
        if end > self._file.size:
            raise WeightsCorrupt(self.source, f"{end} bytes (up to {name})", f"{self._file.size} bytes")


def _rotary_order(rows: int, head_dim: int) -> np.typing.NDArray[np.intp]:
    """Which row of the file is row i of the checkpoint.

    llama.cpp keeps the two halves that rotary embedding pairs next to each other, transformers keeps the
    halves apart.
    """
    return np.arange(rows).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).ravel()


def _byte_length(tensor: GgufTensor, source: Path) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    name = _type_name(tensor.type_number, source)
    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    if tensor.shape[-1] % block:
        raise WeightsCorrupt(source, f"rows of whole {name} blocks ({block})", f"{tensor.shape[-1]} values")
    length: int = math.prod(tensor.shape) // block * block_bytes
    return length


def _type_name(number: int, source: Path) -> str:
    from gguf.constants import GGMLQuantizationType

    try:
        return str(GGMLQuantizationType(number).name)
    except ValueError as error:
        raise WeightsCorrupt(source, "a known tensor type", f"type {number}") from error
