"""What is asked behind prompts that begin the same: handed to the scheduler, told in the caller's thread."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from edge_router.chat.events import EngineTimings, Finished, Usage
from edge_router.engines.local.scheduling.branches import Branch, Branches, least
from edge_router.engines.local.scheduling.jobs import Survey
from edge_router.engines.local.scheduling.scheduler import Scheduler
from edge_router.engines.local.scheduling.sequences import common_prefix
from edge_router.errors import Cancelled, EngineError, OutOfMemory
from edge_router.types import Cancel
from edge_router.webgpu_program import PAGE_SIZE

Weighed: TypeAlias = tuple[int, tuple[float, ...]]  # a branch's number, the log probability of each reply

_POLL_S = 0.05  # how often a waiting reader looks at its cancel


class SurveyReader:
    """Branches behind what they share, and what is told of them: the `branches.Listener`.

    `head`: what other surveys begin with, so that it is worth being read alone.
    """

    def __init__(self, shared: Sequence[int], branches: Sequence[Branch], head: Sequence[int] = ()) -> None:
        self._shared, self._branches = shared, branches
        self._head = common_prefix(shared, head)
        self._queue: queue.SimpleQueue[Weighed | EngineError | None] = queue.SimpleQueue()
        self._cached = 0
        self._stopped = False
        self._began = self._ended = time.perf_counter()

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return len(self._shared) + max(len(branch.tokens) for branch in self._branches)

    @property
    def most(self) -> int:
        """Tokens of the KV cache without which one of them cannot be read, in whole pages."""
        shared = -(-len(self._shared) // PAGE_SIZE) + 1  # what comes behind the head begins one
        return (shared + max(least(branch, PAGE_SIZE) for branch in self._branches)) * PAGE_SIZE

    def job(self, cancelled: Callable[[], bool]) -> Survey:
        return Survey(
            tokens=list(self._shared),
            sink=self,
            cancelled=lambda: self._stopped or cancelled(),
            branches=Branches(self._branches, self),
            head=self._head if self._head >= PAGE_SIZE else 0,
        )

    def weighed(self, number: int, logprobs: tuple[float, ...]) -> None:
        self._queue.put((number, logprobs))

    def over(self, cached: int) -> None:
        self._cached, self._ended = cached, time.perf_counter()
        self._queue.put(None)

    def fail(self, error: EngineError) -> None:
        self._queue.put(error)

    def limit(self, max_tokens: int) -> None:
        if self.most - len(self._shared) > max_tokens:
            self._queue.put(OutOfMemory("local", "there is room for a shorter context only"))
            self._stopped = True

    def told(self, cancel: Cancel, scheduler: Scheduler) -> Iterator[Weighed]:
        while not cancel.is_set():
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                if not scheduler.running and self._queue.empty():
                    raise scheduler.closed_error() from None
                continue
            if item is None:
                return
            if isinstance(item, EngineError):
                raise item
            yield item
        raise Cancelled

    def finished(self) -> Finished:
        read = len(self._shared) + sum(len(branch.tokens) for branch in self._branches)
        timings = EngineTimings(prefill_s=self._ended - self._began, prefill_tokens=read - self._cached)
        return Finished("stop", usage=Usage(read, 0, self._cached), timings=timings)
