"""An NVIDIA GPU's memory through the driver alone: says what is free, and holds some where that is asked.

A program: each line on standard input is answered by one with the number of free bytes. "free" only asks;
"leave N" takes memory until N bytes are left, and keeps it until standard input ends.
"""

from __future__ import annotations

import ctypes
import sys

_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
_STEP = 64 << 20  # bytes of one allocation; whatever is less is not worth the exactness


class Driver:
    """A context on the first GPU. Raises `OSError` without a driver, or without a GPU."""

    def __init__(self) -> None:
        self._cuda = _load()
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuCtxCreate_v2", ctypes.byref(context), 0, device)

    def free(self) -> int:
        free, whole = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(whole))
        return free.value

    def leave(self, count: int) -> int:
        while self.free() >= count + _STEP:
            self._call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(_STEP))
        return self.free()

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._cuda, name)(*arguments)
        if status:
            raise OSError(f"{name} failed with CUDA error {status}")


def _load() -> ctypes.CDLL:
    for name in _DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("no NVIDIA driver is installed")


def main() -> None:
    try:
        driver = Driver()
    except OSError as error:
        sys.exit(str(error))
    _say(driver.free())
    for line in sys.stdin:
        words = line.split()
        _say(driver.leave(int(words[1])) if words[0] == "leave" else driver.free())


def _say(count: int) -> None:
    sys.stdout.write(f"{count}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
