"""`runtime.json`: where the server that runs is found, left by it for other programs of its user."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import edge_router
from edge_router.cli.chat.resident import FILE, Gone, folder, read
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.server.http.listen import reached

_SAME_S = 2.0  # by so much may the two ways to ask when a process began differ


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs: `url` such as "http://127.0.0.1:6060", `started` in seconds since 1970."""

    pid: int
    started: float
    url: str
    version: str
    dashboard: str | None = None  # a link that opens it, once


class RuntimeFile:
    """What one server leaves. `token` is known to who can read the file, and to nobody else."""

    def __init__(self) -> None:
        self.place, self.token = folder(), secrets.token_hex(32)
        self._told: dict[str, object] = {}

    def prepare(self) -> None:
        """Make the folder, for this user's eyes. Raises `OSError`."""
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.place.chmod(0o700)

    def write(self, url: str, more: Mapping[str, object]) -> None:
        """In the place of what another server has left there. Raises `OSError`."""
        facts = {"url": reached(url), "pid": os.getpid(), "started": began(os.getpid()), "token": self.token}
        self._told = {"version": edge_router.__version__, **facts, **more}
        _write(self.place / FILE, json.dumps(self._told))

    def add(self, more: Mapping[str, object]) -> None:
        """Say that, too, unless a later server's is there by now. Raises `OSError`."""
        self._told |= more
        if self._is_ours():
            _write(self.place / FILE, json.dumps(self._told))

    def remove(self) -> bool:
        """Unless a later server's is there by now: whether it was ours."""
        if not self._is_ours():
            return False
        with contextlib.suppress(OSError):
            (self.place / FILE).unlink()
            return True
        return False

    def _is_ours(self) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return bool(strict_json.read_object(self.place / FILE)["token"] == self.token)
        return False


def running(began: Callable[[int], float | None] | None = None) -> Running | None:
    """The server of this user that runs; None where there is none, or only what a dead one has left: its
    number may be another process's by now, which began later.
    """
    try:
        told = read(folder())
        facts = (int(told["pid"]), float(told["started"]), str(told["url"]), str(told["version"]))
        page = told.get("dashboard")
    except (Gone, OSError, ValueError, KeyError, TypeError):
        return None
    found = Running(*facts, page if isinstance(page, str) else None)
    since = (began or _began)(found.pid)
    return found if since is not None and abs(since - found.started) < _SAME_S else None


def began(pid: int) -> float:
    """When that process began, in seconds since 1970; now, where the system does not say."""
    return _began(pid) or time.time()


def _began(pid: int) -> float | None:
    """None where there is no such process."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, OSError):
        return None


def _write(file: Path, text: str) -> None:
    """For this user's eyes, whole or not at all."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as opened:
        opened.write(text)
    draft.replace(file)
