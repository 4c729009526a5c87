"""What a compiled library says of its own buffers, kept beside it: asking it would mean to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edge_router.parsing import strict_json

USAGE = "memory.json"
_CALLED = ("embed", "batch_prefill", "decode")
_TOGETHER = "batch_decode"  # called for several conversations only
_PAGED = ("paged_prefill", "paged_decode", "paged_batch_decode")  # where the KV cache is ours


def write_usage(library: Path, usage: Mapping[str, int]) -> None:
    """`usage`: bytes by function, the compiler's `memory_usage`."""
    library.with_name(USAGE).write_text(json.dumps(dict(usage), indent=1), encoding="utf-8")


def library_bytes(library: Path, sequences: int) -> int | None:
    """Of all functions that are called, whose buffers stay for the next call; None where nothing is known."""
    try:
        usage = strict_json.read_object(library.with_name(USAGE))
        return usage_bytes(usage, sequences)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def usage_bytes(usage: Mapping[str, int], sequences: int) -> int:
    """Raises `KeyError` for a library that is not ours."""
    if _PAGED[-1] in usage:
        return sum(usage[name] for name in _PAGED)
    return sum(usage[name] for name in (*_CALLED, *([_TOGETHER] if sequences > 1 else [])))
