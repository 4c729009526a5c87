"""Adding to a file that is another program's: what was there stays, and a copy of it is kept beside it.

A mapping is merged into JSON, a text becomes a part between two marks; the same again changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_router.parsing import strict_json
from edge_router.system.disk import storage_errors, write_bytes

BEGIN = "# from here on written by `edge-router launch --write`"
END = "# until here written by `edge-router launch --write`"
_PART = re.compile(rf"^ *{re.escape(BEGIN)}\n.*?^ *{re.escape(END)}\n", re.MULTILINE | re.DOTALL)


class Unmergeable(ValueError):
    """The file cannot be added to; `str(error)` goes on where the file's name ended."""


def merged(
    before: bytes | None, content: str | Mapping[str, object], *, elsewhere: Iterable[str] = ()
) -> bytes:
    """The file with `content` in it; `before` is what it holds, None where it is not there.

    `elsewhere`: names in the JSON's `env` that would make `content` count for nothing. Raises `Unmergeable`.
    """
    text = _text(before)
    new = _with_part(text, content) if isinstance(content, str) else _with_values(text, content, elsewhere)
    return new.encode("utf-8")


def save(file: Path, new: bytes) -> Path | None:
    """Write it, and once keep a copy of what was there before us, whose path comes back."""
    file = file.resolve()  # many keep such files elsewhere, behind a link
    with storage_errors(file.parent):
        before = file.read_bytes() if file.exists() else None
        if before == new:
            return None
        file.parent.mkdir(parents=True, exist_ok=True)
        backup = file.with_name(f"{file.name}.before-edge-router")
        if before is not None and not backup.exists():
            write_bytes(backup, before, like=file)
        write_bytes(file, new, like=file)
    return backup if before is not None else None


def _text(before: bytes | None) -> str:
    try:
        return (before or b"").decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise Unmergeable("is not UTF-8") from error


def _with_values(text: str, content: Mapping[str, object], elsewhere: Iterable[str]) -> str:
    try:
        there = strict_json.parse_object(text, once=True) if text.strip() else {}
    except strict_json.NotJson as error:
        raise Unmergeable(f"is no plain JSON: {error}") from error
    env = there.get("env")
    if leading := [name for name in elsewhere if isinstance(env, dict) and env.get(name)]:
        raise Unmergeable(f"sets {leading[0]} in its env, which leads elsewhere: take it out first")
    new = _deep(there, content)
    return text if new == there else json.dumps(new, indent=2, ensure_ascii=False) + "\n"


def _deep(there: Mapping[str, Any], content: Mapping[str, object]) -> dict[str, object]:
    """`there` with `content` in it, at every level; None takes a name out."""
    new: dict[str, object] = dict(there)
    for name, value in content.items():
        if value is None:
            new.pop(name, None)
        elif isinstance(value, Mapping):
            inner = there.get(name)
            new[name] = _deep(inner if isinstance(inner, dict) else {}, value)
        else:
            new[name] = value
    return new


def _with_part(text: str, content: str) -> str:
    rest = _PART.sub("", text)
    names = set(re.findall(r"^([\w-]+):", content, re.MULTILINE))
    if twice := sorted(names.intersection(re.findall(r"^([\w-]+)\s*:", rest, re.MULTILINE))):
        raise Unmergeable(f"sets {twice[0]} itself: take that line out first")
    # The items of a YAML list stand one below the other
    indent = re.search(r"^ *(?=- )", rest, re.MULTILINE) if content.startswith("- ") else None
    part = "".join(f"{indent[0] if indent else ''}{line}\n" for line in (BEGIN, *content.splitlines(), END))
    if _PART.search(text):
        return _PART.sub(lambda _: part, text, count=1)
    return rest + ("\n" if rest and not rest.endswith("\n") else "") + part
