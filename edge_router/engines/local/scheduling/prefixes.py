"""Beginnings of prompts whose keys and values stay on the disk: what is to stay there, read and written.

Only what a request or a setting marks is kept, and of a prompt that is its system messages with its tools. It
is read in calls that end where it ends, so that the numbers are the same whether they come from a file or
not. What is new is written once nobody waits for an answer, from the sequence that still holds it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np

from edge_router.chat.request import ChatRequest
from edge_router.engines.local.prompt import system_messages
from edge_router.engines.local.runner import ModelRunner, SavesPages, SavingRunner
from edge_router.engines.local.scheduling.jobs import GenerationTask
from edge_router.engines.local.scheduling.sequences import CachedSequence, SequencePool, common_prefix
from edge_router.records import dataclass
from edge_router.store.prefixes import PrefixStore
from edge_router.webgpu_program import PAGE_SIZE

_KNOWN = 8  # beginnings of requests
_WAITING = 16  # to be written; a sequence pool holds no more of them
_REMEMBERED = 1000  # that are on the disk; others are looked for once more
LEAST = 64  # tokens; fewer are read as fast as a file is looked for


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first tokens of a prompt, in whole pages, which are to stay in a store: those with the hash `text`,
    for `caller`. `facts`: what they are read by."""

    tokens: tuple[int, ...]
    text: str
    caller: str | None
    store: PrefixStore
    facts: Mapping[str, object]

    def inputs(self, pages: SavesPages) -> dict[str, object]:
        """All that the keys and values follow from; no text can be read in it."""
        own = {"tokens": len(self.tokens), "text": self.text, "caller": self.caller}
        return {**self.facts, **own, "pages": dict(pages.saved_form)}


class Keeper:
    """What is kept of one engine's prompts: where `wants` says so of a request, the tokens of `beginning`, as
    far as its prompt begins with them. Safe to use from many threads."""

    def __init__(
        self,
        store: PrefixStore,
        facts: Mapping[str, object],
        wants: Callable[[ChatRequest], bool],
        beginning: Callable[[ChatRequest], Sequence[int]],
    ) -> None:
        self._store, self._facts, self._wants, self._beginning = store, facts, wants, beginning
        self._known: deque[tuple[object, Sequence[int]]] = deque(maxlen=_KNOWN)

    def of(self, request: ChatRequest, tokens: list[int]) -> Prefix | None:
        """None where nothing is to be kept."""
        if not self._wants(request):
            return None
        length = min(common_prefix(self._begun(request), tokens), len(tokens) - 1)
        length -= length % PAGE_SIZE  # another page holds what is said behind it, too
        if length < LEAST:
            return None
        text = hashlib.sha256(np.asarray(tokens[:length], "<u4").tobytes()).hexdigest()
        return Prefix(tuple(tokens[:length]), text, request.caller, self._store, self._facts)

    def _begun(self, request: ChatRequest) -> Sequence[int]:
        """Its beginning, which takes some milliseconds where the last ones were others."""
        told = (system_messages(request), request.tools, request.tool_choice, request.reasoning)
        for known, found in tuple(self._known):
            if known == told:
                return found
        found = self._beginning(request)
        self._known.append((told, found))
        return found


class StoredPrefixes:
    """Of one worker, in its thread."""

    def __init__(self, runner: ModelRunner, pool: SequencePool, engine: str) -> None:
        self._runner, self._pool, self._engine = runner, pool, engine
        self._new: deque[Prefix] = deque(maxlen=_WAITING)
        self._stored = set[tuple[str, str | None]]()

    @property
    def _pages(self) -> SavesPages | None:
        return self._runner.saving if isinstance(self._runner, SavingRunner) else None

    def begin(self, job: GenerationTask) -> CachedSequence:
        """A sequence that holds as much of the prompt as is in memory, or on the disk where that is more."""
        prefix, pages = job.prefix, None if job.prefix is None else self._pages
        if prefix is not None and pages is None:
            reason = "cannot keep what this model reads of a prompt here, and reads it with each start"
            prefix.store.tell("device", f"the engine {self._engine} {reason}")
        elif prefix is not None and pages is not None:
            if self._pool.find(prefix.tokens) is None and (held := self._restored(prefix, pages)) is not None:
                self._note(prefix)
                return held
            if (prefix.text, prefix.caller) not in self._stored and prefix not in self._new:
                self._new.append(prefix)
        return self._pool.begin(job.tokens)

    def write(self) -> None:
        """What was read and is not there yet, as far as a sequence still holds it."""
        while self._new:
            prefix, pages = self._new.popleft(), self._pages
            held = self._pool.find(prefix.tokens)
            if held is None or pages is None:
                continue
            length = len(prefix.tokens)
            if not pages.has_all(held.sequence, length):
                reason = "the model no longer holds all of it"
                prefix.store.tell("window", f"the beginning of a prompt is not kept: {reason}")
                continue
            save = _saving(pages, held, length)
            prefix.store.write(prefix.inputs(pages), pages.saved_bytes(length), save)
            self._note(prefix)

    def _note(self, prefix: Prefix) -> None:
        if len(self._stored) >= _REMEMBERED:
            self._stored.clear()
        self._stored.add((prefix.text, prefix.caller))

    def _restored(self, prefix: Prefix, pages: SavesPages) -> CachedSequence | None:
        length, made = len(prefix.tokens), list[CachedSequence]()

        def take(read: Callable[[memoryview], None]) -> None:
            self._pool.spare(length // self._runner.page_size)
            made.append(self._pool.add())
            pages.restore(made[0].sequence, length, read)

        found = False
        with suppress(MemoryError):  # of pages: those who wait have to make room first
            found = prefix.store.read(prefix.inputs(pages), pages.saved_bytes(length), take)
        if found:
            made[0].tokens += prefix.tokens
            return made[0]
        for held in made:
            self._pool.drop(held)
        return None


def _saving(
    pages: SavesPages, held: CachedSequence, length: int
) -> Callable[[Callable[[memoryview], None]], None]:
    return lambda write: pages.save(held.sequence, length, write)
