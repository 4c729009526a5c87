"""How fast weights came the last time, from which the time of the next fetch is told."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from edge_router.parsing import strict_json
from edge_router.system.disk import write_text

STATED = 100e6 / 8  # bytes per second, where nothing was fetched yet: 100 Mbit/s, and said to be that
_LEAST_BYTES, _LEAST_S = 8 << 20, 1.0  # less is mostly waiting


def measured_rate(downloads: Path) -> float | None:
    """Bytes per second of the last fetch that was large enough to tell; None where there was none."""
    try:
        rate = strict_json.read_object(_file(downloads))["bytes_per_s"]
    except (OSError, ValueError, KeyError):
        return None
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def note_rate(downloads: Path, count: int, seconds: float) -> None:
    """Remember a fetch of `count` bytes; where that can't be written nothing is lost."""
    if count >= _LEAST_BYTES and seconds >= _LEAST_S:
        with suppress(OSError):
            write_text(_file(downloads), json.dumps({"bytes_per_s": round(count / seconds)}))


def _file(downloads: Path) -> Path:
    return downloads / "rate.json"
