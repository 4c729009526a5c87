"""What names of GGUF files tell: which are parts of one model, and which hold no language model at all."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_OTHER = re.compile(r"(?:^|[^a-z])(?:mmproj|imatrix)(?:[^a-z]|$)", re.IGNORECASE)
_MOST_PARTS = 4096


def part_number(name: str) -> tuple[int, int] | None:
    """Which part of how many a file is, from 1 on; None for a file that is whole."""
    match = _PART.fullmatch(name)
    if match is None:
        return None
    number, count = int(match["number"]), int(match["count"])
    return (number, count) if 1 <= number <= count <= _MOST_PARTS else None


def parts_of(name: str) -> list[str]:
    """The names of all parts of the model that the file `name` is one of, in order; only its own if whole."""
    counted = part_number(name)
    return [name] if counted is None else [_part(name, number) for number in range(1, counted[1] + 1)]


def first_part(name: str) -> str:
    """The first of `parts_of(name)`; a repository may hold thousands of them."""
    return name if part_number(name) is None else _part(name, 1)


def _part(name: str, number: int) -> str:
    behind = name.rindex("-of-")
    return f"{name[: behind - len('00001')]}{number:05d}{name[behind:]}"


def title_of(name: str) -> str:
    """The file's name without its ending and, for a part, without its number."""
    first = first_part(name)
    match = _PART.fullmatch(first)
    return match["stem"] if match is not None else first.removesuffix(".gguf")


def models_among(names: Iterable[str]) -> dict[str, list[str]]:
    """The language models among files: the name of the first part to those of all the parts that are there.

    What sees for a model (mmproj) and what weighs for a quantizer (imatrix) is none.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        base = name.replace("\\", "/").rpartition("/")[2]
        if base.endswith(".gguf") and not _OTHER.search(base):
            found.setdefault(first_part(name), []).append(name)
    return found
