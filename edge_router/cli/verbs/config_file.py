"""Editing the configuration file in place: only the lines of what is set change, and a copy is kept.

The line that sets a key, or the comment that stands in its place, gives way to the new one. What is written
is read again and compared with what was meant; a file in which that went wrong (keys with dots, tables within
a line) is written anew.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge_router.config.file import flat
from edge_router.config.settings import Config
from edge_router.config.tiers import TierConfig, plain, written
from edge_router.errors import ConfigError
from edge_router.system.disk import hold, storage_errors, write_bytes, write_text
from edge_router.types import Progress

Flat = Mapping[str, object]  # "section.name" to a value; None: to be taken out

_LOCK_S = 30.0  # nobody needs longer for a small file
_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?")
_ASSIGNED = re.compile(r"""\s*(?P<off>\#\s?)?["']?(?P<name>[A-Za-z0-9_]+)["']?\s*=""")


def edited(text: str, values: Flat, anew: Callable[[Config], str], source: str) -> str:
    """`text` with `values`, and everything else as it stands; `anew` writes a whole file.

    Raises `ConfigError`, which names `source`, for a text that can't be read, and for settings that may not
    stand together.
    """
    meant = {key: value for key, value in {**flat(text, source), **values}.items() if value is not None}
    config = Config().replace(**meant)
    lines = text.splitlines()
    for key, value in values.items():
        lines = _with(lines, key, value)
    found = ("\r\n" if "\r\n" in text else "\n").join([*lines, ""])
    try:
        done = flat(found, source) == {key: plain_value(value) for key, value in meant.items()}
    except ConfigError:
        done = False
    return found if done else anew(config)


@contextmanager
def alone(file: Path, progress: Progress) -> Iterator[None]:
    """Inside, no other process changes the file: what is read there and written back loses nobody's keys."""
    with storage_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.with_name(f".{file.name}.lock")
        with hold(lock, timeout_s=_LOCK_S, progress=progress, doing=f"changes {file}"):
            yield


def save(file: Path, text: str) -> Path | None:
    """Write the file; where another was there, that lies beside it now, at the path that comes back.

    To be called while one is `alone` with the file.
    """
    with storage_errors(file.parent):
        before = file.read_bytes() if file.exists() else None
        if before == text.encode("utf-8"):
            return None
        backup = None if before is None else file.with_name(f"{file.name}.bak")
        if before is not None and backup is not None:
            write_bytes(backup, before)
        write_text(file, text)
    return backup


def toml(value: object) -> str:
    """Strings, booleans, numbers and lists of strings: JSON writes them as TOML does; and tiers."""
    if isinstance(value, tuple) and value and isinstance(value[0], TierConfig):
        return written(value)
    return json.dumps(plain_value(value), ensure_ascii=False)


def plain_value(value: object) -> object:
    if isinstance(value, tuple) and value and isinstance(value[0], TierConfig):
        return plain(value)
    return list(value) if isinstance(value, tuple) else value


def _with(lines: list[str], key: str, value: object) -> list[str]:
    """`lines` with one key set, or commented out for None."""
    section, _, name = key.rpartition(".")
    start, stop = _part(lines, section)
    if start is None:
        return lines if value is None else [*lines, "", f"[{section}]", f"{name} = {toml(value)}"]
    at, off = _place(lines, start, stop, name)
    if at is None:
        if value is None:
            return lines
        while stop > start and not lines[stop - 1].strip():
            stop -= 1
        return [*lines[:stop], f"{name} = {toml(value)}", *lines[stop:]]
    end = at + 1 if off else _end(lines, at, stop)
    if value is None:
        new = lines[at:end] if off else [f"# {line}" for line in lines[at:end]]
    else:
        new = [f"{name} = {toml(value)}{'' if off else _remark(lines[at:end])}"]
    return [*lines[:at], *new, *lines[end:]]


def _part(lines: list[str], section: str) -> tuple[int | None, int]:
    """The first line of a section and the one behind its last; "" is what stands before all of them."""
    headers = [(place, found[1]) for place, line in enumerate(lines) if (found := _HEADER.fullmatch(line))]
    ends = [place for place, _ in headers[1:]] + [len(lines)]
    if not section:
        return 0, headers[0][0] if headers else len(lines)
    for (place, name), end in zip(headers, ends, strict=False):
        if name.strip("\"'") == section:
            return place + 1, end
    return None, len(lines)


def _place(lines: list[str], start: int, stop: int, name: str) -> tuple[int | None, bool]:
    """Where `name` is set, else where it is commented out (True), in these lines."""
    found = {
        bool(match["off"]): place
        for place in range(stop - 1, start - 1, -1)
        if (match := _ASSIGNED.match(lines[place])) and match["name"] == name
    }
    return (found[False], False) if False in found else (found.get(True), True)


def _end(lines: list[str], at: int, stop: int) -> int:
    """Behind the value that begins there, which may go on over several lines."""
    for end in range(at + 1, stop + 1):
        if _reads("\n".join(lines[at:end])):
            return end
    return at + 1


def _remark(lines: list[str]) -> str:
    """The comment behind a value."""
    text = "\n".join(lines)
    places = [place for place, sign in enumerate(text) if sign == "#" and _reads(text[:place])]
    return f"  {text[places[0] :]}" if places else ""


def _reads(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
