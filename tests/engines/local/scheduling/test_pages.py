"""Pages of the KV cache: whatever is done in whatever order, every sequence reads what it wrote."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from edge_router.engines.local.scheduling.pages import GONE, PageTable
from edge_router.webgpu_program import PAGE_SIZE

PAGES = 8
FIRST = 20  # tokens that are never forgotten
FORGOTTEN = object()


class Pages(RuleBasedStateMachine):
    """`memory` is what lies on the pages, `said` what each sequence was told."""

    sequences = Bundle("sequences")

    def __init__(self) -> None:
        super().__init__()
        self.memory: list[list[Any]] = [[None] * PAGE_SIZE for _ in range(PAGES)]
        self.table = PageTable(PAGES, self.copy)
        self.said: dict[int, list[object]] = {}
        self.next = 0

    def copy(self, source: int, target: int) -> None:
        self.memory[target] = list(self.memory[source])

    @rule(target=sequences)
    def add(self) -> int:
        self.next += 1
        self.table.add(self.next)
        self.said[self.next] = []
        return self.next

    @rule(sequence=sequences, count=st.integers(1, 40))
    def grow(self, sequence: int, count: int) -> None:
        before = self.table.free_tokens
        try:
            begin = self.table.grow(sequence, count)
        except MemoryError:
            assert self.table.free_tokens == before
            assert self.table.length(sequence) == len(self.said[sequence])
            return
        assert begin == len(self.said[sequence])
        for place in range(begin, begin + count):
            thing = object()
            self.said[sequence].append(thing)
            self.memory[self.table.pages(sequence)[place // PAGE_SIZE]][place % PAGE_SIZE] = thing

    @rule(target=sequences, parent=sequences, share=st.floats(0, 1))
    def fork(self, parent: int, share: float) -> int:
        position = max(1, int(share * len(self.said[parent])))
        self.next += 1
        try:
            self.table.fork(parent, self.next, position)
        except (MemoryError, ValueError):  # no page for what is shared in part; an empty parent
            self.table.add(self.next)
            position = 0
        self.said[self.next] = self.said[parent][:position]
        return self.next

    @rule(sequence=sequences, share=st.floats(0, 1))
    def pop(self, sequence: int, share: float) -> None:
        count = int(share * len(self.said[sequence]))
        if len(self.said[sequence]) - count < self.table.forgotten(sequence):
            with pytest.raises(ValueError, match="gone"):
                self.table.pop(sequence, count)
            return
        self.table.pop(sequence, count)
        del self.said[sequence][len(self.said[sequence]) - count :]

    @rule(sequence=sequences, share=st.floats(0, 1.2))
    def forget(self, sequence: int, share: float) -> None:
        said = self.said[sequence]
        before = int(share * len(said))
        self.table.forget(sequence, FIRST, before)
        for page in range(-(-FIRST // PAGE_SIZE), min(before, len(said)) // PAGE_SIZE):
            said[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = [FORGOTTEN] * PAGE_SIZE

    @rule(sequence=consumes(sequences))
    def remove(self, sequence: int) -> None:
        self.table.remove(sequence)
        del self.said[sequence]

    @invariant()
    def everybody_reads_what_was_said(self) -> None:
        for sequence, said in self.said.items():
            pages = self.table.pages(sequence)
            assert self.table.length(sequence) == len(said)
            assert len(pages) == -(-len(said) // PAGE_SIZE)
            assert self.table.owned(sequence) == len(pages) - pages.count(GONE)
            for place, thing in enumerate(said):
                assert (pages[place // PAGE_SIZE] == GONE) == (thing is FORGOTTEN)
                if thing is FORGOTTEN:
                    continue
                assert self.memory[pages[place // PAGE_SIZE]][place % PAGE_SIZE] is thing

    @invariant()
    def no_page_is_lost(self) -> None:
        used = {page for sequence in self.said for page in self.table.pages(sequence)} - {GONE}
        assert self.table.free_tokens == (PAGES - len(used)) * PAGE_SIZE


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.fixture
def table() -> PageTable:
    return PageTable(4, lambda source, target: None)


def test_misuse(table: PageTable) -> None:
    table.add(1)
    table.grow(1, 20)
    with pytest.raises(ValueError, match="exists"):
        table.add(1)
    with pytest.raises(ValueError, match="exists"):
        table.fork(1, 1, 5)
    for position in (0, 21):
        with pytest.raises(ValueError, match=f"at {position} of 20"):
            table.fork(1, 2, position)
    with pytest.raises(ValueError, match="21 of 20"):
        table.pop(1, 21)
    for misused in (table.length, table.pages, table.remove):
        with pytest.raises(KeyError):
            misused(9)


def test_a_fork_without_room_changes_nothing(table: PageTable) -> None:
    table.add(1)
    table.grow(1, 60)
    with pytest.raises(MemoryError):
        table.fork(1, 2, 30)
    table.fork(1, 2, 32)
    assert table.free_tokens == 0
    table.clear()
    assert table.free_tokens == 4 * PAGE_SIZE
