"""Which text's state lies in which slot, where layers keep states of all tokens so far.

Keys and values of earlier tokens stay where they are, so a text can be taken up anywhere; a state is
overwritten by the next token. So some are left behind as checkpoints, at page borders, and a text can be
taken up where it has one. When a slot is needed checkpoints go, those first that are closest to the one
before them for how far back they lie. So they are dense near the end and rare far from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field

from edge_router.records import dataclass
from edge_router.webgpu_program import PAGE_SIZE

NOTHING = -2  # in the place of a slot: the beginning of a text
_STRIDE = 16 * PAGE_SIZE  # tokens between the checkpoints of what is read in one call
_LAST = 2  # page borders before its end at which it leaves some, too: what follows may begin a little earlier


@dataclass(slots=True)
class _Text:
    """`marks`: length and slot of each state that is there, the shortest first; the last is its own.

    Those behind more than `sure` tokens are of guesses, of which some may be taken back.
    """

    length: int = 0
    sure: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)

    @property
    def checkpoints(self) -> Sequence[tuple[int, int]]:
        return self.marks[:-1] if self.marks and self.marks[-1][0] == self.length else self.marks


class StateTable:
    """`count` slots, which those that were forked share until they go on.

    Misuse raises `KeyError` or `ValueError`; a lack of slots for texts' own states raises `MemoryError`.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.clear()

    def clear(self) -> None:
        self._free = list(range(self._count - 1, -1, -1))
        self._users = [0] * self._count
        self._texts: dict[int, _Text] = {}

    def settle(self) -> None:
        """No guess is taken back any more."""
        for held in self._texts.values():
            held.sure = held.length

    def add(self, text: int) -> None:
        if text in self._texts:
            raise ValueError(f"text {text} exists")
        self._texts[text] = _Text()

    def reach(self, text: int, length: int) -> int:
        """The longest beginning of at most `length` tokens that it can be taken up behind; 0 for none."""
        return max((at for at, _ in self._texts[text].marks if at <= length), default=0)

    def fork(self, parent: int, child: int, length: int) -> None:
        """The child has those of the parent's first `length` tokens, behind which there must be one."""
        if child in self._texts:
            raise ValueError(f"text {child} exists")
        marks = self._up_to(parent, length)
        for _, slot in marks:
            self._users[slot] += 1
        self._texts[child] = _Text(length, length, marks)

    def shorten(self, text: int, length: int) -> None:
        """To a length at which it can be taken up."""
        held, marks = self._texts[text], self._up_to(text, length)
        for _, slot in held.marks[len(marks) :]:
            self._leave(slot)
        held.length, held.sure, held.marks = length, length, marks

    def remove(self, text: int) -> None:
        for _, slot in self._texts.pop(text).marks:
            self._leave(slot)

    def grow(self, text: int, count: int, *, each: bool = False) -> tuple[int, dict[int, int]]:
        """The slot from which `count` more tokens go on, and those that the states behind some of them go to.

        By the number of the token. `each`: behind all of them, for some may be taken back until `settle`.
        """
        held = self._texts[text]
        begin, end = held.length, held.length + count
        held.sure = begin if each else end
        self._drop(text, [mark for mark in held.checkpoints if mark[0] % PAGE_SIZE])
        source = held.marks[-1][1] if begin else NOTHING
        spent = begin > 0 and begin % PAGE_SIZE > 0
        if begin and not spent and not self._free:
            self._make_free(text)
            spent = not self._free  # no slot for a checkpoint here
        reused = spent and self._users[source] == 1
        if spent and not reused:
            self._users[source] -= 1
        if spent:
            held.marks.pop()
        held.length = end
        found = {}
        for at in range(begin + 1, end) if each else _borders(begin, end):
            slot = self._take(text, needed=each)
            if slot is not None:
                held.marks.append((at, slot))
                found[at - begin - 1] = slot
        own = source if reused else self._take(text, needed=True)
        assert own is not None
        held.marks.append((end, own))
        found[count - 1] = own
        return source, found

    def slot(self, text: int, length: int) -> int:
        """Where the state behind its first `length` tokens lies."""
        return self._up_to(text, length)[-1][1]

    def restore(self, text: int, length: int) -> int:
        """The slot into which the state of a text that has none yet is read, behind `length` tokens."""
        held = self._texts[text]
        if held.length or length < 1:
            raise ValueError(f"a text of {held.length} tokens is none to take {length} up")
        own = self._take(text, needed=True)
        assert own is not None
        held.length, held.sure, held.marks = length, length, [(length, own)]
        return own

    def _up_to(self, text: int, length: int) -> list[tuple[int, int]]:
        marks = [mark for mark in self._texts[text].marks if mark[0] <= length]
        if length and (not marks or marks[-1][0] != length):
            raise ValueError(f"no state behind {length} tokens")
        return marks

    def _take(self, text: int, *, needed: bool) -> int | None:
        if not self._free:
            self._make_free(text)
        if not self._free:
            if needed:
                raise MemoryError(f"none of {self._count} states is free")
            return None
        slot = self._free.pop()
        self._users[slot] = 1
        return slot

    def _make_free(self, growing: int) -> None:
        """Give up checkpoints until a slot is free, or there are none."""
        while not self._free:
            worth = min(self._worths(), default=None)
            if worth is None:
                return
            _, _, text, mark = worth
            self._drop(text, [mark])

    def _worths(self) -> Iterator[tuple[float, int, int, tuple[int, int]]]:
        """Of each checkpoint its worth, its text's place in the order of their coming, and whose it is."""
        for age, (text, held) in enumerate(self._texts.items()):
            before = 0
            for mark in held.checkpoints:
                if mark[0] > held.sure:
                    break
                yield (mark[0] - before) / (held.length - mark[0] + PAGE_SIZE), age, text, mark
                before = mark[0]

    def _drop(self, text: int, marks: Sequence[tuple[int, int]]) -> None:
        held = self._texts[text]
        for mark in marks:
            held.marks.remove(mark)
            self._leave(mark[1])

    def _leave(self, slot: int) -> None:
        self._users[slot] -= 1
        if self._users[slot] == 0:
            self._free.append(slot)


def _borders(begin: int, end: int) -> list[int]:
    """Lengths behind which checkpoints are left while a text grows from one to the other in one call."""
    first = begin // PAGE_SIZE + 1
    last = (end - 1) // PAGE_SIZE
    pages = {*range(max(first, last - _LAST + 1), last + 1)}
    strides = {page for page in range(first, last + 1) if page * PAGE_SIZE % _STRIDE == 0}
    return [page * PAGE_SIZE for page in sorted(pages | strides)]
