"""MLC model directories: checking them, and reading their parameters back as a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from edge_router.architectures.quantization import Quantization, quantization
from edge_router.catalog.configs import language_part
from edge_router.compile.readers.base import Floats, TensorInfo, missing_tensor, read_json, read_numbers
from edge_router.compile.readers.folder import folder_tokenizer
from edge_router.compile.weights.parameters import Parameter, parameters
from edge_router.compile.weights.quantize import unpacked
from edge_router.errors import InvalidModel
from edge_router.store.tensor_index import TensorRecord, records

CONFIG = "mlc-chat-config.json"


class MlcReader:
    """A ready MLC directory as a checkpoint: dequantized, the fused parameters taken apart."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._chat = read_json(source / CONFIG)
        self._records = records(source)
        self._homes: dict[str, tuple[Parameter, int, int]] = {}
        for parameter in parameters(self.config, str(source)):
            at = 0
            for name, rows in zip(parameter.sources, parameter.source_rows, strict=True):
                self._homes[name] = parameter, at, rows
                at += rows
            self._check(parameter)

    def close(self) -> None:
        """Nothing stays open between reads."""

    @cached_property
    def config(self) -> Mapping[str, object]:
        inner = self._chat.get("model_config")
        if not isinstance(inner, dict):
            raise InvalidModel(self.source / CONFIG, "has no model_config")
        inner = language_part(inner)
        return {
            **inner,
            "model_type": self._chat.get("model_type"),
            "rope_theta": inner.get("position_embedding_base") or inner.get("rope_theta"),
            "max_position_embeddings": inner.get("context_window_size"),
        }

    @property
    def generation(self) -> Mapping[str, object]:
        keys = ("temperature", "top_p", "top_k", "bos_token_id", "eos_token_id", "pad_token_id")
        return {key: self._chat[key] for key in keys if self._chat.get(key) is not None}

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        word = str(self._chat.get("quantization"))
        return {
            name: TensorInfo((rows, *parameter.columns), word)
            for name, (parameter, _, rows) in self._homes.items()
        }

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        if name not in self._homes:
            raise missing_tensor(self.source, name, self._homes)
        parameter, at, rows = self._homes[name]
        first, last, _ = slice(start, stop).indices(rows)
        plain = self._records.get(f"{parameter.name}.{parameter.word}")
        if plain is not None:
            values = self._array(plain, at + first, at + last).astype(np.float32)
            return values - np.float32(parameter.plus)
        form, columns = self._form, parameter.shape[-1]
        words, scales = (
            self._rows(f"{parameter.name}.{part}", parameter, at + first, at + last)
            for part in ("q_weight", "q_scale")
        )
        return unpacked(words, scales, form)[:, :columns]

    @property
    def doubts(self) -> Sequence[str]:
        return ()

    def tokenizer_files(self) -> Mapping[str, bytes]:
        return folder_tokenizer(self.source)

    @cached_property
    def _form(self) -> Quantization:
        return quantization(str(self._chat.get("quantization")))

    def _rows(self, name: str, parameter: Parameter, first: int, last: int) -> np.typing.NDArray[np.generic]:
        """Rows of an array that holds something of every group, also where it lies transposed."""
        record = self._records[name]
        if self._form.transposes(parameter.kind):
            return self._array(record, 0, record.shape[0])[:, first:last].T
        return self._array(record, first, last)

    def _check(self, parameter: Parameter) -> None:
        """That its arrays are there and shaped as its size and the format say. Raises `InvalidModel`."""
        plain = self._records.get(f"{parameter.name}.{parameter.word}")
        if plain is not None:
            expected = {plain.name: parameter.shape}
        else:
            expected = {}
            for part, each in (("q_weight", self._form.words_per_group), ("q_scale", 1)):
                *rows, columns = parameter.shape
                shape = *rows, each * self._form.groups(columns)
                sideways = self._form.transposes(parameter.kind)
                expected[f"{parameter.name}.{part}"] = shape[::-1] if sideways else shape
        for name, wanted in expected.items():
            if name not in self._records:
                raise missing_tensor(self.source, parameter.name, self._records)
            if (found := self._records[name].shape) != wanted:
                raise InvalidModel(
                    self.source, f"{name} is {found}, and its configuration takes {wanted} of it"
                )

    def _array(self, record: TensorRecord, first: int, last: int) -> np.typing.NDArray[np.generic]:
        """Rows of an array as they are stored."""
        half = record.halved
        dtype = np.dtype("<u2" if half else record.dtype)
        rows = math.prod(record.shape[:-1] or record.shape)  # those of all experts follow one another
        row = record.bytes // rows // dtype.itemsize
        offset = record.offset + first * row * dtype.itemsize
        flat = read_numbers(record.shard, dtype, (last - first) * row, offset)
        values = flat.reshape(last - first, -1) if len(record.shape) > 1 else flat
        return (values.astype(np.uint32) << 16).view(np.float32) if half else values
