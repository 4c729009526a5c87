"""What was paid for the strong model: a row for each answer in an SQLite file, which every process adds to.

A row is there before the question leaves, with the most that its answer may cost, and is corrected when the
answer has ended: a process that dies in between has paid too much rather than nothing. Sums are made of rows,
so no wrong clock, cut-off write or second process can take a payment back. A file counts by
months or by days.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from edge_router.ledger.database import Database, Schema, together
from edge_router.records import dataclass

_TABLES = (
    """CREATE TABLE payments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,             -- seconds since 1970, UTC
    month TEXT NOT NULL,            -- as the user's calendar had it then: 2026-11; of days 2026-11-30
    cost REAL NOT NULL,             -- in the money of the prices
    open INTEGER NOT NULL           -- 1 while the answer is under way: the cost is what it may be at most
)""",
    "CREATE INDEX payments_by_month ON payments (month)",
    "CREATE TABLE pace (router TEXT PRIMARY KEY, state TEXT NOT NULL)",  # JSON; see `Spending`
)
_SCHEMA = Schema(1, {0: _TABLES})
_BUSY_S = 0.05  # a question that is only routed must not wait for a file


@dataclass(frozen=True, slots=True)
class Period:
    """What money is for. `name` is that of the one that a time (seconds since 1970) is in; later ones sort
    behind earlier ones. `end` is when that one is over."""

    word: str
    name: Callable[[float], str]
    end: Callable[[float], float]


# A month begins at its first row. It also takes in what directly precedes that under a later month's name:
# the clock was wrong then. Where the clock is wrong now, by having gone back, no earlier row ends a month.
_SUM = """
SELECT TOTAL(cost) AS cost, TOTAL(CASE WHEN open THEN cost ELSE 0 END) AS under_way
FROM payments WHERE id >= MIN(
    COALESCE((SELECT MIN(id) FROM payments WHERE month = :month), 9223372036854775807),
    COALESCE((SELECT MAX(id) FROM payments WHERE month < :month), 0) + 1)"""


class Payments:
    """Safe to use from several threads and processes. Every call raises `StorageError`, `InvalidData`."""

    def __init__(
        self, file: Path, clock: Callable[[], float] = time.time, period: Period | None = None
    ) -> None:
        self._database, self._clock, self._period = Database(file, _SCHEMA), clock, period or MONTH

    def month(self) -> str:
        """The period that it is now, whichever is counted by."""
        return self._period.name(self._clock())

    def sum(self) -> float:
        """What this month cost, with what is put down for answers under way."""
        rows = self._database.read(_SUM, {"month": self.month()}, busy_s=_BUSY_S)
        return float(rows[0]["cost"]) if rows else 0.0

    def begin(self, most: float, budget: float, *, at_least: float = 0.0) -> int | None:
        """A row for an answer that may cost `most`; None where `budget` leaves no room for it.

        `at_least` has been spent, whatever the rows say.

        Beside others under way it must fit with all that they may cost; alone it may pass the budget, by its
        own cost at the most, for as long as anything is left.
        """
        month = self.month()
        with self._database.writing() as connection, together(connection):
            row = connection.execute(_SUM, {"month": month}).fetchone()
            spent, under_way = max(row["cost"], at_least), row["under_way"]
            room = spent < budget if not under_way else spent + most <= budget
            return self._insert(connection, month, most, open_=True) if room else None

    def end(self, number: int, cost: float) -> None:
        """The answer of that row has ended, and cost this much."""
        with self._database.writing() as connection:
            connection.execute("UPDATE payments SET cost = ?, open = 0 WHERE id = ?", (cost, number))

    def add(self, cost: float) -> None:
        """A row that is settled already; of nothing, for a month that begins."""
        with self._database.writing() as connection:
            self._insert(connection, self.month(), cost, open_=False)

    def keep_pace(self, router: str, state: str) -> None:
        """What is known of how fast the money goes, for the next run."""
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO pace (router, state) VALUES (?, ?)", (router, state))

    def pace(self, router: str) -> str | None:
        rows = self._database.read("SELECT state FROM pace WHERE router = ?", (router,))
        return str(rows[0]["state"]) if rows else None

    def begun(self) -> bool:
        """Whether this month has a row."""
        return bool(self._database.read("SELECT 1 FROM payments WHERE month = ? LIMIT 1", (self.month(),)))

    def close(self) -> None:
        """May be called twice; a later call opens the file again."""
        self._database.close()

    def _insert(self, connection: sqlite3.Connection, month: str, cost: float, *, open_: bool) -> int | None:
        query = "INSERT INTO payments (time, month, cost, open) VALUES (?, ?, ?, ?)"
        return connection.execute(query, (self._clock(), month, cost, int(open_))).lastrowid


def month_of(now: float) -> str:
    """As the user's calendar has it: 2026-11."""
    return time.strftime("%Y-%m", time.localtime(now))


def month_end(now: float) -> float:
    """When the month of `now` is over; seconds since 1970."""
    here = time.localtime(now)
    year, month = (here.tm_year + 1, 1) if here.tm_mon == 12 else (here.tm_year, here.tm_mon + 1)
    return time.mktime((year, month, 1, 0, 0, 0, 0, 0, -1))


def day_of(now: float) -> str:
    """As the user's calendar has it: 2026-11-30."""
    return time.strftime("%Y-%m-%d", time.localtime(now))


def day_end(now: float) -> float:
    """When the day of `now` is over; seconds since 1970."""
    here = time.localtime(now)
    return time.mktime((here.tm_year, here.tm_mon, here.tm_mday + 1, 0, 0, 0, 0, 0, -1))


MONTH = Period("month", month_of, month_end)
DAY = Period("day", day_of, day_end)
