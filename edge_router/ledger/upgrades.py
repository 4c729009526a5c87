"""Answers of the weak model that the strong one may better, and its own: a table of the ledger."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection

from edge_router.chat.events import Usage
from edge_router.ledger.database import Database
from edge_router.ledger.records import Record
from edge_router.ledger.rows import record_of
from edge_router.records import dataclass

MOST = 1000  # that wait: whole conversations, each with all before it
_OFTEN = 32  # rows between two looks at how many there are
_FORGET = """
DELETE FROM upgrades WHERE better IS NULL AND claimed IS NULL
    AND id NOT IN (SELECT id FROM upgrades WHERE better IS NULL ORDER BY id DESC LIMIT ?)"""
_KEPT_S = 1800.0  # so long a process may have the strong model at one; then it has died at it
_FIND = """
SELECT decisions.*, upgrades.request AS asked, upgrades.answer, upgrades.declined, upgrades.refused,
    upgrades.better, upgrades.better_model, upgrades.better_time, upgrades.cost AS better_cost
FROM upgrades JOIN decisions ON decisions.id = upgrades.id WHERE decisions.time >= ? ORDER BY decisions.id"""


@dataclass(frozen=True, slots=True)
class Better:
    """What the strong model answered later. `cost` is None without prices."""

    text: str
    model: str
    time: float
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer of the weak model with its whole question. `refused` names the error of the strong one that
    asking again would not mend."""

    record: Record
    request: str
    answer: str
    declined: bool = False
    refused: str | None = None
    better: Better | None = None


class Upgrades:
    """Safe to use from several threads and processes. Raises `StorageError`, `InvalidData`."""

    def __init__(self, database: Database, most: int = MOST) -> None:
        self._database, self._most = database, most

    def keep(self, number: int, request: str, answer: str) -> None:
        """An answer of the row `number` that may be bettered. Of those that are not the oldest go in time."""
        query = "INSERT OR REPLACE INTO upgrades (id, request, answer) VALUES (?, ?, ?)"
        with self._database.writing() as connection:
            connection.execute(query, (number, request, answer.encode("utf-8", "replace").decode()))
            if number % _OFTEN == 0:
                connection.execute(_FORGET, (self._most,))

    def find(self, *, since: float = 0.0, ids: Collection[int] = ()) -> tuple[KeptAnswer, ...]:
        """Those of `ids`, or all, oldest first. `since`: seconds since 1970."""
        if not self._database.exists() or not self._has_table():
            return ()
        rows = self._database.read(_FIND, (since,))
        found = [_kept(row) for row in rows if not ids or row["id"] in ids]
        return tuple(each for each in found if each is not None)

    def claim(self, number: int) -> bool:
        """Whether nobody has the strong model at it now; then the caller has, until `release`."""
        now = time.time()
        query = "UPDATE upgrades SET claimed = ? WHERE id = ? AND (claimed IS NULL OR claimed < ?)"
        with self._database.writing() as connection:
            return connection.execute(query, (now, number, now - _KEPT_S)).rowcount == 1

    def release(self, number: int) -> None:
        self._write("UPDATE upgrades SET claimed = NULL WHERE id = ?", (number,))

    def better(self, number: int, better: Better, usage: Usage | None) -> None:
        """The strong model has answered; the weak one's answer stays beside it."""
        self._write(
            "UPDATE upgrades SET better = ?, better_model = ?, better_time = ?, cost = ?, prompt_tokens = ?, "
            "completion_tokens = ?, claimed = NULL, refused = NULL, declined = NULL WHERE id = ?",
            (
                better.text.encode("utf-8", "replace").decode(),
                better.model,
                better.time,
                better.cost,
                usage and usage.prompt_tokens,
                usage and usage.completion_tokens,
                number,
            ),
        )

    def refuse(self, number: int, error: str) -> None:
        """It is not asked again unless it is named."""
        self._write("UPDATE upgrades SET refused = ? WHERE id = ?", (error, number))

    def decline(self, number: int) -> None:
        """The weak model's answer is good enough."""
        self._write("UPDATE upgrades SET declined = 1 WHERE id = ?", (number,))

    def _has_table(self) -> bool:
        """A file of an older version has none before something is written."""
        return bool(self._database.read("SELECT 1 FROM sqlite_master WHERE name = 'upgrades'", ()))

    def _write(self, query: str, values: tuple[object, ...]) -> None:
        with self._database.writing() as connection:
            connection.execute(query, values)


def _kept(row: sqlite3.Row) -> KeptAnswer | None:
    """None for what this version does not know."""
    try:
        record = record_of(row)
    except (ValueError, TypeError):
        return None
    text, model, at, cost = (row[f"better{name}"] for name in ("", "_model", "_time", "_cost"))
    better = Better(str(text), str(model), float(at or 0.0), cost) if text is not None else None
    refused = row["refused"]
    return KeptAnswer(
        record,
        str(row["asked"]),
        str(row["answer"]),
        bool(row["declined"]),
        None if refused is None else str(refused),
        better,
    )
