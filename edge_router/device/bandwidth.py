"""How fast this machine reads its memory: the bound on decoding."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

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
