"""The ledger's SQLite file: its table and versions, and one connection that writes."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from edge_router.errors import DiskFull, InvalidData, LockTimeout, NotWritable, StorageError
from edge_router.records import dataclass
from edge_router.system.disk import free_bytes, hold
from edge_router.types import SilentProgress

# Of the table below, in SQLite's user_version; 1 had no ratings, 2 no confidence, 3 no messages, 4 no found,
# 5 no endpoint, 6 no caller, 7 nothing of sessions, 8 nothing to
# upgrade, 9 no tier_model.
VERSION = 10
_FULL = 1 << 16  # bytes: less is left for nobody
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
    cause_message TEXT,             -- what that error says; nothing of the prompt
    prompt TEXT,
    confidence REAL,                -- the weak model's chance of being right, where it was looked at
    spent_prompt_tokens INTEGER, spent_completion_tokens INTEGER,  -- by the weak model, where it was too low
    rule TEXT,                      -- the user's that had a say
    endpoint TEXT,                  -- which of several has answered
    caller TEXT,                    -- whose key the query came with
    held TEXT,                      -- what kept the conversation with its model, where that decided
    held_tokens INTEGER,            -- that the other model would have had to read again
    would_escalate INTEGER,         -- 1 where the weak model answered only for want of the strong one
    tier_model TEXT,                -- the model that the score chose, where there are more than two
    found TEXT,                     -- what the guard has found, a line each; nothing of what that says
    rating INTEGER                  -- the user's: 1 is thumbs up, -1 down
)"""
_SINCE_1 = ("ALTER TABLE decisions ADD COLUMN rating INTEGER",)
_SINCE_2 = (
    "ALTER TABLE decisions ADD COLUMN confidence REAL",
    "ALTER TABLE decisions ADD COLUMN spent_prompt_tokens INTEGER",
    "ALTER TABLE decisions ADD COLUMN spent_completion_tokens INTEGER",
)
_SINCE_3 = ("ALTER TABLE decisions ADD COLUMN cause_message TEXT",)
_SINCE_4 = (
    "ALTER TABLE decisions ADD COLUMN found TEXT",
    "ALTER TABLE decisions ADD COLUMN rule TEXT",
)
_SINCE_5 = ("ALTER TABLE decisions ADD COLUMN endpoint TEXT",)
_SINCE_6 = ("ALTER TABLE decisions ADD COLUMN caller TEXT",)
_SINCE_7 = (
    "ALTER TABLE decisions ADD COLUMN held TEXT",
    "ALTER TABLE decisions ADD COLUMN held_tokens INTEGER",
)
_UPGRADES = """
CREATE TABLE upgrades (             -- answers that the strong model may better; only where prompts are kept
    id INTEGER PRIMARY KEY,         -- of the decision
    request TEXT NOT NULL,          -- the whole question, as JSON
    answer TEXT NOT NULL,           -- the weak model's
    declined INTEGER,               -- 1 where the user is content with it
    refused TEXT,                   -- why the strong model will not better it: a class name
    claimed REAL,                   -- since when a process has the strong model at it
    better TEXT, better_model TEXT, better_time REAL,
    prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL
)"""
_SINCE_8 = ("ALTER TABLE decisions ADD COLUMN would_escalate INTEGER", _UPGRADES)
_SINCE_9 = ("ALTER TABLE decisions ADD COLUMN tier_model TEXT",)
_INDEX = "CREATE INDEX decisions_by_time ON decisions (time)"
_SINCE = (_SINCE_1, _SINCE_2, _SINCE_3, _SINCE_4, _SINCE_5, _SINCE_6, _SINCE_7, _SINCE_8, _SINCE_9)
_STEPS = {  # from an older version to this one
    0: (_TABLE, _INDEX, _UPGRADES),
    **{old: tuple(step for steps in _SINCE[old - 1 :] for step in steps) for old in range(1, VERSION)},
}


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of a file: their version, and what leads here from each older one (0: nothing yet)."""

    version: int
    steps: Mapping[int, Sequence[str]]


LEDGER = Schema(VERSION, _STEPS)


class Database:
    """One file. Safe to use from several threads and processes; created with the first write."""

    def __init__(self, path: Path, schema: Schema = LEDGER) -> None:
        self._path, self._schema = path, schema
        self._file: tuple[int, int] | None = None  # which one the connection writes to
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def exists(self) -> bool:
        return self._path.exists()

    def read(
        self, query: str, values: Sequence[object] | Mapping[str, object], *, busy_s: float = BUSY_S
    ) -> list[sqlite3.Row]:
        """Through a connection of its own that cannot write, and so works where the file is read-only.

        Nothing where there is no file yet. `busy_s`: how long to wait for one that others hold. Raises
        `StorageError`, `InvalidData`.
        """
        if not self.exists():
            return []
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=busy_s)) as connection:
                connection.row_factory = sqlite3.Row
                self._check_version(_version(connection))
                return connection.execute(query, values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise _problem(self._path, error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone; the next call after an error starts afresh. Raises as `read` does."""
        with self._lock:
            try:
                if self._connection is not None and _identity(self._path) != self._file:
                    self._drop()  # somebody removed or replaced it: what is written there would be lost
                if self._connection is None:
                    self._connection = self._opened()
                    self._file = _identity(self._path)
                yield self._connection
            except InvalidData:
                self._drop()
                raise
            except (sqlite3.Error, OSError, OverflowError) as error:
                self._drop()
                raise _problem(self._path, error) from error

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self.exists():
            self._create()
        return self._connected(self._path)

    def _create(self) -> None:
        """With its tables from the first moment: who finds a file without any takes it for a damaged one."""
        lock, draft = Path(f"{self._path}.lock"), Path(f"{self._path}.new")
        with hold(lock, timeout_s=BUSY_S, progress=SilentProgress(), doing="makes a file"):
            if not self.exists():
                _remove(draft)
                _remove(self._path)  # the log of one that vanished
                self._connected(draft).close()
                draft.replace(self._path)

    def _connected(self, path: Path) -> sqlite3.Connection:
        # Prompts may be in it: nobody else's business. SQLite gives its log the same rights. A file that is
        # there is not opened beside SQLite: closing it would end the locks of all this process's connections,
        # and another process would take away the log that they write to.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost rows, not the file
            connection.execute("PRAGMA secure_delete=ON")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if _version(connection) < self._schema.version:
            connection.execute("BEGIN IMMEDIATE")  # another process may be at it: look only now
            steps = self._schema.steps.get(_version(connection), ())
            for statement in (*steps, f"PRAGMA user_version={self._schema.version}") if steps else ():
                connection.execute(statement)
            connection.execute("COMMIT")
        self._check_version(_version(connection))

    def _check_version(self, found: int) -> None:
        known = self._schema.version
        if not 1 <= found <= known:  # an older file is read as it is, and brought up to date to write
            reason = f"its format is {found}, of another edge_router; this one knows {known}"
            raise InvalidData(self._path, reason)

    def remove(self) -> None:
        """Delete the file and what SQLite keeps beside it. Raises `StorageError`."""
        try:
            _remove(self._path)
        except OSError as error:
            raise _problem(self._path, error) from error

    def close(self) -> None:
        """May be called twice; a later call opens the file again."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def together(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written within, or nothing of it; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there; None where none does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _problem(path: Path, error: sqlite3.Error | OSError | OverflowError) -> StorageError | InvalidData:
    """What SQLite or the system said, as ours."""
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith("SQLITE_FULL") or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return DiskFull(path)
    if (
        code.startswith("SQLITE_IOERR") and free_bytes(path) < _FULL
    ):  # what SQLite says of its log's index then
        return DiskFull(path)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return LockTimeout(path, BUSY_S)
    # SQLITE_ERROR: a table or a column is not there.
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or code == "SQLITE_ERROR":
        return InvalidData(path, f"is damaged: {error}")
    if isinstance(error, OverflowError):
        return InvalidData(path, f"a number does not fit: {error}")
    return NotWritable(path, str(getattr(error, "strerror", None) or error))
