"""Amounts of memory as labelled products, which a reader can check against the shapes they come from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, get_args

from edge_router.records import dataclass

Part = Literal["parameters", "kv_cache", "workspace", "router", "runtime", "margin"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, slots=True)
class Product:
    """`factors` multiply to bytes: (("layers", 32), ("heads", 8), ...)."""

    part: Part
    name: str
    factors: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        return math.prod(number for _, number in self.factors)

    def __str__(self) -> str:
        return " x ".join(f"{number:,} {label}" for label, number in self.factors)


def product(part: Part, name: str, **factors: int) -> Product:
    """`product("kv_cache", "pages", layers=32, bytes=2)`; an underscore in a label is shown as a space."""
    return Product(part, name, tuple((label.replace("_", " "), number) for label, number in factors.items()))


def total(products: Iterable[Product], part: Part | None = None) -> int:
    """Bytes of all, or of one part."""
    return sum(item.bytes for item in products if part is None or item.part == part)


def rounded(amount: int, granularity: int) -> int:
    return -(-amount // granularity) * granularity
