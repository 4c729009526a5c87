"""How sure the weak model must be of a typed question for its answer to stay here, found from labels.

A promise is "of the answers that stay, at most so many are wrong", with 95 % certainty, by the exact
(Clopper-Pearson) bound of the binomial distribution. Bounds are looked at from the strictest on, each as long
as the promise holds for it: the first for which it does not ends that, so that looking at many costs nothing
of the certainty (fixed-sequence testing). The first is the strictest that keeps a quarter of the labels and
as many as the promise needs at least, which depends on no label.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

from edge_router.errors import InvalidData
from edge_router.parsing import strict_json
from edge_router.questions.bounds import NONE_STAYS, Bounds
from edge_router.questions.question import Choice, Question, YesNo
from edge_router.records import dataclass
from edge_router.store import ArtifactStore
from edge_router.system.paths import Paths

Kind = Literal["yes_no", "choice", "scale"]
KINDS: tuple[Kind, ...] = ("yes_no", "choice", "scale")
KIND, FILE, FORMAT = "decisions", "bounds.json", 1
DOUBT = 0.05  # the chance that a promise does not hold
STEPS = 100  # bounds that are looked at: 0.99, 0.98, ...
_DEVIATIONS = 1.645  # of a normal distribution, which are passed with the chance DOUBT
_MANY = 10_000  # labels; for more the normal distribution will do
_START = 4  # the strictest bound keeps one of so many labels


def kind_of(question: Question) -> Kind:
    if isinstance(question, YesNo):
        return "yes_no"
    return "choice" if isinstance(question, Choice) else "scale"


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One labelled question, as the weak model answered it."""

    kind: Kind
    confidence: float
    right: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for one type. `bound` is None where nothing can be promised for want of labels.

    At the bound `kept` of the `labels` stay, and `wrong` of these are wrong; `upper` is the most that the
    share of wrong ones can be. `missing`: how many labels more might do; 0 where none would, and none stays.
    """

    labels: int
    bound: float | None = None
    kept: int = 0
    wrong: int = 0
    upper: float | None = None
    missing: int = 0


def at_least(max_error: float, doubt: float = DOUBT) -> int:
    """How many labels a promise takes if not one of them is wrong."""
    return math.ceil(math.log(doubt) / math.log1p(-max_error))


def upper_bound(wrong: int, n: int, doubt: float = DOUBT) -> float:
    """The share of wrong ones below which it is with a certainty of 1 - `doubt`, for `wrong` of `n`."""
    if wrong >= n:
        return 1.0
    low, high = wrong / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(wrong, n, middle) > doubt:
            low = middle
        else:
            high = middle
    return high


def _at_most(wrong: int, n: int, share: float) -> float:
    """The chance of no more than `wrong` wrong ones among `n`, where each is with the chance `share`."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return float(wrong >= n)
    logs = (
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(share)
        + (n - k) * math.log1p(-share)
        for k in range(wrong + 1)
    )
    return math.fsum(map(math.exp, logs))


def find_bound(seen: Sequence[LabelledAnswer], max_error: float) -> Found:
    """The lowest bound for which the promise holds; `seen` are all of one type."""
    n, needed = len(seen), at_least(max_error)
    if n < needed:
        return Found(n, missing=needed - n)
    ranked = sorted(seen, key=lambda each: each.confidence)
    confidences = [each.confidence for each in ranked]
    wrong_below = [0, *accumulate(not each.right for each in ranked)]
    start = max(needed, n // _START)
    best: Found | None = None
    strict: list[Found] = []  # for which nothing can be promised yet
    for step in range(STEPS - 1, -1, -1):
        bound = step / STEPS
        below = bisect_left(confidences, bound)
        kept, wrong = n - below, wrong_below[-1] - wrong_below[below]
        if kept < start:
            if kept >= n // _START:  # with more labels this could be the first
                strict.append(Found(n, bound, kept, wrong))
            continue
        if best is not None and best.kept == kept:  # nothing stands between both bounds
            best = replace(best, bound=bound)
            continue
        found = Found(n, bound, kept, wrong)
        if _at_most(wrong, kept, max_error) > DOUBT:  # as `upper_bound` would be above it
            strict.append(found)
            break
        best = found
    if best is not None:
        return replace(best, upper=upper_bound(best.wrong, best.kept))
    tries = (_missing(each, n, max_error) for each in strict)
    return Found(n, NONE_STAYS, missing=min(filter(None, tries), default=0))


def _missing(found: Found, n: int, max_error: float) -> int:
    """About how many labels more would promise it for a bound, at the share of wrong ones that was seen
    there; 0 where no number would."""
    kept, share = found.kept, found.wrong / found.kept
    if share >= max_error:
        return 0
    spread = _DEVIATIONS**2 * share * (1 - share) / (max_error - share) ** 2
    needed = math.ceil(max(spread, at_least(max_error), kept + 1))
    while needed < _MANY and _at_most(math.ceil(share * needed), needed, max_error) > DOUBT:
        needed = math.ceil(needed * 1.1)  # few errors are less normal
    return math.ceil((needed - kept) * n / kept)


@dataclass(frozen=True, slots=True)
class MeasuredBounds:
    """All types, for one weak model, and what they were found from: each answer's confidence, and whether it
    was right."""

    model: str
    max_error: float
    found: Mapping[Kind, Found]
    seen: Mapping[Kind, tuple[tuple[float, bool], ...]]

    @classmethod
    def of(cls, model: str, seen: Sequence[LabelledAnswer], max_error: float) -> MeasuredBounds:
        kinds = {kind: [each for each in seen if each.kind == kind] for kind in KINDS}
        return cls(
            model,
            max_error,
            {kind: find_bound(of_kind, max_error) for kind, of_kind in kinds.items() if of_kind},
            {
                kind: tuple((each.confidence, each.right) for each in of_kind)
                for kind, of_kind in kinds.items()
            },
        )

    @property
    def bounds(self) -> Bounds:
        return Bounds(**{kind: found.bound for kind, found in self.found.items()})

    def at(self, kind: Kind, bound: float) -> tuple[int, int]:
        """How many would stay from there on, and how many of these are wrong."""
        stays = [right for confidence, right in self.seen[kind] if confidence >= bound]
        return len(stays), stays.count(False)

    def to_dict(self) -> dict[str, object]:
        found = {kind: asdict(found) for kind, found in self.found.items()}
        return {"model": self.model, "max_error": self.max_error, "certainty": 1 - DOUBT, "types": found}


def find(paths: Paths, weights: str) -> MeasuredBounds | None:
    """None where nothing was measured. Raises `InvalidData`."""
    folder = ArtifactStore(paths.artifacts).find(KIND, weights)
    return None if folder is None else read(folder / FILE)


def keep(measured: MeasuredBounds, paths: Paths, weights: str) -> Path:
    """In place of what was measured before; the file. Raises `StorageError`."""
    store = ArtifactStore(paths.artifacts)
    store.plan_removal(kind=KIND, keys=[weights]).execute()
    stated = {
        "format": FORMAT,
        "model": measured.model,
        "max_error": measured.max_error,
        "seen": {
            kind: [[confidence, right] for confidence, right in seen] for kind, seen in measured.seen.items()
        },
    }

    def write(folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(stated), encoding="utf-8")

    inputs = {"model": measured.model, "weights": weights, "labels": sum(map(len, measured.seen.values()))}
    return store.obtain(KIND, weights, write, inputs=inputs) / FILE


def read(file: Path) -> MeasuredBounds:
    """Raises `InvalidData`."""
    try:
        stated = strict_json.read_object(file)
        if stated["format"] != FORMAT:
            again = "edge-router calibrate --decisions FILE"
            raise InvalidData(file, f"is of another version; measure again: {again}")
        max_error = float(stated["max_error"])
        seen = [
            LabelledAnswer(kind, float(confidence), bool(right))
            for kind in KINDS
            for confidence, right in stated["seen"][kind]
        ]
        if not (0 < max_error < 1 and all(0 <= each.confidence <= 1 for each in seen)):
            raise ValueError("a number is out of range")
        return MeasuredBounds.of(str(stated["model"]), seen, max_error)
    except InvalidData:
        raise
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidData(file, f"was not written here: {error}; remove it") from error
