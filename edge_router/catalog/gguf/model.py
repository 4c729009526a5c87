"""A model in GGUF: one file, or the several that its parts lie in, read as one."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from edge_router.catalog.checked import checked_config
from edge_router.catalog.gguf.config import GgufConfig
from edge_router.catalog.gguf.file import GgufFile, GgufTensor
from edge_router.catalog.gguf.names import models_among, part_number, parts_of
from edge_router.errors import InvalidModel

_FLOATS = {0: "f", 1: "e"}  # ggml's types that a config's few numbers are stored in


class GgufModel:
    """`fields` are the metadata of the first part, `tensors` those of all parts, `sizes` the files' bytes.

    `path` is any of the parts. Without `lists` tokens and merges are passed over. Raises what `GgufFile`
    raises, and `InvalidModel` for parts that are missing or do not belong together.
    """

    def __init__(self, path: Path, *, lists: bool = True) -> None:
        self.source = path
        self._files = [GgufFile(part, lists=lists and first) for first, part in self._parts()]
        self.fields: dict[str, object] = self._files[0].fields
        self.sizes: Mapping[Path, int] = {file.path: file.size for file in self._files}
        self._check_parts()
        self.tensors: dict[str, GgufTensor] = {}
        for file in self._files:
            if twice := self.tensors.keys() & file.tensors.keys():
                raise InvalidModel(file.path, f"holds {min(twice)}, which another part holds, too")
            self.tensors |= file.tensors
        total = self.fields.get("split.tensors.count", len(self.tensors))
        if total != len(self.tensors):
            raise InvalidModel(path, f"its parts hold {len(self.tensors)} tensors instead of {total}")

    def config(self) -> dict[str, object]:
        """config.json's keys. Raises `InvalidModel`."""
        shapes = {name: tensor.shape for name, tensor in self.tensors.items()}
        return checked_config(GgufConfig(self.fields, shapes, self.floats, self.source).config(), self.source)

    def floats(self, name: str) -> list[float]:
        """All numbers of a small tensor without blocks. Raises `InvalidModel`."""
        tensor = self.tensors[name]
        code, size = _FLOATS.get(tensor.type_number), self.sizes[tensor.file]
        if code is None or len(tensor.shape) != 1:
            raise InvalidModel(self.source, f"{name} is no plain list of float32 or float16")
        length = tensor.shape[0] * struct.calcsize(code)
        if tensor.offset + length > size:
            raise InvalidModel(tensor.file, f"ends before {name} does")
        with tensor.file.open("rb") as file:
            file.seek(tensor.offset)
            return list(struct.unpack(f"<{tensor.shape[0]}{code}", file.read(length)))

    def _parts(self) -> list[tuple[bool, Path]]:
        """Every file of the model, and whether it is the first. Raises `InvalidModel` for those missing."""
        names = parts_of(self.source.name)
        files = [self.source.with_name(name) for name in names]
        missing = [file.name for file in files if not file.is_file()]
        if missing and len(files) > 1:
            some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            raise InvalidModel(self.source, f"is one of {len(files)} parts, and beside it is no {some}")
        return [(number == 0, file) for number, file in enumerate(files)]

    def _check_parts(self) -> None:
        """That headers and names agree on the parts."""
        for number, file in enumerate(self._files):
            count = file.fields.get("split.count", 1)
            if count in (0, 1) and len(self._files) == 1:
                continue
            if count != len(self._files):
                named = part_number(file.path.name)
                told = (
                    f"its name says {named[1]}"
                    if named
                    else "its name does not say which (NAME-00001-of-00002.gguf)"
                )
                raise InvalidModel(file.path, f"is one of {count} parts by its header, and {told}")
            if (held := file.fields.get("split.no")) != number:
                raise InvalidModel(
                    file.path, f"is part {number + 1} by its name; its header's split.no is {held}"
                )


def gguf_config(path: Path) -> dict[str, object]:
    """The config.json that a file's header amounts to. Raises `InvalidModel`, `WeightsCorrupt`."""
    return GgufModel(path, lists=False).config()


def gguf_in(folder: Path) -> list[Path]:
    """The models in a folder, each by its first part; those one level below only where it has none itself."""
    for pattern in ("*.gguf", "*/*.gguf"):
        names = (file.relative_to(folder).as_posix() for file in folder.glob(pattern))
        if found := models_among(names):
            return [folder / name for name in found]
    return []
