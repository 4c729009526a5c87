"""The ledger summed up by SQLite: where answers went, why, and how their scores lie. No row leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

from edge_router.chat.events import Usage
from edge_router.ledger.database import Database
from edge_router.records import dataclass
from edge_router.types import Reason, Tier

STEPS = 200  # that scores from 0 to 1 are counted in
MOST = 20  # models, rules that are told of: the most frequent ones

_KNOWN = "time >= :since AND time < 9e999 AND tier IN ('weak', 'strong') AND typeof(reason) = 'text'"
_SCORED = f"""reason = '{Reason.SCORE}' AND router = :router
    AND typeof(score) IN ('real', 'integer') AND score BETWEEN 0 AND 1"""
_NEAR = f"CAST(score * {STEPS} AS INTEGER)"  # but for what rounding takes from 0.29 * 200
_STEP = f"{_NEAR} + (({_NEAR} + 1) / {STEPS}.0 <= score) - ({_NEAR} / {STEPS}.0 > score)"
_COUNTED = "typeof(prompt_tokens) = 'integer'"
# What is no number is none, as `record_of` has it; `long`: how many of the prices' steps a prompt reaches.
_GROUPS = f"""
SELECT tier, reason, endpoint, error IS NOT NULL AS failed,
    CASE WHEN {_SCORED} THEN {_STEP} END AS step,
    CASE WHEN {_SCORED} THEN score >= :threshold END AS reached,
    CASE WHEN {_COUNTED} THEN %s END AS long,
    COUNT(*) AS answers,
    TOTAL(CASE WHEN {_COUNTED} THEN prompt_tokens END) AS prompted,
    TOTAL(CASE WHEN {_COUNTED} AND typeof(completion_tokens) = 'integer'
        THEN completion_tokens END) AS completed
FROM decisions WHERE {_KNOWN} GROUP BY 1, 2, 3, 4, 5, 6, 7"""  # noqa: S608 - of what stands here
_MOST = f"""
SELECT %s AS name, tier, COUNT(*) AS answers FROM decisions
WHERE {_KNOWN} AND typeof(name) = 'text' AND name <> '' GROUP BY 1, 2 ORDER BY answers DESC
LIMIT :most"""  # noqa: S608
_LAST = """
SELECT threshold FROM decisions WHERE router = ? AND typeof(threshold) = 'real' ORDER BY id DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class RecordGroup:
    """Answers that went the same way for the same reason, with scores in the same step.

    `usage` is of all together, None where their tokens are not known; `long` how many of the `starts` that
    were asked for their prompts are beyond. `step` is None where the score of that router did not decide;
    `reached`: whether it reached the threshold that was asked for.
    """

    tier: Tier
    reason: str
    endpoint: str | None
    failed: bool
    step: int | None
    reached: bool
    answers: int
    usage: Usage | None
    long: int


@dataclass(frozen=True, slots=True)
class NamedCount:
    """So many answers of a model, or of a rule of the user's, by who gave them."""

    name: str
    tier: Tier
    answers: int


class RecordGroups:
    """Safe to use from several threads and processes. All methods raise `StorageError`, `InvalidData`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(
        self, *, router: str, threshold: float | None = None, starts: Sequence[int] = (), since: float = 0.0
    ) -> tuple[RecordGroup, ...]:
        """All answers from `since` (seconds since 1970) on, each in one group. `starts` rise."""
        long = " + ".join(f"(prompt_tokens > {int(start)})" for start in starts) or "0"
        values = {"since": since, "router": router, "threshold": threshold}
        return tuple(
            RecordGroup(
                row["tier"],
                row["reason"],
                row["endpoint"],
                bool(row["failed"]),
                row["step"],
                bool(row["reached"]),
                row["answers"],
                None if row["long"] is None else Usage(int(row["prompted"]), int(row["completed"])),
                row["long"] or 0,
            )
            for row in self._database.read(_GROUPS % long, values)
        )

    def most(self, of: Literal["model", "rule"], *, since: float = 0.0) -> tuple[NamedCount, ...]:
        """The models that have answered, or the rules that had a say, the most frequent first."""
        rows = self._database.read(_MOST % of, {"since": since, "most": MOST})
        return tuple(NamedCount(row["name"], cast(Tier, row["tier"]), row["answers"]) for row in rows)

    def last_threshold(self, router: str) -> float | None:
        """What the latest answer was decided by, where that router scored it."""
        rows = self._database.read(_LAST, (router,))
        return rows[0]["threshold"] if rows else None
