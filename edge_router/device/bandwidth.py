"""How fast this machine reads its memory: the bound on decoding."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from edge_router.parsing import strict_json
from edge_router.system.disk import write_text
from edge_router.system.paths import Paths

_READ = 128 << 20  # bytes in all: several times what processors keep close
_RUNS = 8
_PAUSE_S = 0.02  # between them: what another program does for a moment must not count


def memory_bandwidth(threads: int) -> float:
    """Bytes per second that `threads` read together, the best of several runs. Takes about 0.3 s."""
    import numpy as np

    threads = max(1, threads)
    blocks = [np.ones(_READ // threads // 8, np.int64) for _ in range(threads)]
    with ThreadPoolExecutor(len(blocks)) as pool:

        def seconds() -> float:
            begin = time.perf_counter()
            list(pool.map(np.bitwise_or.reduce, blocks))  # numpy lets go of the interpreter meanwhile
            return time.perf_counter() - begin

        best = seconds()
        for _ in range(_RUNS - 1):
            time.sleep(_PAUSE_S)
            best = min(best, seconds())
        return sum(block.nbytes for block in blocks) / best


def best_bandwidth(
    threads: int, memory: Path, machine: str, *, measure: Callable[[int], float] = memory_bandwidth
) -> float:
    """The best that was ever measured here, now included, for what slows a measurement is never the memory.

    It is kept in the file `memory` for as long as `machine`, a text that tells machines apart, is the same.
    """
    key = f"{machine}, {threads} threads"
    known = kept_bandwidth(memory, key)
    best = max(known, measure(threads))
    if best > known:
        with suppress(OSError):  # a read-only home only costs the next plan a worse guess
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_text(memory, json.dumps({"key": key, "bytes_per_s": best}))
    return best


def bandwidth_file(paths: Paths) -> Path:
    """Where the best of this machine is kept."""
    return paths.artifacts / "bandwidth.json"


def kept_bandwidth(memory: Path, key: str | None = None) -> float:
    """Bytes per second that the file `memory` holds, of `key` where one is given; 0.0 where it holds none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = strict_json.read_object(memory)
        return float(kept["bytes_per_s"]) if key in (None, kept["key"]) else 0.0
    return 0.0
