"""pytorch_model.bin files, sharded or not, through torch, which reads nothing but tensors from them.

They are pickles, which can run any code when they are loaded. So they are loaded with `weights_only` or not
at all. torch maps them into memory: unlike with the other formats, what was read counts as the process's own
until the system needs the room.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edge_router.compile.readers.base import Floats, TensorInfo, missing_tensor
from edge_router.compile.readers.folder import Folder, check_complete, weight_files, without_one
from edge_router.errors import InvalidModel, MissingExtra, WeightsCorrupt

if TYPE_CHECKING:
    from torch import Tensor

PATTERN, INDEX = "pytorch_model*.bin", "pytorch_model.bin.index.json"
_ZIP = b"PK\x03\x04"
_FOREIGN = re.compile(r"GLOBAL (\S+) was not an allowed")  # torch's words for what is no tensor


class TorchBinReader(Folder):
    """A folder with config.json and pytorch_model*.bin, or one such file; see `WeightsReader`.

    Raises `MissingExtra` without torch, `InvalidModel` for a file that holds more than tensors.
    """

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        files, wanted = weight_files(source, PATTERN, INDEX)
        self._held: dict[str, Tensor] = {}
        for file in files:
            self._held |= _load(file)
        check_complete(source, wanted, self._held)

    def close(self) -> None:
        self._held.clear()

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {
            name: TensorInfo(
                without_one(tuple(self._held[held].shape)), str(self._held[held].dtype).removeprefix("torch.")
            )
            for name, held in self._names.items()
        }

    @cached_property
    def _names(self) -> Mapping[str, str]:
        return self.llama_names(self._held)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        import torch

        if name not in self._names:
            raise missing_tensor(self.source, name, self._names)
        part = self._held[self._names[name]][start:stop].detach()
        # a copy, also of float32: what is returned may be written to
        found = part.to(torch.float32, copy=True).numpy()
        return cast(Floats, found.reshape(without_one(found.shape)))


def _load(file: Path) -> dict[str, Tensor]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "torch", f"reading {file.name}") from error
    zipped = _is_whole_zip(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if foreign := _FOREIGN.search(str(error)):
            reason = f"it holds {foreign[1]}, which could run code when it is loaded, so it is not loaded"
            raise InvalidModel(file, reason) from error
        raise _damaged(file, error) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(file, error) from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise InvalidModel(file, "it holds something else than tensors by name")
    return found


def _damaged(file: Path, error: Exception) -> WeightsCorrupt:
    first = (str(error).strip().splitlines() or [""])[0]
    return WeightsCorrupt(file, "a file as torch.save writes it", first or type(error).__name__)


def _is_whole_zip(file: Path) -> bool:
    """False for the format before torch 1.6. Raises `WeightsCorrupt` for a zip file that was cut off."""
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(_ZIP)) == _ZIP
    except OSError as error:
        raise InvalidModel(file, f"cannot be read: {error.strerror}") from error
    if begins and not zipfile.is_zipfile(file):
        raise WeightsCorrupt(
            file, "a zip file with its directory at the end", f"none in its {file.stat().st_size} bytes"
        )
    return begins
