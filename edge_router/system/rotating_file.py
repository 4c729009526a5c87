"""A log that never grows beyond what it may: full, it becomes FILE.1, and the oldest goes."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

MOST_BYTES, KEPT = 1_000_000, 3  # of a file, and files beside the one that is written


class RotatingFile(io.TextIOBase):
    """A stream for text, such as may stand for `sys.stderr`. What cannot be written is lost without an error:
    a full disk costs lines, and no answer.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES, kept: int = KEPT) -> None:
        """Raises `OSError` where there can be no such file."""
        self._path, self._most, self._kept = path, most_bytes, kept
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._opened()

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            if self._file.closed:
                self._file = self._opened()
            content = text.encode("utf-8", "replace")
            if self._file.tell() + len(content) > self._most and self._file.tell():
                self._rotate()
            self._file.write(content)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()

    def _opened(self) -> io.FileIO:
        """To append to, for this user's eyes."""
        number = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        file = io.FileIO(number, "ab")
        file.seek(0, io.SEEK_END)
        return file

    def _rotate(self) -> None:
        self._file.close()  # Windows renames none that is open
        for number in range(self._kept, 0, -1):
            older = self._named(number - 1) if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                older.replace(self._named(number))
        self._file = self._opened()

    def _named(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
