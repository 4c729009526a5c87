"""Ways to choose 4-bit codes and scales for weights; all fill MLC's one format.

The format multiplies `code - 7` by a float16 scale for each group of 32 columns. MLC's own rounding uses 15
of the 16 codes and positive scales, but its kernels take any code and any sign, so the better ways here run
wherever MLC's files run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from edge_router.errors import UnknownName

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Scales = npt.NDArray[np.float16]

GROUP = 32  # columns that share a scale
ZERO = 7  # the code of 0
_LOWEST, _HIGHEST = -ZERO, 15 - ZERO
_COLUMNS = 512  # of a block that is worked on at once, so that it stays in the processor's cache

# Tried scales, as shares of the one with which the largest weight of a group is met exactly.
_SHARES = tuple(0.65 + 0.05 * step for step in range(10))
_REFINEMENTS = 2


class Quantizer(Protocol):
    def __call__(self, weights: Floats, moments: Floats | None) -> tuple[Codes, Scales]:
        """Codes of shape (rows, columns) and scales of shape (rows, columns / 32).

        `weights` has shape (rows, columns), columns being a multiple of 32; `moments` (columns,) is the mean
        square of what each column is multiplied with, where that is known.
        """
        ...


def quantizer(name: str) -> Quantizer:
    """Raises `UnknownName`."""
    if name not in QUANTIZERS:
        near = difflib.get_close_matches(name, QUANTIZERS, n=2)
        raise UnknownName("quantizer", name, tuple(QUANTIZERS), near)
    return QUANTIZERS[name]


def round_to_nearest(weights: Floats, moments: Floats | None) -> tuple[Codes, Scales]:
    """MLC's own, bit for bit: scale = max / 7, every step rounded to float16 as its kernels do."""
    rows, columns = weights.shape
    halves = _half(weights).reshape(rows, columns // GROUP, GROUP)
    scales = (np.abs(halves).max(-1, keepdims=True) / np.float32(ZERO)).astype(np.float16)
    steps = scales.astype(np.float32)
    quotients = np.divide(halves, steps, out=np.zeros_like(halves), where=steps != 0)
    shifted = _half(_half(quotients) + np.float32(ZERO))
    codes = np.clip(np.rint(shifted), 0, 2 * ZERO).astype(np.uint8)
    return codes.reshape(rows, columns), scales[..., 0]


def signed(weights: Floats, moments: Floats | None) -> tuple[Codes, Scales]:
    """All 16 codes: the weight of largest magnitude in a group gets code 15, so scale = it / 8."""
    groups = _groups(weights)
    return _encoded(groups, _extremes(groups) * np.float32(1 / _HIGHEST))


def weighted(weights: Floats, moments: Floats | None) -> tuple[Codes, Scales]:
    """All 16 codes, each scale searched for the least squared error of the products.

    The error of a group is sum(moments * (weights - scale * levels)^2). For given levels its least is
    reached at scale = a / b and is smaller the larger a^2 / b, with a = sum(moments * weights * levels) and
    b = sum(moments * levels^2). Without moments this is `signed`: plain squared error makes worse models.
    """
    if moments is None:
        return signed(weights, None)
    parts = [
        _weighted(weights[:, start : start + _COLUMNS], moments[start : start + _COLUMNS])
        for start in range(0, weights.shape[1], _COLUMNS)
    ]
    return np.concatenate([part[0] for part in parts], 1), np.concatenate([part[1] for part in parts], 1)


def _weighted(weights: Floats, moments: Floats) -> tuple[Codes, Scales]:
    groups = _groups(weights)
    weight = np.ascontiguousarray(moments, np.float32).reshape(-1, 1, GROUP)
    weighed, levels = weight.swapaxes(1, 2) * groups, np.empty_like(groups)

    def fit(inverses: Floats) -> tuple[Floats, Floats]:
        """The best scales for the levels that 1 / `inverses` lead to, and how good these levels are."""
        _levels(groups, inverses, levels)
        a: Floats = np.einsum("gkr,gkr->gr", weighed, levels)
        np.multiply(levels, levels, out=levels)
        b: Floats = np.matmul(weight, levels)[:, 0]
        best = a * _inverse(b)
        return best, best * a

    start = _inverse(_extremes(groups) * np.float32(1 / _HIGHEST))
    found, merit = np.zeros_like(start), np.full_like(start, -1)
    for share in _SHARES:
        best, reached = fit(start * np.float32(1 / share))
        better = reached > merit
        np.copyto(found, best, where=better)
        np.copyto(merit, reached, where=better)
    for _ in range(_REFINEMENTS):
        found, _merit = fit(_inverse(found))
    return _encoded(groups, found)


def _groups(weights: Floats) -> Floats:
    """(rows, columns) -> (columns / 32, 32, rows): sums over a group then run along whole cache lines."""
    return np.ascontiguousarray(weights.T, np.float32).reshape(-1, GROUP, len(weights))


def _extremes(groups: Floats) -> Floats:
    """The weight of largest magnitude of each group, with its sign; shape (columns / 32, rows)."""
    high, low = groups.max(1), groups.min(1)
    return cast(Floats, np.where(high >= -low, high, low))


def _levels(groups: Floats, inverses: Floats, out: Floats) -> Floats:
    """The whole numbers nearest to weight / scale that a code can stand for."""
    np.multiply(groups, inverses[:, None, :], out=out)
    np.rint(out, out=out)
    return np.clip(out, np.float32(_LOWEST), np.float32(_HIGHEST), out=out)


def _encoded(groups: Floats, scales: Floats) -> tuple[Codes, Scales]:
    """Codes for the scales as they are stored, so after rounding them to float16."""
    stored = scales.astype(np.float16)
    levels = _levels(groups, _inverse(stored.astype(np.float32)), np.empty_like(groups))
    codes = (levels + np.float32(ZERO)).astype(np.uint8).reshape(-1, groups.shape[2])
    return np.ascontiguousarray(codes.T), np.ascontiguousarray(stored.T)


def _inverse(values: Floats) -> Floats:
    """1 / value, and 0 for 0: a group of zeros gets level 0 and scale 0."""
    return np.divide(np.float32(1), values, out=np.zeros_like(values), where=values != 0)


def _half(values: Floats) -> Floats:
    return cast(Floats, values.astype(np.float16).astype(np.float32))


QUANTIZERS: Mapping[str, Quantizer] = MappingProxyType(
    {"weighted": weighted, "signed": signed, "round": round_to_nearest}
)
