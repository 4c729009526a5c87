"""MLC model directories: checking them, and reading their parameters back as a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from edge_router.catalog.configs import language_part
from edge_router.compile.readers.base import Floats, TensorInfo, missing_tensor, read_json, read_numbers
from edge_router.compile.readers.folder import folder_tokenizer
from edge_router.compile.weights.parameters import Parameter, parameters
from edge_router.compile.weights.quantize import unpacked
from edge_router.errors import InvalidModel, WeightsCorrupt
from edge_router.quantization import Quantization, quantization

CONFIG = "mlc-chat-config.json"
INDEXES = ("tensor-cache.json", "ndarray-cache.json")  # today's name, and the one before the rename


@dataclass(frozen=True, slots=True)
class Record:
    """One array. `form` "f32-to-bf16" matters for float32 alone: it lies there as bfloat16."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    form: str
    shard: Path
    offset: int
    bytes: int


def records(folder: Path, *, hashes: bool = False) -> dict[str, Record]:
    """Every array of the directory, once the shards' sizes (and with `hashes` their md5) have been checked.

    Raises `InvalidModel` for a missing index, `WeightsCorrupt` for what is missing, short or altered.
    """
    index = next((folder / name for name in INDEXES if (folder / name).is_file()), None)
    if index is None:
        raise InvalidModel(folder, f"holds neither {' nor '.join(INDEXES)}")
    found: dict[str, Record] = {}
    try:
        for shard in cast("list[dict[str, object]]", read_json(index)["records"]):
            path = folder / Path(str(shard["dataPath"])).name
            size = cast(int, shard["nbytes"])
            _check_shard(path, size, str(shard["md5sum"]) if hashes and "md5sum" in shard else None)
            for entry in cast("list[dict[str, object]]", shard["records"]):
                record = _record(entry, path)
                if record.offset < 0 or record.offset + record.bytes > size:
                    raise WeightsCorrupt(path, f"{record.name} within {size} bytes", f"at {record.offset}")
                found[record.name] = record
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsCorrupt(index, "records of shards and arrays", repr(error)) from error
    return found


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
            if (
                not {f"{parameter.name}.{parameter.word}", f"{parameter.name}.q_weight"}
                & self._records.keys()
            ):
                raise missing_tensor(source, parameter.name, self._records)

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
            name: TensorInfo((rows, *parameter.shape[1:]), word)
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
        form, columns = self._form, parameter.shape[1]
        words, scales = (
            self._rows(f"{parameter.name}.{part}", parameter, groups, at + first, at + last)
            for part, groups in (("q_weight", form.words_per_group), ("q_scale", 1))
        )
        return unpacked(words, scales, form)[:, :columns]

    def tokenizer_files(self) -> Mapping[str, bytes]:
        return folder_tokenizer(self.source)

    @cached_property
    def _form(self) -> Quantization:
        return quantization(str(self._chat.get("quantization")))

    def _rows(
        self, name: str, parameter: Parameter, each: int, first: int, last: int
    ) -> np.typing.NDArray[np.generic]:
        """Rows of an array that holds `each` entries of every group, also where it lies transposed."""
        record, shape = (
            self._records[name],
            (parameter.shape[0], each * self._form.groups(parameter.shape[1])),
        )
        sideways = self._form.transposes(parameter.kind)
        if record.shape != (shape[::-1] if sideways else shape):
            raise InvalidModel(self.source, f"{name} is {record.shape}: not the layout of {self._form.name}")
        if sideways:
            return self._array(record, 0, record.shape[0])[:, first:last].T
        return self._array(record, first, last)

    def _array(self, record: Record, first: int, last: int) -> np.typing.NDArray[np.generic]:
        """Rows of an array as they are stored."""
        half = record.dtype == "bfloat16" or (record.dtype, record.form) == ("float32", "f32-to-bf16")
        dtype = np.dtype("<u2" if half else record.dtype)
        row = record.bytes // record.shape[0] // dtype.itemsize
        offset = record.offset + first * row * dtype.itemsize
        flat = read_numbers(record.shard, dtype, (last - first) * row, offset)
        values = flat.reshape(last - first, *record.shape[1:])
        return (values.astype(np.uint32) << 16).view(np.float32) if half else values


def _check_shard(path: Path, size: int, md5: str | None) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise WeightsCorrupt(path, f"{size} bytes", "no such file") from error
    if found != size:
        raise WeightsCorrupt(path, f"{size} bytes", f"{found} bytes")
    if md5 is not None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest != md5:
            raise WeightsCorrupt(path, f"md5 {md5}", digest)


def _record(entry: Mapping[str, object], shard: Path) -> Record:
    return Record(
        name=str(entry["name"]),
        shape=tuple(cast("list[int]", entry["shape"])),
        dtype=str(entry["dtype"]),
        form=str(entry["format"]),
        shard=shard,
        offset=int(cast(int, entry["byteOffset"])),
        bytes=int(cast(int, entry["nbytes"])),
    )
