"""Who owns which page of the KV cache. Pages that several sequences share are counted once.

A sequence may forget pages in its middle: `GONE` then stands in their place, so that every other page keeps
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from itertools import pairwise

from edge_router.records import dataclass
from edge_router.webgpu_program import PAGE_SIZE

GONE = -1


@dataclass(slots=True)
class _Sequence:
    pages: list[int] = field(default_factory=list)
    length: int = 0  # tokens
    gone: int = 0  # pages up to here are, but for those that were to stay


class PageTable:
    """`count` pages. `copy(source, target)` is called where a page has to become a sequence's own.

    Misuse (unknown sequences, more tokens than there are) raises `KeyError` or `ValueError`; a lack of pages
    raises `MemoryError` and changes nothing.
    """

    def __init__(self, count: int, copy: Callable[[int, int], None]) -> None:
        self._count, self._copy = count, copy
        self.clear()

    def clear(self) -> None:
        self._free = list(range(self._count - 1, -1, -1))
        self._users = [0] * self._count
        self._sequences: dict[int, _Sequence] = {}

    @property
    def free_tokens(self) -> int:
        return len(self._free) * PAGE_SIZE

    def length(self, sequence: int) -> int:
        return self._sequences[sequence].length

    def pages(self, sequence: int) -> list[int]:
        return self._sequences[sequence].pages

    def owned(self, sequence: int) -> int:
        """Pages, shared ones too."""
        held = self._sequences[sequence]
        return len(held.pages) - held.pages[: held.gone].count(GONE)

    def needed(self, sequence: int, count: int) -> int:
        """Pages for `count` more tokens."""
        held = self._sequences[sequence]
        return -(-(held.length + count) // PAGE_SIZE) - len(held.pages)

    def has_all(self, sequence: int, length: int) -> bool:
        """Whether the first `length` tokens, which fill whole pages, are all there."""
        return GONE not in self.pages(sequence)[: length // PAGE_SIZE]

    def runs(self, sequence: int, length: int) -> Iterator[tuple[int, int]]:
        """The pages of its first `length` tokens that lie side by side: the first, and how many."""
        pages = self.pages(sequence)[: length // PAGE_SIZE]
        begins = [at for at, page in enumerate(pages) if at == 0 or page != pages[at - 1] + 1]
        for begin, end in pairwise([*begins, len(pages)]):
            yield pages[begin], end - begin

    def forgotten(self, sequence: int) -> int:
        """Of tokens before this one perhaps not all are there."""
        return self._sequences[sequence].gone * PAGE_SIZE

    def add(self, sequence: int) -> None:
        if sequence in self._sequences:
            raise ValueError(f"sequence {sequence} exists")
        self._sequences[sequence] = _Sequence()

    def fork(self, parent: int, child: int, position: int) -> None:
        """The child shares the whole pages of the parent's first `position` tokens and copies the rest."""
        held = self._sequences[parent]
        if child in self._sequences:
            raise ValueError(f"sequence {child} exists")
        if not max(1, self.forgotten(parent)) <= position <= held.length:
            raise ValueError(f"a fork at {position} of {held.length} tokens, {held.gone} pages are gone")
        whole, rest = divmod(position, PAGE_SIZE)
        pages = held.pages[:whole]
        if rest:
            own = self._take()
            self._copy(held.pages[whole], own)
            pages = [*pages, own]
        for page in pages[:whole]:
            if page != GONE:
                self._users[page] += 1
        self._sequences[child] = _Sequence(pages, position, held.gone)

    def pop(self, sequence: int, count: int) -> None:
        held = self._sequences[sequence]
        if not 0 <= count <= held.length - self.forgotten(sequence):
            raise ValueError(f"{count} of {held.length} tokens, {held.gone} pages are gone")
        held.length -= count
        kept = -(-held.length // PAGE_SIZE)
        for page in held.pages[kept:]:
            self._leave(page)
        del held.pages[kept:]

    def remove(self, sequence: int) -> None:
        for page in self._sequences.pop(sequence).pages:
            self._leave(page)

    def forget(self, sequence: int, first: int, before: int) -> None:
        """Give back the pages that hold only tokens from `first`, always the same, to before `before`."""
        held = self._sequences[sequence]
        for index in range(max(held.gone, -(-first // PAGE_SIZE)), min(before, held.length) // PAGE_SIZE):
            self._leave(held.pages[index])
            held.pages[index], held.gone = GONE, index + 1

    def grow(self, sequence: int, count: int) -> int:
        """Room for `count` more tokens; where the first of them goes."""
        held = self._sequences[sequence]
        begin = held.length
        needed = self.needed(sequence, count)
        shared = begin % PAGE_SIZE > 0 and self._users[held.pages[-1]] > 1  # what was popped left it so
        if needed + shared > len(self._free):
            raise MemoryError(f"{needed + shared} pages wanted, {len(self._free)} free")
        if shared:
            own = self._take()
            self._copy(held.pages[-1], own)
            self._leave(held.pages[-1])
            held.pages[-1] = own
        held.pages += [self._take() for _ in range(needed)]
        held.length += count
        return begin

    def _take(self) -> int:
        if not self._free:
            raise MemoryError("no page is free")
        page = self._free.pop()
        self._users[page] = 1
        return page

    def _leave(self, page: int) -> None:
        if page == GONE:
            return
        self._users[page] -= 1
        if self._users[page] == 0:
            self._free.append(page)
