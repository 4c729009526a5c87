"""How good a router is: the curve of quality over strong share, APGR and CPT, with bootstrap intervals.

Definitions are RouteLLM's (arXiv 2406.18665): with c the strong share and r(c) the mean quality there,
PGR = (r(c) - r(weak)) / (r(strong) - r(weak)); APGR is its integral over c by the trapezoid through the
points of ten equally filled bins of the scores; CPT(x) is the smallest c that reaches PGR x, interpolated.
Their code cannot cut tied scores into bins; here prompts with one score are cut as random order would on
average, which changes nothing where all scores differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

import numpy as np

from edge_router.records import dataclass
from edge_router.routing.labels.rows import Labelled

Scorer = Callable[[Sequence[str]], Sequence[float]]

BINS = 10
RESAMPLES = 1000
RANDOM_RUNS = 10
CONTROLS = ("random", "oracle")  # computed here; `length` is a router like any other


@dataclass(frozen=True, slots=True)
class RouterMetrics:
    """Of one router on one set of prompts. Shares and PGR as fractions; None where undefined (see `note`).

    `apgr_low` and `apgr_high` bound the 95 % bootstrap interval. `curve` holds (strong share, quality, PGR).
    """

    n: int
    weak_quality: float
    strong_quality: float
    apgr: float | None = None
    apgr_low: float | None = None
    apgr_high: float | None = None
    cpt20: float | None = None
    cpt50: float | None = None
    cpt80: float | None = None
    curve: tuple[tuple[float, float, float], ...] = ()
    note: str = ""

    def to_dict(self) -> dict[str, float | int | None]:
        """The fields of `evaluate --json`."""

        def tidy(value: float | None) -> float | None:
            return None if value is None else round(value, 4)

        names = ("apgr", "apgr_low", "apgr_high", "cpt20", "cpt50", "cpt80")
        return {"n": self.n, **{name: tidy(getattr(self, name)) for name in names}}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`groups`: benchmark -> router -> metrics, controls among the routers."""

    groups: Mapping[str, Mapping[str, RouterMetrics]]
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, dict[str, dict[str, float | int | None]]]:
        return {
            group: {name: metrics.to_dict() for name, metrics in found.items()}
            for group, found in self.groups.items()
        }


def evaluate(
    data: Labelled, scorers: Mapping[str, Scorer], *, by: str = "benchmark", resamples: int = RESAMPLES
) -> Evaluation:
    """Every scorer and the controls on every group of `data`, grouped by its column `by`.

    Raises `InvalidData` for a column that isn't there.
    """
    scores = {name: np.asarray(scorer(data.prompts), np.float64) for name, scorer in scorers.items()}
    groups, warnings = {}, list(data.warnings)
    for group, rows in data.groups(by).items():
        weak, strong = data.weak[rows], data.strong[rows]
        found = {name: measure(s[rows], weak, strong, resamples=resamples) for name, s in scores.items()}
        found["random"] = measure_random(weak, strong)
        found["oracle"] = measure(strong - weak, weak, strong, resamples=resamples)
        groups[group] = found
        warnings += [f"{group}, {name}: {metrics.note}" for name, metrics in found.items() if metrics.note]
    return Evaluation(groups, tuple(warnings))


def measure(
    scores: np.ndarray, weak: np.ndarray, strong: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> RouterMetrics:
    """Scores, and the quality of both models' answers, which is finite; all [prompts]."""
    order = np.argsort(-scores, kind="stable")
    gain = (strong - weak)[order]
    ends = _block_ends(scores[order])
    base = RouterMetrics(n=len(scores), weak_quality=float(weak.mean()), strong_quality=float(strong.mean()))
    total = float(gain.sum())
    lost = len(scores) - int(np.isfinite(scores).sum())
    if lost:
        return _with(base, note=f"the router gives {lost} prompts no number, so APGR is undefined")
    if abs(total) < 1e-9 * max(len(gain), 1):
        return _with(base, note="both models are equally good, so PGR is undefined")
    if len(ends) == 1:
        return _with(base, note="the router gives every prompt one score, so APGR is undefined")
    ones = np.ones(len(gain), np.int64)
    shares, pgr = _curve(gain, ones, ends)
    samples = _bootstrap(gain, ends, resamples, seed)
    low, high = np.quantile(samples, (0.025, 0.975)) if len(samples) else (None, None)
    quality = base.weak_quality + pgr * (base.strong_quality - base.weak_quality)
    return _with(
        base,
        apgr=_area(shares, pgr),
        apgr_low=None if low is None else float(low),
        apgr_high=None if high is None else float(high),
        cpt20=_reach(shares, pgr, 0.2),
        cpt50=_reach(shares, pgr, 0.5),
        cpt80=_reach(shares, pgr, 0.8),
        curve=tuple(zip(shares.tolist(), quality.tolist(), pgr.tolist(), strict=True)),
        note="" if total > 0 else "the strong model is the worse one here, so PGR is upside down",
    )


def measure_random(
    weak: np.ndarray, strong: np.ndarray, *, runs: int = RANDOM_RUNS, seed: int = 0
) -> RouterMetrics:
    """The mean of `runs` random routers; the interval is that of one run: where luck alone may land."""
    rng = np.random.default_rng(seed)
    found = [measure(rng.permutation(len(weak)), weak, strong, resamples=0) for _ in range(max(runs, 2))]
    if found[0].apgr is None:
        return found[0]

    def mean(name: str) -> float | None:
        values = [getattr(metrics, name) for metrics in found]
        return None if None in values else float(np.mean(values))

    spread = 1.96 * float(np.std([m.apgr for m in found if m.apgr is not None], ddof=1))
    middle = mean("apgr") or 0.0
    curves = np.array([metrics.curve for metrics in found]).mean(axis=0)
    return _with(
        found[0],
        apgr=middle,
        apgr_low=middle - spread,
        apgr_high=middle + spread,
        **{name: mean(name) for name in ("cpt20", "cpt50", "cpt80")},
        curve=tuple((float(c), float(r), float(p)) for c, r, p in curves),
    )


def _with(base: RouterMetrics, **changes: object) -> RouterMetrics:
    from dataclasses import replace

    return replace(base, **changes)  # type: ignore[arg-type]


def _block_ends(ordered: np.ndarray) -> np.ndarray:
    """Indices of the last prompt of every run of equal scores."""
    changes = np.flatnonzero(ordered[1:] != ordered[:-1])
    return np.append(changes, len(ordered) - 1)


def _strong_counts(n: int) -> np.ndarray:
    """How many prompts lie at or above each of the eleven bin edges, from all down to none: [11] integers.

    An edge is the quantile i/10 of the scores; i * (n - 1) / 10 prompts lie below it.
    """
    below = np.array([-(-i * (n - 1) // BINS) for i in range(BINS + 1)])
    counts = n - below
    counts[-1] = 0
    return counts


def _curve(gain: np.ndarray, weights: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(strong shares, PGR), both [11], shares ascending. `weights` [prompts]: how often each one counts."""
    called = np.concatenate([[0], np.cumsum(weights)[ends]])
    gained = np.concatenate([[0.0], np.cumsum(gain * weights)[ends]])
    n = int(called[-1])
    counts = _strong_counts(n)[::-1]
    return counts / n, np.interp(counts, called, gained) / gained[-1]


def _bootstrap(gain: np.ndarray, ends: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """APGR of `resamples` samples drawn with replacement, less those in which PGR is undefined."""
    rng = np.random.default_rng(seed)
    n, areas = len(gain), []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, n, n), minlength=n)
        if abs(float(gain @ weights)) < 1e-9 * n:
            continue
        areas.append(_area(*_curve(gain, weights, ends)))
    return np.array(areas)


def _area(shares: np.ndarray, pgr: np.ndarray) -> float:
    return float(np.trapezoid(pgr, shares))


def _reach(shares: np.ndarray, pgr: np.ndarray, level: float) -> float | None:
    """The smallest share that reaches `level`, on straight lines between the points."""
    reached = np.flatnonzero(pgr >= level - 1e-12)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(shares[0])
    rise = float(pgr[i] - pgr[i - 1])
    part = (level - float(pgr[i - 1])) / rise if rise > 0 and math.isfinite(rise) else 1.0
    return float(shares[i - 1] + part * (shares[i] - shares[i - 1]))
