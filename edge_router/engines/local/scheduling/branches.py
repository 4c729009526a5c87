"""How likely replies are to each of several questions behind tokens that all share, which are read once.

A question is read in a fork of the shared sequence and costs its own tokens; so does what a reply begins
with, in a fork of the question's. Forks live for one step, which takes as many questions as have room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from edge_router.engines.local.runner import BatchingRunner, Logits, ModelRunner
from edge_router.engines.local.sampler import NothingToChooseError
from edge_router.engines.local.scheduling.sequences import CachedSequence, SequencePool
from edge_router.records import dataclass

_FEW = 8  # tokens of one call: up to so many another kernel multiplies, whose sums are rounded otherwise


@dataclass(frozen=True, slots=True)
class Branch:
    """`tokens` behind what all share, at least one, and the replies, each of at least one token."""

    tokens: tuple[int, ...]
    replies: tuple[tuple[int, ...], ...]

    @property
    def beginnings(self) -> list[tuple[int, ...]]:
        """Of replies, those behind which another token follows."""
        found = (reply[:length] for reply in self.replies for length in range(1, len(reply)))
        return list(dict.fromkeys(found))


class Listener(Protocol):
    """Who is told; in the scheduler's thread, so it must not block."""

    def weighed(self, number: int, logprobs: tuple[float, ...]) -> None:
        """Of the branch of that number: the log probability of each of its replies."""
        ...

    def over(self, cached: int) -> None:
        """Nothing follows; `cached` of the shared tokens were known."""
        ...


def pages(tokens: int, page: int) -> int:
    """That a fork takes for `tokens`, at most: it may begin within a page, which becomes its own."""
    return -(-tokens // page) + 1 if tokens else 0


def least(branch: Branch, page: int) -> int:
    """Pages without which a branch cannot be read."""
    longest = max(len(reply) for reply in branch.replies) - 1
    return pages(len(branch.tokens), page) + pages(longest, page)


class Branches:
    """Those of one job, a step at a time. What has been told stays told whatever comes after it."""

    def __init__(self, branches: Sequence[Branch], listener: Listener) -> None:
        self.listener = listener
        self._branches, self._done = tuple(branches), 0

    @property
    def complete(self) -> bool:
        return self._done == len(self._branches)

    def least(self, page: int) -> int:
        """Pages without which the next step cannot be made."""
        return least(self._branches[self._done], page)

    def step(self, runner: ModelRunner, pool: SequencePool, root: CachedSequence, most: int) -> None:
        """The next branches: of `most` tokens, one at least, as many as have room."""
        batch = [(_Weighing(branch), pool.fork(root)) for branch in self._batch(runner, pool, most)]
        questions = [(fork, weighing.branch.tokens) for weighing, fork in batch]
        for (weighing, _), logits in zip(batch, _read(runner, questions), strict=True):
            weighing.heard((), logits)
        self._follow(runner, pool, batch)
        for _, fork in batch:
            pool.drop(fork)
        for weighing, _ in batch:
            self.listener.weighed(self._done, tuple(weighing.logprobs))
            self._done += 1

    def _batch(self, runner: ModelRunner, pool: SequencePool, most: int) -> list[Branch]:
        batch: list[Branch] = []
        taken, page = 0, runner.page_size
        ahead = self._branches[self._done : self._done + _width(runner)]
        for branch in ahead[: _together([len(branch.tokens) for branch in ahead], most)]:
            taken += least(branch, page)
            if batch and not pool.spare(taken):
                break
            batch.append(branch)
        return batch

    def _follow(
        self, runner: ModelRunner, pool: SequencePool, batch: Sequence[tuple[_Weighing, CachedSequence]]
    ) -> None:
        """What comes behind the beginnings of replies."""
        left = [
            (weighing, parent, beginning)
            for weighing, parent in batch
            for beginning in weighing.branch.beginnings
        ]
        while left:
            lengths = [len(beginning) for *_, beginning in left[: _width(runner)]]
            count = _together(lengths, runner.prefill_chunk_size)
            most = max(pages(len(beginning), runner.page_size) for *_, beginning in left)
            while count > 1 and not pool.spare(count * most):
                count -= 1
            group, left = left[:count], left[count:]
            forks = [(pool.fork(parent), beginning) for _, parent, beginning in group]
            for (weighing, _, beginning), logits in zip(group, _read(runner, forks), strict=True):
                weighing.heard(beginning, logits)
            for fork, _ in forks:
                pool.drop(fork)


class _Weighing:
    """One branch while it is read."""

    def __init__(self, branch: Branch) -> None:
        self.branch = branch
        self.logprobs = [0.0] * len(branch.replies)

    def heard(self, beginning: tuple[int, ...], logits: Logits) -> None:
        """What may follow a beginning of replies. Raises `NothingToChooseError`."""
        row = logits.astype(np.float64)
        highest = row.max()
        total = highest + np.log(np.exp(row - highest).sum())
        if not np.isfinite(total):
            raise NothingToChooseError
        length = len(beginning)
        for number, reply in enumerate(self.branch.replies):
            if len(reply) > length and reply[:length] == beginning:
                self.logprobs[number] += float(row[reply[length]] - total)


def _together(lengths: Sequence[int], most: int) -> int:
    """How many of the first are read in one call, which has room for `most` tokens; one at least.

    None is read by another kernel than if it were alone.
    """
    most = most if lengths[0] > _FEW else min(most, _FEW)
    count, total = 1, lengths[0]
    while count < len(lengths) and _kind(lengths[count]) == _kind(lengths[0]):
        total += lengths[count]
        if total > most:
            break
        count += 1
    return count


def _kind(length: int) -> int:
    """Of kernel: one attends for a single token of each sequence, others multiply few and many tokens."""
    return (length > 1) + (length > _FEW)


def _width(runner: ModelRunner) -> int:
    """Sequences that are read in one call."""
    return runner.together if isinstance(runner, BatchingRunner) else 1


def _read(runner: ModelRunner, growth: Sequence[tuple[CachedSequence, Sequence[int]]]) -> Iterator[Logits]:
    """Append tokens to each; what may follow, in order. A row is overwritten when the next is asked for."""
    tokens = sum(len(more) for _, more in growth)
    if isinstance(runner, BatchingRunner) and len(growth) > 1 and tokens <= runner.prefill_chunk_size:
        rows = runner.prefill_many([held.sequence for held, _ in growth], [more for _, more in growth])
        for held, more in growth:
            held.tokens += more
        yield from rows
        return
    for held, more in growth:
        for start in range(0, len(more), runner.prefill_chunk_size):
            chunk = more[start : start + runner.prefill_chunk_size]
            logits = runner.prefill(held.sequence, chunk)
            held.tokens += chunk
        yield logits
