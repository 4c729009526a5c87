"""What the ledger keeps of one answer, and sums over many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import field

from edge_router.chat.events import Usage
from edge_router.errors import InvalidInput
from edge_router.records import dataclass
from edge_router.types import Decision, Timings


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
    spent: Usage | None = None  # by the weak model, before it was found too unsure
    id: int | None = None  # of the row, once it is one
    cause_message: str | None = None  # what the cause says, without what the user wrote


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


class NothingRecorded(InvalidInput):
    """The ledger holds nothing of what was asked for; `what` says of what."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the ledger holds no {what}")
