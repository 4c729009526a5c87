"""What a reader of weights promises, whatever the file's format.

Names are Hugging Face's: configuration keys as in config.json, tensors as in a checkpoint of transformers.
Nothing is read before it is asked for, and `rows` reads a part of a tensor, so that a model never has to fit
into memory. Files are read and not mapped: pages of a map count as the process's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_router.errors import InvalidModel, WeightsCorrupt
from edge_router.parsing import strict_json
from edge_router.records import dataclass

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """`dtype` is the word of the file's own format: "F16", "BF16", "Q4_1", ..."""

    shape: tuple[int, ...]
    dtype: str


class WeightsReader(Protocol):
    """A checkpoint that lies on this machine. Close it, or use it as a context manager."""

    @property
    def source(self) -> Path: ...

    @property
    def config(self) -> Mapping[str, object]:
        """Hugging Face's config.json, or what the file's metadata says in its words."""
        ...

    @property
    def generation(self) -> Mapping[str, object]:
        """Sampling defaults and token ids, in the words of generation_config.json; may be empty."""
        ...

    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        """Rows `start` to `stop` of a tensor as float32, in the order of a Hugging Face checkpoint.

        Raises `InvalidModel` for a name that is not in `tensors`.
        """
        ...

    def tokenizer_files(self) -> Mapping[str, bytes]:
        """File name to content; at least tokenizer.json and tokenizer_config.json. Raises `InvalidModel`."""
        ...

    @property
    def doubts(self) -> Sequence[str]:
        """What had to be guessed, a sentence each. Raises `InvalidModel`."""
        ...

    def close(self) -> None: ...


def missing_tensor(source: Path, name: str, held: Iterable[str]) -> InvalidModel:
    names = sorted(held)
    some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return InvalidModel(source, f"holds no tensor {name}; it holds {len(names)}: {some}")


def read_numbers(file: Path, dtype: npt.DTypeLike, count: int, offset: int) -> npt.NDArray[Any]:
    """`count` of them from byte `offset` on. Raises `WeightsCorrupt` where the file ends before."""
    try:
        numbers = np.fromfile(file, dtype, count, offset=offset)
        found = file.stat().st_size
    except OSError as error:
        raise InvalidModel(file, f"cannot be read: {error.strerror}") from error
    if len(numbers) != count:
        raise WeightsCorrupt(file, f"{offset + count * np.dtype(dtype).itemsize} bytes", f"{found} bytes")
    return numbers


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON object that is the content of `path`. Raises `WeightsCorrupt` if it isn't one."""
    try:
        return strict_json.parse_object(content)
    except strict_json.NotJson as error:
        raise WeightsCorrupt(path, "a JSON object", str(error)) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `InvalidModel` if the file is missing, `WeightsCorrupt` if it isn't one."""
    try:
        return parse_json(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise InvalidModel(path.parent, f"{path.name} is missing") from error
    except OSError as error:
        raise InvalidModel(path, f"cannot be read: {error.strerror}") from error
