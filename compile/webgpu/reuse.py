"""Which tensors share a buffer: those that are not needed at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from edge_router.records import dataclass
from edge_router.webgpu_program import Expression

_MANY = 1 << 12  # rows; for which sizes are made to fit well


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
    tenants: dict[str, list[str]] = {}  # the sizes that a buffer must have, without those that others cover
    free_after: dict[str, int] = {}
    for name, use in sorted(uses.items(), key=lambda item: (item[1].first, -_size(item[1].size, _MANY))):
        free = [home for home, last in free_after.items() if last < use.first]
        home = min(free, key=lambda it: _growth(tenants[it], use.size)) if free else f"scratch{len(tenants)}"
        tenants[home] = _with(tenants.get(home, []), use.size)
        homes[name], free_after[home] = home, use.last
    return homes, {home: Expression(reduce(_larger, sizes)) for home, sizes in tenants.items()}


def _growth(held: Sequence[str], wanted: str) -> tuple[int, int]:
    """How much a buffer must grow; then, how much of it would be left unused."""
    difference = _size(wanted, _MANY) - max(_size(size, _MANY) for size in held)
    return max(0, difference), -difference


def _with(sizes: Sequence[str], wanted: str) -> list[str]:
    if any(_covers(size, wanted) for size in sizes):
        return list(sizes)
    return [*(size for size in sizes if not _covers(wanted, size)), wanted]


def _covers(large: str, small: str) -> bool:
    """For any number of rows: sizes are a fixed part and one for each row."""
    (start, slope), (other_start, other_slope) = _line(large), _line(small)
    return start >= other_start and slope >= other_slope


def _line(text: str) -> tuple[int, int]:
    return _size(text, 0), _size(text, 1) - _size(text, 0)


def _larger(one: str, other: str) -> str:
    return f"max({one}, {other})"


def _size(text: str, rows: int) -> int:
    return Expression(text)({"n": rows})
