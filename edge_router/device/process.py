"""The memory of this process: how much it holds, has held at most, and whether there is room for more."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

_GLIBC_TRIM, _GLIBC_INFO = "malloc_trim", "mallinfo2"


def resident_bytes() -> int:
    """What the process holds in memory now, its share of files included."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The most that the process has held since it began or, on Linux, since `forget_peak`."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> bool:
    """Let `peak_bytes` count from now on; False where the system can't do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def allocated_bytes() -> int | None:
    """What the C library has handed out, touched or not; None where it does not tell (only glibc does)."""
    libc = _libc(_GLIBC_INFO)
    if libc is None:
        return None
    libc.mallinfo2.restype = _MallocInfo
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def give_back() -> None:
    """Return freed memory to the system, as far as the C library keeps some for later."""
    libc = _libc(_GLIBC_TRIM)
    if libc is not None:
        libc.malloc_trim(ctypes.c_size_t(0))


def can_reserve(count: int) -> bool:
    """Whether the system would give this process `count` bytes more: limits, quotas, Windows' commit charge.

    Nothing is touched, so a yes from a system that promises more than it has means little.
    """
    private = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    try:
        mmap.mmap(-1, count, **private).close()
    except (OSError, ValueError, OverflowError, MemoryError):
        return False
    return True


class _MallocInfo(ctypes.Structure):
    """struct mallinfo2; uordblks: from the heap, hblkhd: mapped one by one."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _libc(function: str) -> ctypes.CDLL | None:
    """The C library, if it is one that has `function`."""
    if sys.platform == "win32":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, function) else None
