"""An MLC directory's index: which array lies where in which shard, each entry held against its shard.

Nothing is hashed unless it is asked for, so it costs next to nothing. TVM's own loader believes the index: an
entry that reaches beyond its shard, or whose shape is not its size, ends the whole process there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_router.errors import InvalidModel, WeightsCorrupt
from edge_router.parsing import strict_json
from edge_router.records import dataclass

INDEXES = ("tensor-cache.json", "ndarray-cache.json")  # today's name, and the one before the rename
FORMS = ("raw", "f32-to-bf16")
DTYPES: Mapping[str, int] = {  # bytes of one number, as it lies in a shard
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
}


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """One array. `form` "f32-to-bf16" matters for float32 alone: it lies there as bfloat16."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    form: str
    shard: Path
    offset: int
    bytes: int

    @property
    def halved(self) -> bool:
        """Whether it lies there as bfloat16."""
        return self.dtype == "bfloat16" or (self.dtype, self.form) == ("float32", "f32-to-bf16")


def records(folder: Path, *, hashes: bool = False) -> dict[str, TensorRecord]:
    """Every array of the directory by its name; with `hashes` the shards' md5 is checked, too.

    Raises `InvalidModel` for a missing index, `WeightsCorrupt` for what is missing, short or altered, and for
    an entry that contradicts itself or its shard.
    """
    index = next((folder / name for name in INDEXES if (folder / name).is_file()), None)
    if index is None:
        raise InvalidModel(folder, f"holds neither {' nor '.join(INDEXES)}")
    found: dict[str, TensorRecord] = {}
    try:
        for shard in strict_json.read_object(index)["records"]:
            path, size = _shard(index, shard)
            _check_shard(path, size, str(shard["md5sum"]) if hashes and "md5sum" in shard else None)
            for entry in shard["records"]:
                record = _record(index, entry, path, size)
                if record.name in found:
                    raise WeightsCorrupt(index, f"one {record.name}", "two of that name")
                found[record.name] = record
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsCorrupt(index, "records of shards and arrays", repr(error)[:200]) from error
    return found


def check_parameters(folder: Path, asked: Sequence[Mapping[str, Any]]) -> None:
    """That the directory holds what a library asks for: names, shapes and types.

    `asked` are entries with `name`, `shape` and `dtype`, as the library's metadata has them. Raises what
    `records` raises, and `InvalidModel` with those that do not fit.
    """
    held = records(folder)
    wrong = [
        f"{entry['name']} ({entry['dtype']} {list(entry['shape'])})"
        for entry in asked
        if (record := held.get(entry["name"])) is None
        or (record.shape, record.dtype) != (tuple(entry["shape"]), entry["dtype"])
    ]
    if wrong:
        raise InvalidModel(folder, f"the weights have no fitting {', '.join(wrong[:4])}")


def _shard(index: Path, shard: Mapping[str, Any]) -> tuple[Path, int]:
    name, size = shard["dataPath"], shard["nbytes"]
    plain = isinstance(name, str) and bool(name) and Path(name).name == name
    if not plain:
        raise WeightsCorrupt(index, "a shard beside it", repr(name)[:80])
    return index.parent / name, _count(index, "nbytes", size)


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


def _record(index: Path, entry: Mapping[str, Any], shard: Path, size: int) -> TensorRecord:
    name, dtype, form = (entry[key] for key in ("name", "dtype", "format"))
    if not isinstance(name, str) or not name:
        raise WeightsCorrupt(index, "a text as an array's name", repr(name)[:80])
    if dtype not in DTYPES or form not in FORMS:
        raise WeightsCorrupt(index, f"a type and a form that are known, of {name}", repr((dtype, form))[:80])
    shape = tuple(_count(index, f"{name}'s shape", axis) for axis in entry["shape"])
    offset, held = (_count(index, f"{name}'s {key}", entry[key]) for key in ("byteOffset", "nbytes"))
    record = TensorRecord(name, shape, dtype, form, shard, offset, held)
    wanted = math.prod(shape) * (2 if record.halved else DTYPES[dtype])
    if held != wanted:
        raise WeightsCorrupt(index, f"{wanted} bytes for {name} of {dtype} {list(shape)}", f"{held}")
    if offset + held > size:
        raise WeightsCorrupt(shard, f"{name} within {size} bytes", f"{held} at {offset}")
    return record


def _count(index: Path, what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise WeightsCorrupt(index, f"a whole number as {what}", repr(value)[:80])
    return value
