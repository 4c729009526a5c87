"""Choosing the threshold that sends a given share of the traffic to the strong model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_router.errors import InvalidInput
from edge_router.records import dataclass

_Z = 1.959964  # of a 95 % interval
_WIDE = 0.05  # an interval further than this from the share is worth a warning


@dataclass(frozen=True, slots=True)
class Calibration:
    """`share` is what `threshold` sends of the sample; `low` and `high` bound that of traffic like it (95 %).

    `warnings`: too few prompts, or tied scores that make the wanted share impossible.
    """

    threshold: float
    wanted: float
    share: float
    low: float
    high: float
    n: int
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        return {
            "threshold": self.threshold,
            "strong_share": self.wanted,
            "share": round(self.share, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "n": self.n,
            "warnings": list(self.warnings),
        }


def choose_threshold(scores: Sequence[float], strong_share: float) -> Calibration:
    """The threshold at which `score >= threshold` holds for that share of `scores`, as nearly as ties allow.

    The interval is Wilson's: it says how far the share of other prompts of the same kind may lie from this
    sample's. It says nothing of other kinds of traffic. Raises `InvalidInput`.
    """
    if not 0 <= strong_share <= 1:
        raise InvalidInput(f"the strong share is {strong_share}, not in 0..1")
    values = np.sort(np.asarray(scores, np.float64))
    n = len(values)
    if not n or not np.isfinite(values).all():
        raise InvalidInput("calibration needs at least one score, all of them finite")
    threshold, share = _nearest(values, strong_share)
    low, high = wilson(share, n)
    return Calibration(
        threshold, strong_share, share, low, high, n, _warnings(strong_share, share, low, high, n)
    )


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share seen in `n` trials."""
    z2 = _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def prompts_needed(strong_share: float, margin: float) -> int:
    """How many prompts bring the interval to within `margin` of the share, at 95 %."""
    spread = strong_share * (1 - strong_share) / (margin * margin)
    return math.ceil(_Z * _Z * max(spread, 1 / margin - 1))  # the latter where all or none are sent


def _nearest(values: np.ndarray, wanted: float) -> tuple[float, float]:
    """Of all possible cuts of the sorted scores, the nearest one; the threshold lies between two scores."""
    n = len(values)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    cuts = np.append(starts, n)  # so many scores lie below the threshold
    shares = 1 - cuts / n
    i = int(np.argmin(np.abs(shares - wanted)))
    cut = int(cuts[i])
    below, above = (values[cut - 1] if cut else 0.0), (values[cut] if cut < n else 1.0)
    threshold = float(below + above) / 2
    if cut and threshold <= values[cut - 1]:
        # Between two neighbouring numbers lies none, and above the highest score, at 1.0, none but itself.
        threshold = min(math.nextafter(float(values[cut - 1]), 2.0), 1.0)
    return min(max(threshold, 0.0), 1.0), float(np.mean(values >= threshold))


def _warnings(wanted: float, share: float, low: float, high: float, n: int) -> tuple[str, ...]:
    found = []
    if abs(share - wanted) > max(_WIDE / 2, 1 / n):
        found.append(f"tied scores make a share of {wanted:.0%} impossible: {share:.0%} is the nearest")
    if max(share - low, high - share) > _WIDE:
        found.append(f"{n} prompts are few: {prompts_needed(wanted, _WIDE)} would hold it within {_WIDE:.0%}")
    return tuple(found)
