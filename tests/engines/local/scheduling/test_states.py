"""States of texts in slots: whatever is done in whatever order, what goes on begins with its own text's state."""

from __future__ import annotations

import random

import pytest

from edge_router.engines.local.scheduling.states import NOTHING, StateTable
from edge_router.webgpu_program import PAGE_SIZE

SLOTS, MOST = 12, 5  # texts at the same time


class Texts:
    """`held` is what lies in the slots: the tokens that a state is of. `said`: what each text is made of."""

    def __init__(self, slots: int = SLOTS) -> None:
        self.table = StateTable(slots)
        self.held: dict[int, list[int]] = {NOTHING: []}
        self.said: dict[int, list[int]] = {}

    def add(self, text: int) -> None:
        self.table.add(text)
        self.said[text] = []

    def grow(self, text: int, tokens: list[int], *, each: bool = False) -> None:
        """As the kernel does: from one slot, through the tokens in turn, into others."""
        source, saves = self.table.grow(text, len(tokens), each=each)
        assert self.held[source] == self.said[text]
        begun = list(self.held[source])
        for place, slot in sorted(saves.items()):
            self.held[slot] = begun + tokens[: place + 1]
        assert not each or set(saves) == set(range(len(tokens)))
        self.said[text] = begun + tokens

    def fork(self, parent: int, child: int, length: int) -> int:
        at = self.table.reach(parent, length)
        if at:
            self.table.fork(parent, child, at)
            self.said[child] = self.said[parent][:at]
        return at

    def shorten(self, text: int, length: int) -> int:
        at = self.table.reach(text, length)
        self.table.shorten(text, at)
        del self.said[text][at:]
        return at

    def remove(self, text: int) -> None:
        self.table.remove(text)
        del self.said[text]


def test_each_text_goes_on_from_its_own_state_in_any_order() -> None:
    for seed in range(12):
        draw, texts, names = random.Random(seed), Texts(), 0
        for _ in range(60):
            some = draw.choice(list(texts.said)) if texts.said else -1
            what = draw.choice(["add", "read", "write", "guess", "fork", "shorten", "remove"])
            if what in ("add", "fork") and len(texts.said) < MOST:
                names += 1
                if what == "add" or some < 0:
                    texts.add(names)
                else:
                    texts.fork(some, names, draw.randint(1, max(1, len(texts.said[some]))))
            elif some < 0:
                continue
            elif what in ("read", "write", "guess"):
                count = {"read": draw.randint(1, 70), "write": 1, "guess": draw.randint(2, 4)}[what]
                texts.table.settle()
                texts.grow(some, [draw.randrange(9) for _ in range(count)], each=what == "guess")
            elif what == "shorten":
                texts.shorten(some, draw.randint(0, len(texts.said[some])))
            elif what == "remove":
                texts.remove(some)


def test_a_text_can_be_taken_up_where_it_was_read() -> None:
    """At its end, at the last two page borders before it, and every sixteen pages."""
    texts = Texts()
    texts.add(0)
    texts.grow(0, list(range(700)))
    places = {texts.table.reach(0, length) for length in range(701)}
    assert places == {0, 256, 512, 672, 688, 700}
    assert texts.fork(0, 1, 699) == 688


def test_guesses_are_taken_back_to_any_token() -> None:
    for kept in range(1, 5):
        texts = Texts()
        texts.add(0)
        texts.grow(0, list(range(40)))
        texts.grow(0, [1, 2, 3, 4, 5], each=True)
        assert texts.shorten(0, 40 + kept) == 40 + kept
        texts.grow(0, [7])
        assert texts.said[0][-2:] == [kept, 7]


def test_guesses_are_there_however_few_slots_are_free() -> None:
    texts = Texts(7)
    for text in range(2):
        texts.add(text)
        texts.grow(text, list(range(64)))
    for _ in range(20):
        texts.table.settle()
        for text in range(2):
            texts.grow(text, [1, 2, 3], each=text == 0)
        at = len(texts.said[0]) - 2
        assert texts.shorten(0, at) == at


def test_a_long_answer_keeps_checkpoints_that_are_rarer_the_farther_back_they_lie() -> None:
    texts = Texts(8)
    texts.add(0)
    texts.grow(0, list(range(100)))
    for token in range(1000):
        texts.grow(0, [token])
    places = sorted({texts.table.reach(0, length) for length in range(1, 1101)})
    assert len(places) == 1 + 8  # and the beginning
    for length in range(100, 1100):
        lost = length - texts.table.reach(0, length)
        assert lost <= max(2 * PAGE_SIZE, (1100 - length) + PAGE_SIZE), (length, places)


def test_texts_of_their_own_come_before_checkpoints() -> None:
    texts = Texts(4)
    texts.add(0)
    texts.grow(0, list(range(600)))
    for text in (1, 2, 3):
        texts.add(text)
        texts.grow(text, [text] * 3)
    assert texts.table.reach(0, 599) == 0
    texts.grow(0, [5])
    with pytest.raises(MemoryError):
        texts.add(4)
        texts.grow(4, [1])


def test_misuse_is_told() -> None:
    texts = Texts()
    texts.add(0)
    texts.grow(0, list(range(30)))
    for wrong in (
        lambda: texts.table.add(0),
        lambda: texts.table.fork(0, 0, 30),
        lambda: texts.table.fork(0, 1, 29),
        lambda: texts.table.shorten(0, 5),
    ):
        with pytest.raises(ValueError, match=r"exists|no state"):
            wrong()
    with pytest.raises(KeyError):
        texts.table.grow(7, 1)
