"""The GGUF container: metadata and where each tensor lies. Nothing here knows about models.

Written out rather than taken from the gguf package, whose reader makes several numpy views of each of a
vocabulary's 100,000 strings (4 s for the demo model, 0.2 s here) and does not bound what it reads.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from edge_router.errors import InvalidModel, WeightsCorrupt
from edge_router.records import dataclass

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MAX_DIMENSIONS = 4
_MAX_NESTING = 4
# The largest vocabularies have 300,000 tokens and 600,000 merges, in some 20 MB.
_MOST_ITEMS = 1 << 22
_MOST_BYTES = 1 << 28
_SHORT_LIST = 1024  # layers of a model have as many numbers at most


@dataclass(frozen=True, slots=True)
class GgufTensor:
    file: Path
    shape: tuple[int, ...]  # rows first, so the reverse of how the file writes it
    type_number: int
    offset: int  # from the file's start


class GgufFile:
    """Metadata (`fields`) of one file, where its tensors lie, and its size in bytes.

    Without `lists` the long ones of the metadata (tokens, merges) are passed over. What is read is bounded by
    the file's size before anything is allocated. Raises `WeightsCorrupt` with what was expected and found;
    `InvalidModel` for a version it can't read, and a file that can't be opened.
    """

    def __init__(self, path: Path, *, lists: bool = True) -> None:
        self.path, self._lists = path, lists
        try:
            with path.open("rb") as file:
                self.size = file.seek(0, 2)
                if self.size < 24:
                    raise WeightsCorrupt(path, "a GGUF header of 24 bytes", f"{self.size} bytes")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as self._data:
                    self._parse()
        except OSError as error:
            raise InvalidModel(path, f"cannot be read: {error.strerror or error}") from error

    def _parse(self) -> None:
        if self._data[:4] != _MAGIC:
            raise WeightsCorrupt(self.path, f"the bytes {_MAGIC!r} at the start", repr(self._data[:4]))
        self._at, self._items = 4, 0
        version = self._integer("I")
        if version not in (2, 3):
            raise InvalidModel(self.path, f"GGUF version {version}; versions 2 and 3 can be read")
        tensor_count, field_count = self._integer("Q"), self._integer("Q")
        self._bound(field_count, 13, "metadata fields")
        self.fields: dict[str, object] = {}
        for _ in range(field_count):
            key = self._string()
            value = self._value(self._integer("I"))
            if value is not None:
                self.fields[key] = value
        self._bound(tensor_count, 32, "tensors")
        infos = [self._tensor_info() for _ in range(tensor_count)]
        alignment = self.fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or isinstance(alignment, bool) or alignment < 1:
            raise WeightsCorrupt(self.path, "a positive alignment", repr(alignment))
        start = -(-self._at // alignment) * alignment
        self.tensors = {
            name: GgufTensor(self.path, shape, number, start + offset)
            for name, shape, number, offset in infos
        }
        if len(self.tensors) != tensor_count:
            raise WeightsCorrupt(
                self.path, f"{tensor_count} tensors of different names", f"{len(self.tensors)}"
            )

    def _tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        dimensions = self._integer("I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise WeightsCorrupt(self.path, f"{name} to have 1 to {_MAX_DIMENSIONS} axes", str(dimensions))
        shape = tuple(self._integer("Q") for _ in range(dimensions))
        return name, shape[::-1], self._integer("I"), self._integer("Q")

    def _take(self, length: int) -> int:
        """Move past `length` bytes and return where they start."""
        start = self._at
        if length > self.size - start:
            raise WeightsCorrupt(self.path, f"at least {start + length} bytes", f"{self.size}")
        if start + length > _MOST_BYTES:
            raise WeightsCorrupt(self.path, f"a header of at most {_MOST_BYTES} bytes", f"{start + length}")
        self._at = start + length
        return start

    def _integer(self, code: str) -> int:
        length = struct.calcsize("<" + code)
        return int(struct.unpack_from("<" + code, self._data, self._take(length))[0])

    def _string(self) -> str:
        length = self._integer("Q")
        start = self._take(length)
        try:
            return self._data[start : start + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise WeightsCorrupt(self.path, f"UTF-8 at byte {start}", str(error)) from error

    def _value(self, kind: int, depth: int = 0) -> object:
        """None for a list that is passed over."""
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY and depth < _MAX_NESTING:
            return self._array(depth)
        if kind not in _SCALARS:
            raise WeightsCorrupt(self.path, "a known type of metadata", f"type {kind} at byte {self._at}")
        code = "<" + _SCALARS[kind]
        value: object = struct.unpack_from(code, self._data, self._take(struct.calcsize(code)))[0]
        return value

    def _array(self, depth: int) -> list[object] | None:
        kind, count = self._integer("I"), self._integer("Q")
        wanted = self._lists or count <= _SHORT_LIST
        if kind in _SCALARS:
            code = _SCALARS[kind]
            length = struct.calcsize("<" + code)
            self._bound(count, length, "array elements")
            start = self._take(count * length)
            return list(struct.unpack_from(f"<{count}{code}", self._data, start)) if wanted else None
        self._bound(count, 8, "array elements")
        if kind == _STRING and not wanted:
            for _ in range(count):
                self._take(self._integer("Q"))
            return None
        if kind == _STRING:
            return [self._string() for _ in range(count)]
        return [self._value(kind, depth + 1) for _ in range(count)]

    def _bound(self, count: int, least: int, what: str) -> None:
        """A count that the rest of the file can't hold is damage, not a reason to allocate."""
        if count * least > self.size - self._at:
            raise WeightsCorrupt(self.path, f"{what} that fit into {self.size} bytes", f"{count} of them")
        self._items += count
        if self._items > _MOST_ITEMS:
            raise WeightsCorrupt(self.path, f"a header of at most {_MOST_ITEMS} entries", f"{self._items}")
