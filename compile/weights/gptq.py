"""Quantizing with feedback: each column makes up for the errors of those before it.

What counts is not how well a weight is met but the product with what it is multiplied with. If x has the
covariance H = R R^T, R being upper triangular, the mean squared error of W x is |E R|^2, E being what is
lost of W. Column k of E R is R[k, k] * (E[k] + sum over j < k of E[j] R[j, k] / R[k, k]), and the sum is
known when column k is chosen, so it is added to what is to be met. This gives the codes of GPTQ (Frantar et
al. 2022, arXiv:2210.17323), written with H itself in place of its inverse, as LDLQ (Chee et al. 2023,
arXiv:2307.13304).
"""

from __future__ import annotations

from typing import cast

import numpy as np

from edge_router.compile.weights.quantizers import (
    Codes,
    Floats,
    Scales,
    best_scales,
    grouped,
    inverse,
    levels,
)
from edge_router.quantization import Quantization

_DAMPING = 0.01  # of the mean variance, added to each: directions that the texts never took count a little


class Gptq:
    """The quantizer of one matrix whose inputs have this `covariance`, shape (columns, columns).

    What fills up the last group of `form` is an input that is always 0.
    """

    def __init__(self, covariance: Floats, form: Quantization) -> None:
        columns = len(covariance)
        filled = np.pad(covariance, (0, form.groups(columns) * form.group - columns))
        self._feedback = _feedback(filled)
        self._variances = np.ascontiguousarray(np.diag(filled))

    def __call__(self, weights: Floats, moments: Floats | None, form: Quantization) -> tuple[Codes, Scales]:
        """See `Quantizer`. `moments` are not needed: the covariance holds them."""
        groups = grouped(weights, form)
        codes, errors = np.empty(groups.shape, np.uint8), np.empty_like(groups)
        scales = np.empty((len(groups), len(weights)), form.dtype)
        lost = errors.reshape(-1, len(weights))  # the same, column by column
        for number, group in enumerate(groups):
            start, stop = number * form.group, (number + 1) * form.group
            aims = group + self._feedback[:start, start:stop].T @ lost[:start]
            scales[number] = best_scales(aims[None], self._variances[start:stop], form)[0]
            scale, within = scales[number].astype(np.float32), self._feedback[start:stop, start:stop]
            codes[number] = _codes(group, aims, scale, within, errors[number], form)
        return np.ascontiguousarray(codes.reshape(lost.shape).T), np.ascontiguousarray(scales.T)


def _codes(
    wanted: Floats, aims: Floats, scale: Floats, feedback: Floats, errors: Floats, form: Quantization
) -> Codes:
    """Those of one group; what its columns lose goes into `errors`.

    `wanted` and `aims` have shape (columns, rows); the aims already hold the feedback of the groups before.
    """
    codes, spread = np.empty(aims.shape, np.uint8), np.empty_like(aims)
    inverses, level = inverse(scale), np.empty_like(scale)
    for column, aim in enumerate(aims):
        levels(aim, inverses, form, level)
        codes[column] = level + np.float32(form.zero)
        np.multiply(level, scale, out=level)
        np.subtract(wanted[column], level, out=errors[column])
        later = slice(column + 1, None)
        np.multiply(feedback[column, later, None], errors[column], out=spread[later])
        aims[later] += spread[later]
    return codes


def _feedback(covariance: Floats) -> Floats:
    """R[j, k] / R[k, k], upper triangular."""
    damped = covariance.astype(np.float64)
    diagonal = np.einsum("ii->i", damped)
    diagonal += _DAMPING * (diagonal.mean() or 1.0)
    # Cholesky's factor is lower triangular; with rows and columns in reverse it becomes upper.
    factor = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return cast(Floats, (factor / np.diag(factor)).astype(np.float32))
