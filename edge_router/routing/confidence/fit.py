"""Fitting a gate on answers that were judged, and measuring on answers that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edge_router.errors import InvalidInput
from edge_router.records import dataclass
from edge_router.routing.confidence.gate import Gate, LogisticRegression, summary

Numbers = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

# Made of the router's score, the log probabilities of what is said first, and the probe.
SIGNALS = ("score + said", "score + probe", "score + said + probe", "said", "probe", "said + probe")

LEAST = 20  # answers of each kind, right and wrong, below which nothing is to be learnt
FOLDS = 5
_COMPONENTS = 128  # directions of the state in which the answers differ most: few answers teach no more
_RIDGES = (0.001, 0.01, 0.1, 1.0, 10.0)  # for values of which the widest direction has variance 1
_PLAIN = 1e-3  # for heads of two or three numbers, where it only keeps the weights finite
_STEPS = 50


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """One judged answer, and what the weak model showed of it: see `Gate`."""

    kind: str
    right: bool
    state: tuple[float, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class Sample:
    """As matrices; `tokens` log probabilities count. Raises `InvalidInput` where they teach nothing."""

    seen: Sequence[JudgedAnswer]
    tokens: int

    def __post_init__(self) -> None:
        right = int(self.right.sum())
        if min(right, len(self.seen) - right) < LEAST:
            raise InvalidInput(
                f"{right} of {len(self.seen)} answers were right; at least {LEAST} right and as many wrong "
                "ones are needed"
            )

    def has(self, signal: str) -> bool:
        """Whether there is anything to see of it (one of `SIGNALS`)."""
        said, probed = self.tokens > 0, self.state.shape[1] > 0
        return (said or "said" not in signal) and (probed or "probe" not in signal)

    @cached_property
    def right(self) -> Numbers:
        return np.array([seen.right for seen in self.seen], np.float64)

    @cached_property
    def state(self) -> Numbers:
        """[answers, anchors]; no columns where the engine shows none."""
        return np.array([seen.state for seen in self.seen], np.float64)

    @cached_property
    def said(self) -> Numbers:
        """[answers, 2]: mean and lowest log probability, zeros where nothing was said."""
        rows = [summary(seen.logprobs[: self.tokens] or (0.0,)) for seen in self.seen]
        return np.array(rows, np.float64)


def gate(sample: Sample, anchors: Sequence[int]) -> Gate:
    """Fitted on all of `sample`."""
    head, inner = probe(sample.state, sample.right)
    return Gate(
        sample.tokens,
        tuple(anchors),
        head,
        plain(sample.said, sample.right),
        plain(np.column_stack([sample.said, inner]), sample.right),
    )


def unseen(sample: Sample, score: Numbers, groups: Groups | None = None) -> dict[str, Numbers]:
    """For each set of signals the log odds of a right answer, each by heads that were fitted on others.

    `score`: the router's, [answers]. `groups`: answers with one number are never used for each other;
    without, they are dealt into `FOLDS` at random.
    """
    folds = _folds(len(sample.right)) if groups is None else groups
    found = {name: np.empty(len(sample.right)) for name in SIGNALS}
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        right = sample.right[train]
        head, inner = probe(sample.state[train], right)
        columns = {
            "score": (score[train], score[test]),
            "said": (sample.said[train], sample.said[test]),
            "probe": (inner, odds(head, sample.state[test])),
        }
        for name in SIGNALS:
            parts = [columns[part] for part in name.split(" + ")]
            fitted = plain(np.column_stack([part for part, _ in parts]), right)
            found[name][test] = odds(fitted, np.column_stack([part for _, part in parts]))
    return found


def odds(head: LogisticRegression, values: Numbers) -> Numbers:
    """`LogisticRegression.log_odds` of each row."""
    found: Numbers = values @ np.array(head.weights) + head.bias
    return found


def probe(state: Numbers, right: Numbers) -> tuple[LogisticRegression, Numbers]:
    """A head on the state, and the log odds of each of these answers by a head that was fitted on others.

    Whatever is fitted on top of the probe takes the latter: on its own answers the head looks too good. The
    ridge is the one that serves answers best which were not fitted on. Without a state it says nothing.
    """
    if not state.shape[1]:
        return LogisticRegression((), 0.0), np.zeros(len(right))
    middle = state.mean(axis=0)
    _, sizes, directions = np.linalg.svd(state - middle, full_matrices=False)
    directions = directions[:_COMPONENTS] / max(float(sizes[0]) / np.sqrt(len(state)), 1e-12)
    values, folds = (state - middle) @ directions.T, _folds(len(right))

    def others(ridge: float) -> Numbers:
        found = np.empty(len(right))
        for fold in range(FOLDS):
            *weights, bias = _logistic(values[folds != fold], right[folds != fold], ridge)
            found[folds == fold] = values[folds == fold] @ np.array(weights) + bias
        return found

    tried = {ridge: others(ridge) for ridge in _RIDGES}
    ridge = min(tried, key=lambda ridge: float(np.logaddexp(0.0, (1 - 2 * right) * tried[ridge]).sum()))
    weights = _logistic(values, right, ridge)
    return _head(weights[:-1] @ directions, weights[-1], middle), tried[ridge]


def plain(values: Numbers, right: Numbers) -> LogisticRegression:
    """A head on a few numbers of any scale."""
    middle, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    weights = _logistic((values - middle) / spread, right, _PLAIN * len(right))
    return _head(weights[:-1] / spread, weights[-1], middle)


def _head(weights: Numbers, bias: float, middle: Numbers) -> LogisticRegression:
    """For values as they come, where the fit saw them less their mean."""
    return LogisticRegression(tuple(weights.tolist()), float(bias - weights @ middle))


def _folds(count: int) -> Groups:
    return np.random.default_rng(0).permutation(count) % FOLDS


def _logistic(values: Numbers, right: Numbers, ridge: float) -> Numbers:
    """Weights and at last the bias, which has no penalty, by Newton's method with halved steps."""
    design = np.column_stack([values, np.ones(len(values))])
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 0.0
    weights = np.zeros(design.shape[1])

    def objective(candidate: Numbers) -> float:
        signed = (1 - 2 * right) * (design @ candidate)
        return float(np.logaddexp(0.0, signed).sum() + penalty @ candidate**2 / 2)

    best = objective(weights)
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -60, 60)))
        slope = design.T @ (chance - right) + penalty * weights
        bend = (design.T * (chance * (1 - chance))) @ design + np.diag(penalty + 1e-9)
        step = np.linalg.solve(bend, slope)
        while (lower := objective(weights - step)) > best and np.abs(step).max() > 1e-9:
            step /= 2
        weights, gained, best = weights - step, best - lower, lower
        if gained < 1e-9 * len(values):
            break
    return weights
