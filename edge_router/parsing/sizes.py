"""Amounts as people write them: memory, "12GiB", "12GB", "80%", and stretches of time."""

from __future__ import annotations

import re

from edge_router.errors import ConfigError
from edge_router.records import dataclass

_UNITS = {"b": 1} | {
    f"{letter}{tail}": base**power
    for power, letter in enumerate("kmgt", start=1)
    for tail, base in (("ib", 1024), ("b", 1000), ("", 1024), ("i", 1024))
}
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[a-z]*|%)")
_MOST = 1 << 50  # bytes; whoever asks for more has mistyped


@dataclass(frozen=True, slots=True)
class Share:
    """Of the memory that is free at the moment when it is used; 0 < share <= 1."""

    share: float


def parse_size(text: str, *, key: str = "weak.vram_budget", source: str = "") -> int | Share:
    """Bytes, or a share of what is free. GiB is 1024^3 and GB 1000^3; a bare G is GiB, as in most tools.

    `key` and `source` are for the error: what is set, and where. Raises `ConfigError`.
    """

    def refuse(reason: str) -> ConfigError:
        return ConfigError(key, text, reason, source)

    match = _AMOUNT.fullmatch(text.strip().lower())
    if match is None:
        raise refuse("must be an amount of memory such as 12GiB, 12GB or 80%")
    number, unit = float(match["number"]), match["unit"]
    if unit == "%":
        if not 0 < number <= 100:
            raise refuse("must be above 0% and at most 100%")
        return Share(number / 100)
    if not unit:
        raise refuse(f"needs a unit, such as {match['number']}GiB, {match['number']}GB or 80%")
    if unit not in _UNITS:
        raise refuse(f"the unit {match['unit']!r} is not known; known are GiB, GB, MiB, MB and %")
    size = int(number * _UNITS[unit])
    if not 1 <= size <= _MOST:
        raise refuse("must be more than nothing" if size < 1 else "is more memory than any machine has")
    return size


def in_bytes(size: int | Share, free: int) -> int:
    """`free` in bytes."""
    return int(free * size.share) if isinstance(size, Share) else size


def binary(count: int) -> str:
    """Bytes as memory is counted: 3.9 GiB, 512 MiB, 40 KiB."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 100 else f"{value:.1f} {unit}"


def span(seconds: float) -> str:
    """A stretch of time, in the largest unit of which it has one."""
    for unit, length in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
