"""Whether the traffic is still what a threshold was calibrated on, seen from its scores.

`calibrate` leaves the scores' percentiles behind; later scores in the ledger are held against them by the
distance of Kolmogorov and Smirnov: the most by which the two shares of scores below any number differ.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.config.tiers import bound_of
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.disk import storage_errors, write_text

if TYPE_CHECKING:
    from edge_router.config.settings import Config
    from edge_router.system.paths import Paths

WINDOW = 500  # of the latest scores
ENOUGH = 100  # of them, before anything is said
LEAST = 0.1  # a smaller distance moves no share by more than that, whatever the threshold
_CRITICAL = 1.628  # of the two-sample test at 1 %: times sqrt((n + m) / (n * m))


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a threshold was calibrated on. `percentiles`: the 101 of the scores; `time`: since 1970."""

    router: str
    threshold: float
    strong_share: float  # that it sends of this sample
    n: int
    percentiles: tuple[float, ...]
    time: float


@dataclass(frozen=True, slots=True)
class Drift:
    """`distance` 0 to 1; `share` is what the threshold sends of the `n` latest scores."""

    baseline: Baseline
    n: int
    distance: float
    limit: float
    share: float

    @property
    def drifted(self) -> bool:
        return self.distance > self.limit


def baseline(router: str, threshold: float, scores: Sequence[float]) -> Baseline:
    import numpy as np

    values = np.asarray(scores, np.float64)
    percentiles = np.quantile(values, np.linspace(0, 1, 101), method="inverted_cdf")
    share = float(np.mean(values >= threshold))
    return Baseline(router, threshold, share, len(values), tuple(percentiles.tolist()), time.time())


def measure_drift(base: Baseline, scores: Sequence[float]) -> Drift | None:
    """None while there are too few scores."""
    import numpy as np

    latest = np.sort(np.asarray(scores[-WINDOW:], np.float64))
    if len(latest) < ENOUGH:
        return None
    before = np.asarray(base.percentiles[1:], np.float64)
    places = np.concatenate([before, latest])
    below = np.searchsorted(before, places, "right") / len(before)
    above = np.searchsorted(latest, places, "right") / len(latest)
    n, m = len(latest), base.n
    limit = max(LEAST, _CRITICAL * math.sqrt((n + m) / (n * m)))
    share = float(np.mean(latest >= base.threshold))
    return Drift(base, n, float(np.abs(below - above).max()), limit, share)


def current_drift(config: Config, paths: Paths) -> Drift | None:
    """Of the configured router, where its threshold is the calibrated one; None where nothing can be said.

    A held strong share moves its threshold along with the traffic, so nothing is said of it. Raises
    `StorageError`, `InvalidData` where the ledger cannot be read.
    """
    from edge_router.ledger import Ledger

    configured = bound_of(config)
    base = load(paths.calibration).get(config.router.name)
    if base is None or configured is None or not math.isclose(base.threshold, configured, rel_tol=1e-4):
        return None
    return measure_drift(base, Ledger(paths.ledger).scores(router=base.router, since=base.time))


def save(file: Path, base: Baseline) -> None:
    """Beside those of other routers. Raises `StorageError`."""
    known = {**load(file), base.router: base}
    with storage_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({name: asdict(one) for name, one in known.items()}))


def load(file: Path) -> dict[str, Baseline]:
    """By router; what cannot be read counts as never calibrated."""
    try:
        found = strict_json.read_object(file)
        return {name: _parse(one) for name, one in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _parse(one: dict[str, object]) -> Baseline:
    percentiles = one["percentiles"]
    if not isinstance(percentiles, list) or len(percentiles) != 101:
        raise ValueError("percentiles")
    numbers = [float(str(one[name])) for name in ("threshold", "strong_share", "n", "time")]
    threshold, share, n, when = numbers
    return Baseline(str(one["router"]), threshold, share, int(n), tuple(map(float, percentiles)), when)
