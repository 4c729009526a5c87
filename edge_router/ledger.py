"""The local record of decisions: one row per answer in an SQLite file, never sent anywhere.

Prompt text is kept only where the user turned that on; otherwise nothing of the prompt is, not even a hash,
which a guess could be checked against. Errors are kept as the name of their class. No key ever gets here.

Several processes may write at once. A ledger that can't be written never breaks an answer: the problem is
reported once, and later records are tried again.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_router.errors import DiskFull, InvalidData, LockTimeout, NotWritable, StorageError
from edge_router.types import Decision, Reason, Tier, Timings, Usage

VERSION = 2  # of the tables below, in SQLite's user_version; 1 had no ratings
BUSY_S = 2.0  # how long to wait for another process's row

_TABLE = """
CREATE TABLE decisions (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,             -- seconds since 1970, UTC
    tier TEXT NOT NULL,             -- weak or strong
    reason TEXT NOT NULL,
    router TEXT, score REAL, threshold REAL,
    model TEXT NOT NULL,            -- the id of the model that answered
    prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER,
    score_ms REAL, ttft_ms REAL, total_ms REAL, prefill_tokens_per_s REAL, decode_tokens_per_s REAL,
    error TEXT,                     -- how it ended, where it ended badly: a class name
    cause TEXT,                     -- why the other model was asked first and failed: a class name
    prompt TEXT,
    rating INTEGER                  -- the user's: 1 is thumbs up, -1 down
)"""
_SINCE_1 = "ALTER TABLE decisions ADD COLUMN rating INTEGER"
_INDEX = "CREATE INDEX decisions_by_time ON decisions (time)"
_INSERT = """
INSERT INTO decisions (
    time, tier, reason, router, score, threshold, model, prompt_tokens, completion_tokens, cached_tokens,
    score_ms, ttft_ms, total_ms, prefill_tokens_per_s, decode_tokens_per_s, error, cause,
    prompt
) VALUES (
    :time, :tier, :reason, :router, :score, :threshold, :model, :prompt_tokens, :completion_tokens,
    :cached_tokens, :score_ms, :ttft_ms, :total_ms, :prefill_tokens_per_s, :decode_tokens_per_s, :error,
    :cause, :prompt
)"""
_SUMMARY = """
SELECT tier, reason, model, COUNT(*) AS records, COUNT(error) AS errors,
    MIN(time) AS first, MAX(time) AS last,
    TOTAL(prompt_tokens) AS prompted, TOTAL(completion_tokens) AS completed
FROM decisions WHERE time >= ? GROUP BY tier, reason, model"""


@dataclass(frozen=True, slots=True)
class Record:
    """One answer, or the failure to give one. `error` and `cause` are names of errors' classes."""

    decision: Decision
    model: str
    usage: Usage | None = None
    timings: Timings = field(default_factory=Timings)
    error: str | None = None  # how it ended, where it ended badly
    cause: str | None = None  # what the model met that was asked before this one
    prompt: str | None = field(default=None, repr=False)  # kept only where the ledger stores prompts
    time: float = field(default_factory=time.time)  # seconds since 1970
    rating: int | None = None  # the user's: 1 is thumbs up, -1 down
    id: int | None = None  # of the row, once it is one


@dataclass(frozen=True, slots=True)
class Summary:
    """Sums over records. `strong_share` is None without records."""

    records: int
    errors: int
    by_tier: Mapping[str, int]
    by_reason: Mapping[str, int]
    prompt_tokens: Mapping[str, int]  # by model id
    completion_tokens: Mapping[str, int]  # by model id
    first: float | None  # seconds since 1970
    last: float | None

    @property
    def strong_share(self) -> float | None:
        return self.by_tier.get("strong", 0) / self.records if self.records else None


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
        self._path, self._store_prompts, self._report = path, store_prompts, report
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._reported: set[type[Exception]] = set()

    def record(self, record: Record) -> int | None:
        """Append it; its id. None where that was not possible; raises nothing."""
        try:
            with self._writing() as connection:
                return connection.execute(_INSERT, self._row(record)).lastrowid
        except (StorageError, InvalidData) as problem:
            if type(problem) not in self._reported:
                self._reported.add(type(problem))
                self._report(problem)
            return None

    def recent(self, count: int = 20) -> tuple[Record, ...]:
        """The last `count` records, newest first. Raises `StorageError`, `InvalidData`."""
        rows = self._read("SELECT * FROM decisions ORDER BY id DESC LIMIT ?", (max(0, count),))
        return tuple(_record(row) for row in rows)

    def records(self, *, router: str | None = None, since: float = 0.0) -> tuple[Record, ...]:
        """Every record, oldest first, of one router where it is named. Raises as `recent` does."""
        rows = self._read(
            "SELECT * FROM decisions WHERE time >= ? AND (? IS NULL OR router = ?) ORDER BY id",
            (since, router, router),
        )
        return tuple(_record(row) for row in rows)

    def scores(self, *, router: str | None = None, since: float = 0.0) -> tuple[float, ...]:
        """Every score, oldest first, of one router where it is named. `since`: seconds since 1970."""
        rows = self._read(
            "SELECT score FROM decisions WHERE score IS NOT NULL AND time >= ? AND (? IS NULL OR router = ?) "
            "ORDER BY id",
            (since, router, router),
        )
        return tuple(row["score"] for row in rows)

    def rate(self, number: int, rating: Literal[1, -1]) -> Record | None:
        """Thumbs up or down for the answer with that id; None where there is none.

        Raises `StorageError`, `InvalidData`.
        """
        if not self._path.exists():
            return None
        with self._writing() as connection:
            connection.execute("UPDATE decisions SET rating = ? WHERE id = ?", (rating, number))
            row = connection.execute("SELECT * FROM decisions WHERE id = ?", (number,)).fetchone()
        return None if row is None else _record(row)

    def rated(self) -> tuple[Record, ...]:
        """Every record with a rating, oldest first. Raises as `recent` does."""
        return tuple(record for record in self.records() if record.rating is not None)

    def summary(self, *, since: float = 0.0) -> Summary:
        """Counts and sums of everything from `since` (seconds since 1970) on."""
        rows = self._read(_SUMMARY, (since,))

        def sums(by: str, of: str) -> dict[str, int]:
            counter: Counter[str] = Counter()
            for row in rows:
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
        if not self._path.exists():
            return 0
        try:
            with self._writing() as connection:
                limit = float("inf") if before is None else before
                count = connection.execute("DELETE FROM decisions WHERE time < ?", (limit,)).rowcount
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log holds copies
            return count
        except InvalidData:
            if before is not None:
                raise
        self._remove()
        return 0

    def close(self) -> None:
        """May be called twice; a later call opens the file again."""
        with self._lock:
            self._drop()

    # ---- the file

    def _row(self, record: Record) -> dict[str, object]:
        decision, usage, timings = record.decision, record.usage, record.timings
        prompt = record.prompt if self._store_prompts else None
        return {
            "time": record.time,
            "tier": decision.model,
            "reason": str(decision.reason),
            "router": decision.router,
            "score": decision.score,
            "threshold": decision.threshold,
            "model": record.model,
            "prompt_tokens": usage and usage.prompt_tokens,
            "completion_tokens": usage and usage.completion_tokens,
            "cached_tokens": usage and usage.cached_tokens,
            "score_ms": timings.score_ms,
            "ttft_ms": timings.ttft_ms,
            "total_ms": timings.total_ms,
            "prefill_tokens_per_s": timings.prefill_tokens_per_s,
            "decode_tokens_per_s": timings.decode_tokens_per_s,
            "error": record.error,
            "cause": record.cause,
            # JSON can spell half of a surrogate pair, which UTF-8 can't.
            "prompt": None if prompt is None else prompt.encode("utf-8", "replace").decode(),
        }

    def _read(self, query: str, values: tuple[object, ...]) -> list[sqlite3.Row]:
        """Through a connection of its own that cannot write, and so works where the file is read-only."""
        if not self._path.exists():
            return []
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_S)) as connection:
                connection.row_factory = sqlite3.Row
                _check_version(self._path, _version(connection))
                return connection.execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise _problem(self._path, error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone; SQLite's errors become ours here, and the next call starts afresh."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._opened()
                yield self._connection
            except InvalidData:
                self._drop()
                raise
            except (sqlite3.Error, OSError, OverflowError) as error:
                self._drop()
                raise _problem(self._path, error) from error

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Prompts may be in it: nobody else's business. SQLite gives its log the same rights.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(
            self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "PRAGMA synchronous=NORMAL"
            )  # a power cut may cost the last rows, not the file
            connection.execute("PRAGMA secure_delete=ON")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if _version(connection) == 0:
            connection.execute("BEGIN IMMEDIATE")  # another process may be at it: look again once it is done
            if _version(connection) == 0:
                connection.execute(_TABLE)
                connection.execute(_INDEX)
                connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
        elif _version(connection) == 1:
            connection.execute("BEGIN IMMEDIATE")
            if _version(connection) == 1:
                connection.execute(_SINCE_1)
                connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
        _check_version(self._path, _version(connection))

    def _remove(self) -> None:
        try:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            raise _problem(self._path, error) from error

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(path: Path, found: int) -> None:
    if found not in (1, VERSION):  # a file of version 1 is read as it is, and brought up to date to write
        reason = f"its format is {found}, of another edge_router; this one knows {VERSION}"
        raise InvalidData(path, reason)


def _problem(path: Path, error: sqlite3.Error | OSError | OverflowError) -> StorageError | InvalidData:
    """What SQLite or the system said, as ours."""
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith("SQLITE_FULL") or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return DiskFull(path)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LockTimeout(path, BUSY_S)
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return InvalidData(path, f"is damaged: {error}")
    if isinstance(error, OverflowError):
        return InvalidData(path, f"a number does not fit: {error}")
    return NotWritable(path, str(getattr(error, "strerror", None) or error))


def _record(row: sqlite3.Row) -> Record:
    tier: Tier = "strong" if row["tier"] == "strong" else "weak"
    usage = None
    if row["prompt_tokens"] is not None:
        usage = Usage(row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"])
    return Record(
        Decision(tier, Reason(row["reason"]), row["score"], row["threshold"], row["router"]),
        row["model"],
        usage,
        Timings(
            row["score_ms"],
            row["ttft_ms"],
            row["total_ms"],
            row["prefill_tokens_per_s"],
            row["decode_tokens_per_s"],
        ),
        row["error"],
        row["cause"],
        row["prompt"],
        row["time"],
        row["rating"] if "rating" in row.keys() else None,  # noqa: SIM118 - a row is no mapping
        row["id"],
    )
