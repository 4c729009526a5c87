"""The local record of decisions: one row per answer in an SQLite file, never sent anywhere.

Prompt text is kept only where the user turned that on; otherwise nothing of the prompt is, not even a hash,
which a guess could be checked against. Errors are kept as the name of their class, and what made the other
model answer with what it said, without the prompt's words (message.py). No key ever gets here.

Several processes may write at once. A ledger that can't be written never breaks an answer: the problem is
reported once, and later records are tried again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edge_router.errors import InvalidData, StorageError
from edge_router.ledger.database import Database
from edge_router.ledger.record_groups import RecordGroups
from edge_router.ledger.records import Record, Summary
from edge_router.ledger.rows import INSERT, records_of, row_of, score_of
from edge_router.ledger.upgrades import Upgrades
from edge_router.types import Reason

# Of rows that `record_of` knows; what is no number sorts behind all of them.
_SUMMARY = """
SELECT tier, reason, model, COUNT(*) AS records, COUNT(error) AS errors,
    MIN(time) AS first, MAX(time) AS last,
    TOTAL(CASE typeof(prompt_tokens) WHEN 'integer' THEN prompt_tokens END) AS prompted,
    TOTAL(CASE typeof(completion_tokens) WHEN 'integer' THEN completion_tokens END) AS completed
FROM decisions WHERE time >= ? AND time < 9e999 AND tier IN ('weak', 'strong')
    AND typeof(reason) = 'text' AND typeof(model) = 'text' GROUP BY tier, reason, model"""


def _log(problem: Exception) -> None:
    logging.getLogger(__name__).warning("the ledger is not kept: %s", problem)


class Ledger:
    """Safe to use from several threads and processes. Creates its file with the first record."""

    def __init__(
        self,
        path: Path,
        *,
        store_prompts: bool = False,
        report: Callable[[StorageError | InvalidData], None] = _log,
    ) -> None:
        """`report` is called once per kind of problem that `record` meets."""
        self._database, self._store_prompts, self._report = Database(path), store_prompts, report
        self._reported: set[type[Exception]] = set()
        self.upgrades, self.groups = Upgrades(self._database), RecordGroups(self._database)

    def record(self, record: Record) -> int | None:
        """Append it; its id. None where that was not possible; raises nothing."""
        try:
            with self._database.writing() as connection:
                return connection.execute(INSERT, row_of(record, with_prompt=self._store_prompts)).lastrowid
        except (StorageError, InvalidData) as problem:
            if type(problem) not in self._reported:
                self._reported.add(type(problem))
                self._report(problem)
            return None

    def recent(self, count: int = 20) -> tuple[Record, ...]:
        """The last `count` records, newest first. Raises `StorageError`, `InvalidData`."""
        rows = self._database.read("SELECT * FROM decisions ORDER BY id DESC LIMIT ?", (max(0, count),))
        return records_of(rows)

    def records(self, *, router: str | None = None, since: float = 0.0) -> tuple[Record, ...]:
        """Every record, oldest first, of one router where it is named. Raises as `recent` does."""
        rows = self._database.read(
            "SELECT * FROM decisions WHERE time >= ? AND (? IS NULL OR router = ?) ORDER BY id",
            (since, router, router),
        )
        return records_of(rows)

    def scores(self, *, router: str | None = None, since: float = 0.0) -> tuple[float, ...]:
        """Every score, oldest first, of one router where it is named. `since`: seconds since 1970."""
        rows = self._database.read(
            "SELECT score FROM decisions WHERE score IS NOT NULL AND time >= ? AND (? IS NULL OR router = ?) "
            "ORDER BY id",
            (since, router, router),
        )
        return tuple(score for row in rows if (score := score_of(row)) is not None)

    def rate(self, number: int, rating: Literal[1, -1]) -> Record | None:
        """Thumbs up or down for the answer with that id; None where there is none.

        Raises `StorageError`, `InvalidData`.
        """
        if not self._database.exists():
            return None
        with self._database.writing() as connection:
            connection.execute("UPDATE decisions SET rating = ? WHERE id = ?", (rating, number))
            row = connection.execute("SELECT * FROM decisions WHERE id = ?", (number,)).fetchone()
        return next(iter(records_of([row] if row is not None else [])), None)

    def rated(self) -> tuple[Record, ...]:
        """Every record with a rating, oldest first. Raises as `recent` does."""
        return tuple(record for record in self.records() if record.rating is not None)

    def summary(self, *, since: float = 0.0) -> Summary:
        """Counts and sums of everything from `since` (seconds since 1970) on."""
        rows = self._database.read(_SUMMARY, (since,))

        def sums(by: str, of: str) -> dict[str, int]:
            counter: Counter[str] = Counter()
            for row in rows:
                if by == "reason" or row["reason"] != Reason.CACHED:  # nobody was asked for those
                    counter[row[by]] += int(row[of])
            return dict(counter)

        return Summary(
            records=sum(row["records"] for row in rows),
            errors=sum(row["errors"] for row in rows),
            by_tier=sums("tier", "records"),
            by_reason=sums("reason", "records"),
            prompt_tokens=sums("model", "prompted"),
            completion_tokens=sums("model", "completed"),
            first=min((row["first"] for row in rows), default=None),
            last=max((row["last"] for row in rows), default=None),
        )

    def clear(self, *, before: float | None = None) -> int:
        """Delete the records from before that time, or all; says how many. Their bytes are overwritten.

        Clearing all of a damaged file removes it. Raises `StorageError`, `InvalidData`.
        """
        if not self._database.exists():
            return 0
        try:
            with self._database.writing() as connection:
                limit = float("inf") if before is None else before
                count = connection.execute("DELETE FROM decisions WHERE time < ?", (limit,)).rowcount
                connection.execute("DELETE FROM upgrades WHERE id NOT IN (SELECT id FROM decisions)")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds copies
            return count
        except InvalidData:
            if before is not None:
                raise
        self._database.remove()
        return 0

    def close(self) -> None:
        """May be called twice; a later call opens the file again."""
        self._database.close()
