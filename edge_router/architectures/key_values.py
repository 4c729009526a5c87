"""How keys and values lie in a page of the KV cache: as numbers of a type, or as bytes with scales."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from types import MappingProxyType

from edge_router.records import dataclass
from edge_router.webgpu_program import PAGE_SIZE

SCALE_BYTES = 2  # float16
LIMIT = 127  # of a byte's magnitude: -128 stands for nothing
_BYTES: Mapping[str, int] = MappingProxyType({"int8": 1, "float16": 2, "bfloat16": 2, "float32": 4})


def stored_type(asked: str, own: str) -> str:
    """The type in which keys and values are kept; `own` is that of the weights' format."""
    return own if asked == "auto" else asked


@dataclass(frozen=True, slots=True)
class PageForm:
    """Pages of `PAGE_SIZE` tokens, with `heads` of keys and as many of values, `size` channels each.

    `dtype` int8: each head of each token has a scale of its own, its largest magnitude over 127. So a token
    is rounded alike whatever lies beside it: nothing that is there changes when tokens are added, popped,
    forked, forgotten, or computed together. A head's scales follow its bytes in the same row.
    """

    dtype: str
    heads: int
    size: int

    @property
    def rounded(self) -> bool:
        return self.dtype == "int8"

    def shape(self, layers: int, pages: int) -> tuple[int, ...]:
        """Of the array that holds all: [layers, pages, key or value, head, ...]."""
        return (layers, pages, 2, self.heads, *self.row)

    @property
    def row(self) -> tuple[int, ...]:
        """Of one page and head: place and channel, or all bytes and then all scales."""
        return (PAGE_SIZE * (self.size + SCALE_BYTES),) if self.rounded else (PAGE_SIZE, self.size)

    @property
    def token_bytes(self) -> int:
        """Of one token's key or value in one head."""
        return prod(self.row) * _BYTES[self.dtype] // PAGE_SIZE

    @property
    def page_bytes(self) -> int:
        """Of one layer."""
        return 2 * self.heads * PAGE_SIZE * self.token_bytes
