"""Keys and values as bytes with scales, in numpy: what the kernels of an 8-bit cache do, number by number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_router.architectures.key_values import LIMIT
from edge_router.compile.readers.base import Floats


def as_bytes(numbers: Floats) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """[..., channels] as bytes, and [...] the scale of each row."""
    peaks = np.abs(numbers).max(-1).astype(np.float32)
    scales = (peaks * np.float32(1 / LIMIT)).astype(np.float16)
    known = scales.astype(np.float32)
    codes = np.rint(numbers.astype(np.float32) / np.where(known > 0, known, np.float32(1))[..., None])
    return np.clip(codes, -LIMIT, LIMIT).astype(np.int8), scales


def kept(numbers: Floats, dtype: str) -> Floats:
    """What is read back of a KV cache that keeps them as `dtype`; its kernels are handed float16."""
    halves = numbers.astype(np.float16).astype(np.float32)
    return rounded(halves) if dtype == "int8" else halves


def rounded(numbers: Floats) -> Floats:
    """What is read back of them."""
    codes, scales = as_bytes(numbers)
    return codes.astype(np.float32) * scales.astype(np.float32)[..., None]
