"""Ways to choose codes and scales for weights; all fill MLC's formats.

A format multiplies `code - zero` by a scale for each group of columns: for 4 bits by `code - 7` and groups of
32. MLC's own rounding uses 15 of the 16 codes and positive scales, but its kernels take any code and any
sign, so the better ways here run wherever MLC's files run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from edge_router.architectures.quantization import Quantization
from edge_router.catalog.cards import QUANTIZERS
from edge_router.errors import UnknownName

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Scales = npt.NDArray[np.float16 | np.float32]

_GROUPS = 8  # worked on at once, so that they stay in the processor's cache

GPTQ = "gptq"  # needs more than moments: `compile.weights.gptq`
WEIGHTED = "weighted"  # takes moments where they are known

# Tried scales, as shares of the one with which the largest weight of a group is met exactly.
_SHARES = tuple(0.65 + 0.05 * step for step in range(10))
_REFINEMENTS = 2


class Quantizer(Protocol):
    def __call__(self, weights: Floats, moments: Floats | None, form: Quantization) -> tuple[Codes, Scales]:
        """Codes of shape (rows, columns) and scales of shape (rows, groups), the latter of `form.dtype`.

        `weights` has shape (rows, columns), columns being whole groups; `moments` (columns,) is the mean
        square of what each column is multiplied with, where that is known.
        """
        ...


def quantizer(name: str) -> Quantizer:
    """One that needs no more than moments: "gptq" is made for a matrix at a time. Raises `UnknownName`."""
    check_quantizer(name)
    return _SIMPLE[name]


def check_quantizer(name: str) -> None:
    """Raises `UnknownName`."""
    if name not in QUANTIZERS:
        near = difflib.get_close_matches(name, QUANTIZERS, n=2)
        raise UnknownName("quantizer", name, QUANTIZERS, near)


def round_to_nearest(weights: Floats, moments: Floats | None, form: Quantization) -> tuple[Codes, Scales]:
    """MLC's own, bit for bit: scale = max / zero, every step rounded to the format's type as there."""
    rows, columns = weights.shape

    def typed(values: Floats) -> Floats:
        return values.astype(form.dtype).astype(np.float32)

    zero = np.float32(form.zero)
    stored = typed(weights).reshape(rows, columns // form.group, form.group)
    scales = (np.abs(stored).max(-1, keepdims=True) / zero).astype(form.dtype)
    steps = scales.astype(np.float32)
    quotients = np.divide(stored, steps, out=np.zeros_like(stored), where=steps != 0)
    codes = np.clip(np.rint(typed(typed(quotients) + zero)), 0, 2 * zero).astype(np.uint8)
    return codes.reshape(rows, columns), scales[..., 0]


def signed(weights: Floats, moments: Floats | None, form: Quantization) -> tuple[Codes, Scales]:
    """Every code: the weight of largest magnitude in a group gets the highest, so scale = it / (zero + 1)."""
    groups = grouped(weights, form)
    return _encoded(groups, _extremes(groups) * np.float32(1 / (form.zero + 1)), form)


def weighted(weights: Floats, moments: Floats | None, form: Quantization) -> tuple[Codes, Scales]:
    """Every code, each scale searched for the least squared error of the products (`best_scales`).

    Without moments this is `signed`: plain squared error makes worse models.
    """
    if moments is None:
        return signed(weights, None, form)
    width, parts = _GROUPS * form.group, []
    for start in range(0, weights.shape[1], width):
        groups = grouped(weights[:, start : start + width], form)
        parts.append(_encoded(groups, best_scales(groups, moments[start : start + width], form), form))
    return np.concatenate([part[0] for part in parts], 1), np.concatenate([part[1] for part in parts], 1)


def best_scales(groups: Floats, moments: Floats, form: Quantization) -> Floats:
    """A scale for each group and row, shape (groups, rows); `groups` as `grouped` gives them.

    The error of a group is sum(moments * (weights - scale * levels)^2). For given levels its least is
    reached at scale = a / b and is smaller the larger a^2 / b, with a = sum(moments * weights * levels) and
    b = sum(moments * levels^2).
    """
    weight = np.ascontiguousarray(moments, np.float32).reshape(-1, 1, form.group)
    weighed, trial = weight.swapaxes(1, 2) * groups, np.empty_like(groups)

    def fit(inverses: Floats) -> tuple[Floats, Floats]:
        """The best scales for the levels that 1 / `inverses` lead to, and how good these levels are."""
        levels(groups, inverses[:, None], form, trial)
        a: Floats = np.einsum("gkr,gkr->gr", weighed, trial)
        np.multiply(trial, trial, out=trial)
        b: Floats = np.matmul(weight, trial)[:, 0]
        best = a * inverse(b)
        return best, best * a

    start = inverse(_extremes(groups) * np.float32(1 / (form.zero + 1)))
    found, merit = np.zeros_like(start), np.full_like(start, -1)
    for share in _SHARES:
        best, reached = fit(start * np.float32(1 / share))
        better = reached > merit
        np.copyto(found, best, where=better)
        np.copyto(merit, reached, where=better)
    for _ in range(_REFINEMENTS):
        found, _merit = fit(inverse(found))
    return found


def grouped(weights: Floats, form: Quantization) -> Floats:
    """(rows, columns) -> (groups, columns of one, rows): sums over a group then run along cache lines."""
    return np.ascontiguousarray(weights.T, np.float32).reshape(-1, form.group, len(weights))


def levels(weights: Floats, inverses: Floats, form: Quantization, out: Floats) -> Floats:
    """The whole numbers nearest to weight / scale that a code can stand for, into `out`."""
    np.multiply(weights, inverses, out=out)
    np.rint(out, out=out)
    return np.clip(out, np.float32(-form.zero), np.float32(form.zero + 1), out=out)


def inverse(values: Floats) -> Floats:
    """1 / value, and 0 for 0: a group of zeros gets level 0 and scale 0."""
    return np.divide(np.float32(1), values, out=np.zeros_like(values), where=values != 0)


def _extremes(groups: Floats) -> Floats:
    """The weight of largest magnitude of each group, with its sign; shape (groups, rows)."""
    high, low = groups.max(1), groups.min(1)
    return cast(Floats, np.where(high >= -low, high, low))


def _encoded(groups: Floats, scales: Floats, form: Quantization) -> tuple[Codes, Scales]:
    """Codes for the scales as they are stored, so after rounding them to the format's type."""
    stored = scales.astype(form.dtype)
    found = levels(groups, inverse(stored.astype(np.float32))[:, None], form, np.empty_like(groups))
    codes = (found + np.float32(form.zero)).astype(np.uint8).reshape(-1, groups.shape[2])
    return np.ascontiguousarray(codes.T), np.ascontiguousarray(stored.T)


_SIMPLE: Mapping[str, Quantizer] = MappingProxyType(
    {WEIGHTED: weighted, "signed": signed, "round": round_to_nearest}
)
