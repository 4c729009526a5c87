"""What each signal is worth: AUROC and APGR on answers that it was not fitted on, beside the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_router.records import dataclass
from edge_router.routing import evaluation
from edge_router.routing.confidence.fit import Numbers, Sample, unseen

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Worth:
    """`auroc`: how often a wrong answer looks less sure than a right one, with its 95 % bootstrap interval.

    `other_kinds`: the same where the heads were fitted without any question of that kind. `apgr`: see
    `evaluation`, with a strong model that is always right.
    """

    auroc: float
    auroc_low: float
    auroc_high: float
    other_kinds: float | None
    apgr: float | None  # None where there is only one value
    apgr_low: float | None
    apgr_high: float | None

    def to_dict(self) -> dict[str, float | None]:
        return {
            name: None if (value := getattr(self, name)) is None else round(value, 4)
            for name in self.__slots__
        }


@dataclass(frozen=True, slots=True)
class SignalWorths:
    """`doubts`: one less the chance that a gate finds, of each answer, by heads fitted on others."""

    signals: Mapping[str, Worth]
    doubts: tuple[float, ...]


def measure(
    sample: Sample, score: Sequence[float], length: Sequence[float], kinds: Sequence[str] | None = None
) -> SignalWorths:
    """Random, length, the router's score as it is, what is fitted on top of it, and the oracle.

    `kinds`: of the questions, as coarse as they are to be told apart.
    """
    scores = np.asarray(score, np.float64)
    fitted = unseen(sample, scores)
    others: Mapping[str, Numbers] = {}
    if kinds is not None and len(set(kinds)) > 1:
        others = unseen(sample, scores, np.unique(np.asarray(kinds), return_inverse=True)[1])
    wrong = 1 - sample.right
    doubts = {
        "random": np.random.default_rng(0).random(len(wrong)),
        "length": np.asarray(length, np.float64),
        "score": scores,
        **{name: -found for name, found in fitted.items() if sample.has(name)},
        "oracle": wrong,
    }
    signals = {
        name: _worth(doubt, wrong, -others[name] if name in others else None)
        for name, doubt in doubts.items()
    }
    seen = fitted["said + probe" if sample.tokens else "probe"]  # all that a gate looks at
    return SignalWorths(signals, tuple((1 / (1 + np.exp(np.clip(seen, -60, 60)))).tolist()))


def auroc(doubt: Numbers, wrong: Numbers) -> float:
    """How often a wrong answer (1) has the higher doubt, ties for half. Both have to be there."""
    _, place, count = np.unique(doubt, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    ones = float(wrong.sum())
    return float((rank[wrong > 0].sum() - ones * (ones + 1) / 2) / (ones * (len(wrong) - ones)))


def _worth(doubt: Numbers, wrong: Numbers, other: Numbers | None) -> Worth:
    rng, n = np.random.default_rng(0), len(wrong)
    draws = (rng.integers(0, n, n) for _ in range(RESAMPLES))
    values = [auroc(doubt[draw], wrong[draw]) for draw in draws if 0 < wrong[draw].sum() < n]
    low, high = np.quantile(values, (0.025, 0.975))
    found = evaluation.measure(doubt, 1 - wrong, np.ones(n))
    return Worth(
        auroc(doubt, wrong),
        float(low),
        float(high),
        None if other is None else auroc(other, wrong),
        found.apgr,
        found.apgr_low,
        found.apgr_high,
    )
