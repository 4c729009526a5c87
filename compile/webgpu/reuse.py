"""Which tensors share a buffer: those that are not needed at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_router.program import Expression

_FEW, _MANY = 1, 1 << 12  # rows; sizes grow evenly with them, so two points tell which is larger


@dataclass(frozen=True, slots=True)
class Use:
    """From the first launch that touches a tensor to the last, both included; `size` in bytes."""

    first: int
    last: int
    size: str


def plan(uses: Mapping[str, Use]) -> tuple[dict[str, str], dict[str, Expression]]:
    """Tensor -> buffer, and the size of each buffer.

    A launch never reads and writes one buffer under two names, which WebGPU forbids.
    """
    homes: dict[str, str] = {}
    sizes: dict[str, str] = {}
    free_after: dict[str, int] = {}
    for name, use in sorted(uses.items(), key=lambda item: (item[1].first, -_size(item[1].size, _MANY))):
        free = [home for home, last in free_after.items() if last < use.first]
        home = min(free, key=lambda it: _growth(sizes[it], use.size)) if free else f"scratch{len(sizes)}"
        sizes[home] = _larger(sizes[home], use.size) if free else use.size
        homes[name], free_after[home] = home, use.last
    return homes, {home: Expression(size) for home, size in sizes.items()}


def _growth(held: str, wanted: str) -> tuple[int, int]:
    """How much a buffer must grow; then, how much of it would be left unused."""
    difference = _size(wanted, _MANY) - _size(held, _MANY)
    return max(0, difference), -difference


def _larger(one: str, other: str) -> str:
    for first, second in ((one, other), (other, one)):
        if all(_size(first, rows) >= _size(second, rows) for rows in (_FEW, _MANY)):
            return first
    return f"max({one}, {other})"


def _size(text: str, rows: int) -> int:
    return Expression(text)({"n": rows})
