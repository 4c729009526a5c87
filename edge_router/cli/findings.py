"""What a check of `doctor` comes back with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal, TypeAlias

from edge_router.records import dataclass

State = Literal["ok", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`note` is worth knowing, `bad` keeps something from working; both say what mends it."""

    section: str
    name: str
    text: str
    state: State = "ok"

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


Found: TypeAlias = Iterator[Finding]
