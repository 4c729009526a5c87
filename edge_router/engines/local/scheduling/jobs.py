"""What the worker is asked: an answer, the model's memory back, the model there again."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from edge_router.engines.local.sampler import SampledToken, Sampler
from edge_router.engines.local.scheduling.branches import Branches
from edge_router.engines.local.scheduling.sequences import CachedSequence
from edge_router.engines.local.scheduling.speculation import Guesses
from edge_router.errors import EngineError
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.engines.local.scheduling.prefixes import Prefix


class Recipient(Protocol):
    """Who is told what hinders a job. Called in the scheduler's thread, so it must not block."""

    def fail(self, error: EngineError) -> None:
        """Nothing follows."""
        ...

    def limit(self, max_tokens: int) -> None:
        """No more than so many tokens may follow its own, whatever was asked."""
        ...


class Sink(Recipient, Protocol):
    """Who receives an answer."""

    def push(self, choice: SampledToken, job: GenerationTask) -> bool:
        """One more token. True when the answer is complete."""
        ...

    def ends(self, choice: SampledToken) -> bool:
        """Whether `push` of it would surely complete the answer; if not, it still may."""
        ...


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class UnloadPolicy:
    """When the model's memory is given back: after `idle_s` without work, and when other programs need it.

    `pressed` says whether what the model may still take is no longer there. It is asked when work comes to an
    idle model, and every `look_s` while it works.
    """

    idle_s: float | None = None
    pressed: Callable[[], bool] = _never
    look_s: float = 0.5


@dataclass(slots=True, eq=False, kw_only=True)
class Task:
    """What takes a place in the KV cache: `tokens` are to be read."""

    tokens: list[int]
    sink: Recipient
    cancelled: Callable[[], bool]
    held: CachedSequence | None = None
    cached_tokens: int | None = None  # of the prompt, found in the KV cache; None before the job began
    began: float = 0.0  # time.perf_counter()

    @property
    def pending(self) -> int:
        """Tokens that the model has not seen yet."""
        return len(self.tokens) - (len(self.held.tokens) if self.held else 0)

    @property
    def unread(self) -> bool:
        """Whether some of them come before those of which each step takes one."""
        return self.pending > 0

    @property
    def next_joint(self) -> int:
        """How many are read at most when the next call that reads some is over."""
        return len(self.tokens)


@dataclass(slots=True, eq=False, kw_only=True)
class GenerationTask(Task):
    """One answer to be computed. `tokens` is the prompt, to which the chosen tokens are added."""

    sampler: Sampler
    sink: Sink
    first_token: float = 0.0  # time.perf_counter(), like the next one
    last_token: float = 0.0
    guesses: Guesses = field(init=False)
    prefix: Prefix | None = None  # of the prompt, that is to stay on the disk

    def __post_init__(self) -> None:
        self.guesses = Guesses(self.tokens)

    @property
    def unread(self) -> bool:
        return self.pending > 1

    @property
    def next_joint(self) -> int:
        """What stays on the disk is read alone, so that the same calls follow it when it comes from there."""
        kept = len(self.prefix.tokens) if self.prefix is not None else 0
        return kept if self.held is not None and len(self.held.tokens) < kept else len(self.tokens)


@dataclass(slots=True, eq=False, kw_only=True)
class Survey(Task):
    """What is asked behind `tokens`, which all `branches` share. Others begin with `head` of them, too."""

    branches: Branches
    head: int = 0

    @property
    def next_joint(self) -> int:
        return self.held.next_joint if self.held is not None else len(self.tokens)

    def joints(self, step: int) -> tuple[int, ...]:
        """Where a call ends that reads them, whatever else is computed then and whatever is known already."""
        begun = [self.head] if self.head else []
        return (*begun, *range(self.head + step, len(self.tokens), step), len(self.tokens))


class Unload:
    """Asks for the model's memory, once nobody waits for an answer."""


class Load:
    """Asks for the model's memory to be there; `told` gets None then, or what keeps it from that."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[EngineError | None] = queue.SimpleQueue()


Order: TypeAlias = Task | Unload | Load | None  # None: stop
