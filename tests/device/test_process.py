"""The memory of this process, before and after it takes and gives back some."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest

from edge_router.device import process

MIB = 1 << 20


def test_what_is_touched_is_held() -> None:
    before = process.resident_bytes()
    held = mmap.mmap(-1, 64 * MIB)  # where a bytearray may lie, other tests may have left room
    for place in range(0, 64 * MIB, mmap.PAGESIZE):
        held[place] = 1
    assert 60 * MIB < process.resident_bytes() - before < 80 * MIB
    assert process.peak_bytes() >= process.resident_bytes() - MIB
    held.close()


def test_the_peak_outlives_what_it_was_made_of() -> None:
    held = bytearray(64 * MIB)
    peak = process.peak_bytes()
    del held
    process.give_back()
    assert process.peak_bytes() >= peak - MIB
    if process.forget_peak():
        assert process.peak_bytes() < peak - 32 * MIB


ALLOCATING = """
import ctypes
from edge_router.device import process

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
before, held = process.allocated_bytes(), process.resident_bytes()
libc.malloc(ctypes.c_size_t(64 << 20))
print(process.allocated_bytes() - before, process.resident_bytes() - held)
"""


@pytest.mark.skipif(process.allocated_bytes() is None, reason="only glibc tells")
def test_what_is_allocated_counts_before_it_is_touched() -> None:
    """In a process of its own, where nothing else gives memory back meanwhile."""
    done = subprocess.run([sys.executable, "-c", ALLOCATING], capture_output=True, text=True, check=True)
    allocated, resident = map(int, done.stdout.split())
    assert 64 * MIB <= allocated < 66 * MIB
    assert resident < 8 * MIB


def test_room_is_asked_for_without_being_taken() -> None:
    before = process.resident_bytes()
    assert process.can_reserve(256 * MIB)
    assert process.resident_bytes() - before < 8 * MIB
    assert not process.can_reserve(1 << 62)
    assert not process.can_reserve(1 << 70)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are Unix'")
def test_a_limit_on_the_process_counts() -> None:
    code = """
import resource
from edge_router.device.process import can_reserve
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), resource.RLIM_INFINITY))
print(can_reserve(50 << 20), can_reserve(150 << 20))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_systems_that_tell_less(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(process, "_libc", lambda function: None)
    assert process.allocated_bytes() is None
    process.give_back()
    monkeypatch.setattr(process, "Path", lambda text: tmp_path / "not" / "there")
    assert not process.forget_peak()
    assert process.peak_bytes() > 10 * MIB
