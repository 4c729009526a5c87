"""Memory on a processor that a compiled library may read and write."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros. TVM wants buffers to begin at a multiple of 64 bytes, numpy promises 16."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(kind).reshape(shape)
