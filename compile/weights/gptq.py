"""Quantizing with feedback: each column makes up for the errors of those before it.

What counts is not how well a weight is met but the product with what it is multiplied with. If x has the
covariance H = R R^T, R being upper triangular, the mean squared error of W x is |E R|^2, E being what is
lost of W. Column k of E R is R[k, k] * (E[k] + sum over j < k of E[j] R[j, k] / R[k, k]), and the sum is
known when column k is chosen, so it is added to what is to be met. This gives the codes of GPTQ (Frantar et
al. 2022, arXiv:2210.17323), written with H itself in place of its inverse, as LDLQ (Chee et al. 2023,
arXiv:2307.13304). Each group's scale is the one of several by which this sum comes out least.

Where H is known by r common factors, H = D + U U^T with D diagonal, the sum over the columns before a group
is (sum of E[j] U[j]) V: r numbers of each row are all that later groups need to know of earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from edge_router.architectures.quantization import Quantization
from edge_router.compile.kernels.quantize import TILE, FeedbackKernels, feedback_kernels, tensor
from edge_router.compile.weights.quantizers import Codes, Floats, Scales

_DAMPING = 0.01  # of the mean variance, added to each: directions that the texts never took count a little
_PIECE = 32  # rows


class Feedback(Protocol):
    """What columns owe to the errors of others, in groups of columns; as the kernels take it.

    `counts` says what a squared error of a column counts once its feedback is in, `within` is the feedback
    from earlier columns of a group to later ones, and `before` that from what is known of earlier groups.
    """

    counts: list[Any]  # (columns of a group,) each
    within: list[Any]  # (columns of a group, the same)
    before: list[Any]  # (known, columns of a group)

    def known(self, errors: Floats) -> Known:
        """That of `errors` (columns, rows), which fill up group by group."""
        ...


class Known(Protocol):
    """What is known of the groups that are chosen."""

    numbers: Any

    def add(self, group: int, kernels: FeedbackKernels) -> None:
        """The errors of a group are there."""
        ...


class Gptq:
    """The quantizer of one matrix, by the feedback among its inputs.

    What fills up the last group of a format is an input that is always 0.
    """

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback

    @classmethod
    def of_covariance(cls, covariance: Floats, form: Quantization) -> Gptq:
        """Of inputs with this one, shape (columns, columns)."""
        columns = len(covariance)
        filled = np.pad(covariance, (0, form.groups(columns) * form.group - columns))
        return cls(_Dense(filled, form.group))

    @classmethod
    def of_loadings(cls, moments: Floats, loadings: Floats, form: Quantization) -> Gptq:
        """Of inputs with these mean squares (columns,) and common factors (columns, factors)."""
        missing = form.groups(len(moments)) * form.group - len(moments)
        wide = -loadings.shape[1] % TILE
        filled = np.pad(loadings, ((0, missing), (0, wide)))
        return cls(_Factors(np.pad(moments, (0, missing)), filled, form.group))

    def __call__(self, weights: Floats, moments: Floats | None, form: Quantization) -> tuple[Codes, Scales]:
        """See `Quantizer`. `moments` are not needed: the feedback holds them."""
        kernels, (rows, columns) = feedback_kernels(form), weights.shape
        wanted = np.zeros((columns, kernels.padded(rows)), np.float32)
        wanted[:, :rows] = weights.T
        codes, errors = np.empty(wanted.shape, np.uint8), np.empty_like(wanted)
        scales = np.empty((columns // form.group, rows), form.dtype)
        scale, aims = np.zeros(wanted.shape[1], np.float32), np.empty_like(wanted[: form.group])
        known, feedback = self._feedback.known(errors), self._feedback
        wants, towards, of, into, lost = [tensor(array) for array in (wanted, aims, scale, codes, errors)]
        for group in range(len(scales)):
            start, within = group * form.group, feedback.within[group]
            if group:
                kernels.add_product(wants, start, feedback.before[group], known.numbers, 0, towards)
            else:
                aims[:] = wanted[: form.group]
            kernels.search(wants, start, towards, within, feedback.counts[group], of)
            scales[group] = scale[:rows]
            scale[:rows] = scales[group]  # as it is stored
            kernels.encode(wants, start, towards, within, of, into, lost)
            known.add(group, kernels)
        return np.ascontiguousarray(codes[:, :rows].T), np.ascontiguousarray(scales.T)


class _Dense:
    """By a whole covariance: all errors are known."""

    def __init__(self, covariance: Floats, group: int) -> None:
        damped = covariance.astype(np.float64)
        diagonal = np.einsum("ii->i", damped)
        diagonal += _damping(diagonal)
        factor = _upper(damped)
        own = np.diag(factor)
        found, spans = factor / own, [slice(at, at + group) for at in range(0, len(damped), group)]
        self.counts = [_shared(own[span] * own[span]) for span in spans]
        self.within = [_shared(found[span, span]) for span in spans]
        self.before: list[Any] = [
            _shared(found[: span.start, span]) if span.start else None for span in spans
        ]

    def known(self, errors: Floats) -> Known:
        return _Errors(errors)


class _Errors:
    def __init__(self, errors: Floats) -> None:
        self.numbers = tensor(errors)

    def add(self, group: int, kernels: FeedbackKernels) -> None:
        pass  # whoever fills them up has done it


class _Factors:
    """By common factors: each group's errors are known by as many sums."""

    def __init__(self, moments: Floats, loadings: Floats, group: int) -> None:
        own = np.maximum(moments - np.einsum("cf,cf->c", loadings, loadings), 0) + _damping(moments)
        self._columns = loadings.shape[1]
        spans = [slice(at, at + group) for at in range(0, len(moments), group)]
        self._loadings = [_shared(loadings[span]) for span in spans]
        self.counts, self.within, self.before = list[Any](), list[Any](), list[Any]()
        left = np.eye(self._columns)  # the factors' covariance, where all later columns are known
        for span in reversed(spans):
            spread = _product(left, loadings[span].T.astype(np.float64))
            factor = _upper(loadings[span] @ spread + np.diag(own[span]))
            towards = np.linalg.solve(factor, spread.T).T  # R[j, k] is U[j] times column k of it
            left -= _product(towards, towards.T)
            diagonal = np.diag(factor)
            self.counts.insert(0, _shared(diagonal * diagonal))
            self.within.insert(0, _shared(factor / diagonal))
            self.before.insert(0, _shared(towards / diagonal))

    def known(self, errors: Floats) -> Known:
        return _Sums(errors, self._loadings, self._columns)


class _Sums:
    def __init__(self, errors: Floats, loadings: Sequence[Any], factors: int) -> None:
        self._errors, self._loadings = tensor(errors), loadings
        self.numbers = tensor(np.zeros((factors, errors.shape[1]), np.float32))

    def add(self, group: int, kernels: FeedbackKernels) -> None:
        loadings = self._loadings[group]
        start = group * loadings.shape[0]
        kernels.add_product(self.numbers, 0, loadings, self._errors, start, self.numbers)


def _product(a: Any, b: Any) -> Any:
    """In pieces so small that BLAS shares them with no other thread, which takes longer than they do."""
    return np.concatenate([a[at : at + _PIECE] @ b for at in range(0, len(a), _PIECE)])


def _shared(values: Any) -> Any:
    return tensor(np.ascontiguousarray(values, np.float32))


def _damping(variances: Floats) -> float:
    return _DAMPING * (float(variances.mean(dtype=np.float64)) or 1.0)


def _upper(matrix: Any) -> Any:
    """The upper triangular R of R R^T, where Cholesky's is the lower one: with all in reverse."""
    return np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]
