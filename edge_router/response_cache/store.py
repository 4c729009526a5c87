"""Answers by their keys in SQLite: a file that several processes share, or in memory.

Nothing of a prompt is in it but a hash and, where questions that are nearly the same count, a vector; answers
are there as they were given. Room and age are bounded; what was asked for the longest ago goes first.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from edge_router.chat.events import Event
from edge_router.errors import InvalidData
from edge_router.ledger.database import Database, Schema, together
from edge_router.records import dataclass
from edge_router.response_cache.transcript import load
from edge_router.types import Tier

_TABLES = (
    """CREATE TABLE answers (
    key TEXT PRIMARY KEY,           -- see key.py
    caller TEXT NOT NULL,           -- whose key it was asked with; "" without one
    time REAL NOT NULL,             -- when it was made, in seconds since 1970
    used REAL NOT NULL,             -- when it was asked for last
    hits INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    tier TEXT NOT NULL,             -- weak or strong
    model TEXT NOT NULL,            -- the id of the model that gave it
    maker TEXT NOT NULL,            -- a hash of what that model was and how it was set
    endpoint TEXT,
    asked TEXT,                     -- which of several strong models the score chose
    score REAL,
    events TEXT NOT NULL,           -- JSON; see transcript.py
    context TEXT,                   -- what has to be the same for nearly the same question
    vector BLOB                     -- of the question: float16, of length 1
) WITHOUT ROWID""",
    """CREATE VIEW listed AS
SELECT key, caller, time, used, hits, bytes, tier, model, maker, endpoint, asked, score, context, vector
FROM answers""",
    "CREATE INDEX answers_by_use ON answers (used, bytes)",
    "CREATE INDEX answers_by_context ON answers (context, used) WHERE context IS NOT NULL",
)
_SCHEMA = Schema(1, {0: _TABLES})
_INSERT = """
INSERT OR REPLACE INTO answers (
    key, caller, time, used, hits, bytes, tier, model, maker, endpoint, asked, score, context, vector, events
) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ROW = 400  # bytes that a row takes beside its events and its vector
TOUCHES_S = 5.0
MOST_COMPARED = 2_000  # questions of one context, those that were asked last


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept answer; times are seconds since 1970."""

    key: str
    caller: str
    time: float
    tier: Tier
    model: str
    maker: str
    endpoint: str | None = None
    asked: str | None = None
    score: float | None = None
    context: str | None = None
    vector: bytes | None = None
    text: str = ""  # its events, as they are kept; empty where it is only listed
    used: float = 0.0
    hits: int = 0
    bytes: int = 0

    def events(self) -> list[Event]:
        """Raises `InvalidData`."""
        try:
            return load(self.text)
        except (ValueError, TypeError, RecursionError, IndexError) as error:
            raise InvalidData(Path(self.key[:12]), f"is no kept answer: {error}") from error


@dataclass(frozen=True, slots=True)
class Totals:
    answers: int = 0
    bytes: int = 0
    hits: int = 0


class _Place(Protocol):
    def exists(self) -> bool: ...

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection, alone. Raises `StorageError`, `InvalidData`."""
        ...

    def close(self) -> None: ...


class _Memory:
    """A `Database` without a file, which lasts until it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def exists(self) -> bool:
        return self._connection is not None

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                connection.row_factory = sqlite3.Row
                for statement in _TABLES:
                    connection.execute(statement)
                self._connection = connection
            yield self._connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class AnswerStore:
    """Safe to use from several threads and, with a `file`, processes. Without one it is in memory.

    Every call raises `StorageError` and `InvalidData`. Who looks something up waits for nobody who writes.
    """

    def __init__(
        self,
        file: Path | None,
        *,
        max_bytes: int = 100_000_000,
        max_age_s: float = 604_800.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.file, self._most, self._age, self._clock = file, max_bytes, max_age_s, clock
        self._place: _Place = _Memory() if file is None else Database(file, _SCHEMA)
        self._reading: _Place = self._place if file is None else Database(file, _SCHEMA)
        self._touching = threading.Lock()  # of what follows
        self._touched: dict[str, tuple[int, float]] = {}  # by key: how often, and when last
        self._settled = time.monotonic()

    def find(self, key: str, *, max_age_s: float | None = None) -> Entry | None:
        """The answer of that key, unless it is too old."""
        found = self._read("SELECT * FROM answers WHERE key = ?", (key,))
        return next((each for each in found if self._is_fresh(each, max_age_s)), None)

    def similar(self, context: str, *, max_age_s: float | None = None) -> list[Entry]:
        """Those of one context without their events, the last used first."""
        found = self._read(
            "SELECT * FROM listed WHERE context = ? ORDER BY used DESC LIMIT ?",
            (context, MOST_COMPARED),
        )
        return [each for each in found if each.vector is not None and self._is_fresh(each, max_age_s)]

    def entries(self) -> list[Entry]:
        """All that may still be given, the last used first, without their events."""
        self._settle()
        found = self._read("SELECT * FROM listed ORDER BY used DESC", ())
        return [each for each in found if self._is_fresh(each, None)]

    def named(self, beginning: str) -> list[Entry]:
        """Those whose key begins so, with their events."""
        query = "SELECT * FROM answers WHERE substr(key, 1, ?) = ? ORDER BY key"
        return self._read(query, (len(beginning), beginning))

    def totals(self) -> Totals:
        if not self._reading.exists():
            return Totals()
        self._settle()
        query = "SELECT COUNT(*), TOTAL(bytes), TOTAL(hits) FROM answers"
        with self._reading.writing() as connection:
            return Totals(*(int(value) for value in connection.execute(query).fetchone()))

    def put(self, entry: Entry) -> None:
        """Keep it in place of one of the same key, and let go of what is too old or too much.

        One that is larger than all of them may be together is not kept.
        """
        size = _ROW + len(entry.text.encode()) + len(entry.vector or b"")
        if size > self._most:
            return
        row = (
            *(entry.key, entry.caller, entry.time, self._clock(), size, entry.tier, entry.model),
            *(entry.maker, entry.endpoint, entry.asked, entry.score, entry.context, entry.vector, entry.text),
        )
        with self._place.writing() as connection, together(connection):
            self._write_touched(connection)
            connection.execute(_INSERT, row)
            connection.execute("DELETE FROM answers WHERE time < ?", (self._clock() - self._age,))
            self._make_room(connection)

    def touch(self, key: str) -> None:
        """It was given again. Written down with the next answer that is kept, or some seconds later: a write
        would take as long as all else."""
        with self._touching:
            count, _ = self._touched.get(key, (0, 0.0))
            self._touched[key] = (count + 1, self._clock())
            if time.monotonic() - self._settled < TOUCHES_S:
                return
        self._settle()

    def _settle(self) -> None:
        """Write down what was given again."""
        if self._touched and self._place.exists():
            with self._place.writing() as connection, together(connection):
                self._write_touched(connection)

    def _write_touched(self, connection: sqlite3.Connection) -> None:
        with self._touching:
            touched, self._touched = self._touched, {}
            self._settled = time.monotonic()
        rows = [(used, count, key) for key, (count, used) in touched.items()]
        connection.executemany("UPDATE answers SET used = ?, hits = hits + ? WHERE key = ?", rows)

    def remove(self, keys: Sequence[str]) -> None:
        with self._place.writing() as connection, together(connection):
            connection.executemany("DELETE FROM answers WHERE key = ?", ((key,) for key in keys))

    def clear(self, *, caller: str | None = None) -> int:
        """Delete all of them, or those of one caller; says how many. Their bytes are overwritten.

        Clearing all of a damaged file removes it.
        """
        if not self._place.exists():
            return 0
        try:
            with self._place.writing() as connection:
                query = "DELETE FROM answers WHERE ? IS NULL OR caller = ?"
                count = connection.execute(query, (caller, caller)).rowcount
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds copies
            return count
        except InvalidData:
            if caller is not None or not isinstance(self._place, Database):
                raise
            self._place.remove()
            return 0

    def close(self) -> None:
        """May be called twice; a later call opens the file again."""
        self._settle()
        self._place.close()
        self._reading.close()

    def _read(self, query: str, values: Sequence[object]) -> list[Entry]:
        if not self._reading.exists():
            return []
        with self._reading.writing() as connection:
            return [_entry(row) for row in connection.execute(query, values)]

    def _is_fresh(self, entry: Entry, max_age_s: float | None) -> bool:
        """One from the future was made by a wrong clock."""
        most = self._age if max_age_s is None else min(max_age_s, self._age)
        return 0 <= self._clock() - entry.time <= most

    def _make_room(self, connection: sqlite3.Connection) -> None:
        over = int(connection.execute("SELECT TOTAL(bytes) FROM answers").fetchone()[0]) - self._most
        gone: list[tuple[str]] = []
        for row in connection.execute("SELECT key, bytes FROM answers ORDER BY used") if over > 0 else ():
            if over <= 0:
                break
            gone.append((row[0],))
            over -= row[1]
        connection.executemany("DELETE FROM answers WHERE key = ?", gone)


def _entry(row: sqlite3.Row) -> Entry:
    """Raises `InvalidData` for a row that nobody here has written."""
    found = dict(row)
    text = found.pop("events", "")
    kinds = ("key", "caller", "tier", "model", "maker")
    plain = isinstance(text, str) and all(isinstance(found[name], str) for name in kinds)
    numbers = all(isinstance(found[name], int | float) for name in ("time", "used", "hits", "bytes"))
    if not plain or not numbers or found["tier"] not in ("weak", "strong"):
        raise InvalidData(Path("response cache"), "holds a row of another edge_router")
    return Entry(text=text, **found)
