"""What a compiled library says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_router.architectures.key_values import PageForm
from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.engines.tvm.cache import PagedCache, Sizes
from edge_router.engines.tvm.states import StateMemory
from edge_router.errors import ArtifactCorrupt


class Metadata:
    """Of the library at that path. Raises `ArtifactCorrupt` for what is missing."""

    def __init__(self, library: Path, values: object) -> None:
        self._library = library
        self._values: Mapping[str, Any] = values if isinstance(values, dict) else {}

    def number(self, name: str) -> int:
        value = self._values.get(name)
        if not isinstance(value, int):
            raise ArtifactCorrupt(self._library, f"its metadata has no {name}")
        return value

    def parameters(self) -> Sequence[Mapping[str, Any]]:
        """Name, shape and type of each array that it asks for."""
        asked: Sequence[Mapping[str, Any]] = self._values.get("params", ())
        return asked

    @property
    def pages(self) -> Mapping[str, Any] | None:
        """Of a library whose KV cache is in pages of ours."""
        return self._values.get("pages")

    @property
    def heads(self) -> Mapping[str, int]:
        sizes: Mapping[str, int] = self._values.get("kv_cache", {})
        return sizes

    def cache_bytes(self, sizes: Sizes) -> int | None:
        """Of the KV cache; None where the library does not say how it stores its numbers."""
        form, heads, kept = QUANTIZATIONS.get(str(self._values.get("quantization"))), self.heads, self.pages
        if form is None:
            return None
        layers, key_value, size = PagedCache.shape(kept or {}, heads)
        each = sizes.pages if kept is None else PagedCache.pages_each(sizes, kept)
        page = PageForm(form.dtype if kept is None else str(kept["dtype"]), key_value, size)
        keys = sizes.sequences * each * layers * page.page_bytes
        if kept is None or "states" not in kept:
            return keys
        numbers = 2 * sizes.context * layers * key_value * size
        return keys + StateMemory.bytes(kept, sizes.sequences, numbers)
