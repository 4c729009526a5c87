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

from edge_router.compile.quantizers import Codes, Floats, Scales, best_scales, grouped, inverse, levels
from edge_router.quantization import Quantization

_DAMPING = 0.01  # of the mean variance, added to each: directions that the texts never took count a little


class Gptq:
    """The quantizer of one matrix whose inputs have this `covariance`, shape (columns, columns)."""

    def __init__(self, covariance: Floats) -> None:
        self._feedback = _feedback(covariance)
        self._variances = np.ascontiguousarray(np.diag(covariance))

    def __call__(self, weights: Floats, moments: Floats | None, form: Quantization) -> tuple[Codes, Scales]:
        """See `Quantizer`. `moments` are not needed: the covariance holds them."""
        columns, rows = weights.shape[1], len(weights)
        known = len(self._feedback)
        groups = grouped(weights, form)
        wanted, errors = groups.reshape(columns, rows), np.zeros((columns, rows), np.float32)
        codes, scales = np.empty((columns, rows), np.uint8), np.empty((len(groups), rows), form.dtype)
        variances = np.pad(self._variances, (0, columns - known))
        for number, group in enumerate(groups):
            start = number * form.group
            stop = min(start + form.group, known)
            aims = group[: stop - start] + self._feedback[:start, start:stop].T @ errors[:start]
            met = np.zeros((1, form.group, rows), np.float32)
            met[0, : stop - start] = aims
            found = best_scales(met, variances[start : start + form.group], form)[0]
            scales[number] = found
            scale = scales[number].astype(np.float32)
            self._choose(aims, wanted, errors, codes, start, scale, form)
        codes[known:] = form.zero
        return np.ascontiguousarray(codes.T), np.ascontiguousarray(scales.T)

    def _choose(
        self,
        aims: Floats,
        wanted: Floats,
        errors: Floats,
        codes: Codes,
        start: int,
        scale: Floats,
        form: Quantization,
    ) -> None:
        """One group's columns, whose `aims` hold the feedback of the groups before."""
        inverses, level, spread = inverse(scale), np.empty_like(scale), np.empty_like(aims)
        for place, aim in enumerate(aims):
            column = start + place
            levels(aim, inverses, form, level)
            codes[column] = level + np.float32(form.zero)
            np.multiply(level, scale, out=level)
            np.subtract(wanted[column], level, out=errors[column])
            weights = self._feedback[column, column + 1 : start + len(aims), None]
            np.multiply(weights, errors[column], out=spread[place + 1 :])
            aims[place + 1 :] += spread[place + 1 :]


def _feedback(covariance: Floats) -> Floats:
    """R[j, k] / R[k, k], upper triangular."""
    damped = covariance.astype(np.float64)
    diagonal = np.einsum("ii->i", damped)
    diagonal += _DAMPING * (diagonal.mean() or 1.0)
    # Cholesky's factor is lower triangular; with rows and columns in reverse it becomes upper.
    factor = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return cast(Floats, (factor / np.diag(factor)).astype(np.float32))
