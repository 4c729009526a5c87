"""Which tokens lie in the KV cache. Conversations are kept, so that a next turn computes only what is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from edge_router.engines.local.runner import ModelRunner, StatefulRunner
from edge_router.records import dataclass


@dataclass(slots=True, eq=False)
class CachedSequence:
    """One sequence of the runner, and the tokens whose keys and values it holds.

    `joints`: between which places it was read in one call each, where that is known. What is read after
    others is not quite what is read with them, for numbers are rounded.
    """

    sequence: int
    tokens: list[int] = field(default_factory=list)
    joints: tuple[int, ...] = ()

    @property
    def next_joint(self) -> int:
        """How many tokens it holds when the next call that reads some is over."""
        return next(joint for joint in self.joints if joint > len(self.tokens))


class SequencePool:
    """Hands out sequences that already hold as much of a prompt as any earlier one does.

    `kept` at most are held for later; the least recently used goes first, also when pages run out.
    """

    def __init__(self, runner: ModelRunner, kept: int) -> None:
        self._runner, self._most_kept = runner, kept
        self._stateful = runner if isinstance(runner, StatefulRunner) else None
        if self._stateful is not None and self._stateful.most_kept is not None:
            self._most_kept = min(kept, self._stateful.most_kept)
        self._active: list[CachedSequence] = []
        self._kept: list[CachedSequence] = []  # the least recently used first
        self._next = 0

    def find(self, tokens: Sequence[int]) -> CachedSequence | None:
        """One that begins with all of `tokens`."""
        return next(
            (held for held in (*self._kept, *self._active) if _begins(held.tokens, tokens)),
            None,
        )

    def add(self) -> CachedSequence:
        """One that holds nothing."""
        held = CachedSequence(self._next)
        self._next += 1
        self._runner.add_sequence(held.sequence)
        self._active.append(held)
        return held

    def begin(self, prompt: Sequence[int]) -> CachedSequence:
        """A sequence that holds a prefix of `prompt`, shorter than it: its last token must yield logits."""
        best, shared = None, 0
        for held in (*self._kept, *self._active):
            common = self._reach(held, common_prefix(held.tokens, prompt[:-1]))
            worth = common >= self._runner.page_size or common == len(held.tokens)
            if common > shared and worth:
                best, shared = held, common
        if best is not None and best in self._kept and shared == len(best.tokens):
            self._kept.remove(best)
            self._active.append(best)
            best.joints = ()
            return best
        return self._begin_new(prompt, best, shared)

    def resume(self, tokens: Sequence[int], joints: tuple[int, ...]) -> CachedSequence:
        """A sequence that holds a part of `tokens`, perhaps all, read as it is to be: between `joints`."""
        best, shared = None, 0
        for held in (*self._kept, *self._active):
            common, count = common_prefix(held.tokens, tokens), common_prefix(held.joints, joints)
            while count and joints[count - 1] > common:
                count -= 1
            at = joints[count - 1] if count else 0
            if at > shared and self._runner.holds(held.sequence, at):
                best, shared = held, at
        if best is not None and best in self._kept and shared == len(best.tokens):
            self._kept.remove(best)
            self._active.append(best)
            best.joints = joints
            return best
        held = CachedSequence(self._next, list(tokens[:shared]), joints)
        self._next += 1
        if best is None:
            self._runner.add_sequence(held.sequence)
        else:
            self._runner.fork_sequence(best.sequence, held.sequence, shared)
        self._active.append(held)
        return held

    def _begin_new(self, prompt: Sequence[int], parent: CachedSequence | None, shared: int) -> CachedSequence:
        page = self._runner.page_size
        if parent is not None:
            if shared == len(parent.tokens) and self._reach(parent, shared - 1) == shared - 1:
                shared -= 1  # behind its end, both would begin new pages where they stand
            if self._runner.free_tokens < page:  # sharing a part of a page means to copy it
                shared -= shared % page
            shared = self._reach(parent, shared)
        held = CachedSequence(self._next, list(prompt[:shared]))
        self._next += 1
        if parent is None or shared == 0:
            self._runner.add_sequence(held.sequence)
        else:
            self._runner.fork_sequence(parent.sequence, held.sequence, shared)
        self._active.append(held)
        return held

    def _reach(self, held: CachedSequence, position: int) -> int:
        """The last place up to `position` at which a sequence can be taken up; 0 for none."""
        if self._stateful is not None:
            return self._stateful.reach(held.sequence, position) if position else 0
        return position if self._runner.holds(held.sequence, position) else 0

    def fork(self, parent: CachedSequence) -> CachedSequence:
        """A sequence that holds all that `parent` does; `drop` it."""
        held = CachedSequence(self._next, list(parent.tokens))
        self._next += 1
        self._runner.fork_sequence(parent.sequence, held.sequence, len(parent.tokens))
        self._active.append(held)
        return held

    def part(self, held: CachedSequence) -> CachedSequence:
        """A fork with which to go on; `held` stays as it is for others that begin the same."""
        child = self.fork(held)
        child.joints = held.joints
        self.finish(held)
        return child

    def finish(self, held: CachedSequence) -> None:
        """Nothing more is added for now; keep it for a prompt that begins the same."""
        self._active.remove(held)
        self._kept.append(held)
        while len(self._kept) > self._most_kept:
            self._evict()

    def drop(self, held: CachedSequence) -> None:
        self._active.remove(held)
        self._runner.remove_sequence(held.sequence)

    def make_room(self, growth: Sequence[tuple[CachedSequence, int]]) -> bool:
        """Evict until each sequence can grow by its count of tokens. False when that can't be had."""
        return self.spare(
            sum(self._runner.new_pages(held.sequence, len(held.tokens), count) for held, count in growth)
        )

    def fits(self, growth: Sequence[tuple[CachedSequence, int]]) -> bool:
        """Whether each sequence can grow by its count of tokens without that anything is evicted."""
        pages = sum(self._runner.new_pages(held.sequence, len(held.tokens), count) for held, count in growth)
        return pages * self._runner.page_size <= self._runner.free_tokens

    def shorten(self, held: CachedSequence, count: int) -> None:
        """Forget its last `count` tokens."""
        if count:
            self._runner.pop_tokens(held.sequence, count)
            del held.tokens[-count:]

    def spare(self, pages: int) -> bool:
        """Evict until so many pages are free. False when that can't be had."""
        while pages and self._runner.free_tokens < pages * self._runner.page_size:
            if not self._kept:
                return False
            self._evict()
        return True

    def reset(self) -> None:
        self._active.clear()
        self._kept.clear()
        self._runner.reset()

    def _evict(self) -> None:
        self._runner.remove_sequence(self._kept.pop(0).sequence)


def _begins(tokens: Sequence[int], beginning: Sequence[int]) -> bool:
    return tuple(tokens[: len(beginning)]) == tuple(beginning)


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
