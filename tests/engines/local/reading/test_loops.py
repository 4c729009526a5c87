"""Answers that go in circles end; texts that repeat themselves for a reason do not."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import each

from edge_router.chat.message import Message
from edge_router.engines.local.reading.loops import (
    PATIENCE,
    SPAN,
    TIMES,
    LoopGuard,
    asked_by,
    by_texts,
    circle,
)

WORDS = [
    "the",
    "sea",
    "is",
    "wide",
    "and",
    "deep",
    "under",
    "grey",
    "skies",
    "while",
    "small",
    "boats",
    "go",
    "home",
]


class Tokens:
    """Words and signs as tokens, as a tokenizer would cut them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str) -> list[int]:
        found = re.findall(r"\s*\w{1,6}|\s*[^\w\s]|\s+", text)
        self.texts += [piece for piece in found if piece not in self.texts]
        return [self.texts.index(piece) for piece in found]

    def text_of(self, tokens: Sequence[int]) -> str:
        return "".join(self.texts[token] for token in tokens)


def ends_at(text: str, asked: str = "") -> int | None:
    """The token at which the guard ends `text`; None where it lets it be."""
    tokens = Tokens()
    numbers = tokens(text)
    guard = LoopGuard(asked, tokens.text_of)
    return next((place for place, number in enumerate(numbers) if guard.push(number)), None)


def prose(words: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(words))


SENTENCE = "The sea is a vast and mysterious realm. "
CIRCLES = {
    "two words": "very very ",
    "a word": "vanilla ",
    "a numbered line": "1. Coffee with milk\n",
    "a long line": f"{prose(50)}\n",
    "a very long line": f"{prose(150)}\n",
    "a short sentence": "The sea is wide. ",
    "words between stars": "**Espresso** and ",
    "no Latin letters": "я не знаю, что сказать. ",
}


@pytest.mark.parametrize("repeated", CIRCLES.values(), ids=list(CIRCLES))
@pytest.mark.parametrize("before", ["", prose(700, seed=1)])
def test_a_circle_ends_the_answer_soon(repeated, before):
    period = len(Tokens()(repeated * 3)) // 3
    begins, lasts = len(Tokens()(before)), max(SPAN, TIMES * period)
    end = ends_at(f"{before} {repeated * 1500}")
    assert end is not None and begins + lasts - 5 <= end <= begins + lasts + period + 40


SENTENCES = {
    "a sentence": SENTENCE,
    "two sentences": SENTENCE + "She walked to the shore, and nobody was there. ",
    "a long paragraph": f"{prose(150)}.\n\n",
    "a question": "But who would have thought that the sea was so deep? ",
    "paragraphs": f"{SENTENCE.strip()}\n\n",
    "in quotes": '"I have never seen anything like this before," he said. ',
    "no Latin letters": "я не знаю, что сказать, и никто не знает этого. ",
    "no spaces": "我不知道该说什么，也没有人知道该说什么，大海是广阔而神秘的，小船都回家了，天空是灰色的。",
}


@pytest.mark.parametrize("before", ["", prose(100, seed=1) + ". ", prose(300, seed=1) + ". "])
@each("name, repeated", list(SENTENCES.items()))
def test_whole_sentences_end_the_answer_sooner(name, repeated, before):
    period = len(Tokens()(repeated * 3)) // 3
    begins = len(Tokens()(before))
    end = ends_at(before + repeated * 100)
    assert end is not None and begins + 5 * period - 5 <= end <= begins + 6 * period + 36, name


LICENCE = "THE SOFTWARE IS PROVIDED AS IS, WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED. "
TABLE = "| Monday | 9:00 | room 1 |\n| --- | --- | --- |\n"
MEANT = {
    "prose": prose(5000),
    "a refrain": "".join(f"Verse {n}: {prose(20, seed=n)}\nRow, row, row your boat\n" * 2 for n in range(40)),
    "a line of a poem, five times": f"{prose(100)}\n" + "And miles to go before I sleep,\n" * 5 + prose(100),
    "a numbered list": "".join(f"{n}. Buy milk, bread and eggs.\n" for n in range(1, 400)),
    "a table": TABLE + "".join(f"| {prose(1, seed=n)} | {n}:00 | room {n % 3} |\n" for n in range(300)),
    "an empty table": "| | | | |\n" * 60,
    "a grid of zeros": "\n".join([" ".join("0" * 20)] * 25),
    "a rule of dashes": "- " * 500,
    "blank lines": f"{prose(30)}\n" * 3 + "\n" * 300,
    "code": "```python\nboard = [\n"
    + '    ["empty", "empty", "empty", "empty"],\n' * 60
    + "]\n```\n"
    + prose(400),
    "rows of SQL": "```sql\n" + "INSERT INTO t VALUES (NULL, NULL);\n" * 70 + "```\n",
    "assembly": "```\n" + "nop\n" * 400 + "```\n",
    "JSON": "[" + ", ".join("0.0" for _ in range(300)) + "]",
    "four times the same sentence": f"{prose(60)}. " + SENTENCE * 4 + f"{prose(300)}.",
    "a refrain of long lines": "".join(
        f"{prose(30, seed=n)}\n\n" + "And the sea, the sea is wide, and the boats go home at night.\n" * 4
        for n in range(12)
    ),
    "a mantra": f"{prose(60)}.\n"
    + "May all beings be happy, may all beings be free from harm.\n" * 12
    + prose(60),
    "a short answer of a child": f"{prose(60)}. " + "Are we there yet? " * 12 + prose(300),
    "a licence": "".join(f"{n}. {LICENCE}{prose(12, seed=n)}.\n\n" for n in range(30)),
    "paragraphs in HTML": "<div>\n"
    + "<p>Lorem ipsum dolor sit amet, consectetur adipiscing elit.</p>\n" * 9
    + f"</div>\n{prose(200)}",
    "paragraphs in HTML, in a row": f"{prose(20)} "
    + "<p>Lorem ipsum dolor sit amet, consectetur adipiscing elit.</p> " * 9
    + prose(200),
    "comments in code": "```js\n"
    + "// This function does nothing at all, and never did. " * 9
    + f"\n```\n{prose(99)}",
    "a table of sentences": "| a | b |\n|---|---|\n"
    + "| It is as it was before, and so it stays. | yes |\n" * 14
    + prose(99),
    "statements in a row": "x = f('What is it that we are to do with this?'); " * 9 + prose(99),
    "a log": "09:15:02 10.0.0.7 The connection was refused by the other side. " * 9 + prose(99),
    "the same question in an interview": "".join(
        f"And then, what did you do about it? {prose(9, seed=n)}. " for n in range(40)
    ),
    "a sentence, thirty times": "All work and no play makes Jack a dull boy.\n" * 28,
    "counting": " ".join(str(n) for n in range(2000)),
    "a song": "".join(f"{n} bottles of beer on the wall, {n} bottles of beer.\n" for n in range(99, 0, -1)),
    "hexadecimal": " ".join(f"{n % 256:02x}" for n in range(1000)),
}


@pytest.mark.parametrize("text", MEANT.values(), ids=list(MEANT))
def test_what_repeats_itself_for_a_reason_is_left_alone(text):
    assert ends_at(text) is None


@pytest.mark.parametrize(
    ("asked", "repeated"),
    [
        ("Repeat after me 500 times: I will not talk in class.", "I will not talk in class.\n"),
        ('Write "hello" as often as you can.', "Hello "),
        ("Say la la la for ever", "la la la "),
        ("Write buffalo, a thousand times", "buffalo "),
        (f"{prose(500)} Here is a text: {SENTENCE} Write it again and again.", SENTENCE.upper()),
    ],
)
def test_what_the_user_wrote_may_be_repeated(asked, repeated):
    assert ends_at(repeated * 400, asked) is None
    assert ends_at(repeated * 1500, "Tell me something.") is not None


def test_data_has_more_patience_but_not_without_end():
    for text in ("0 " * 4000, "```\n" + "nop nop\n" * 2000):
        end = ends_at(text)
        assert end is not None and end > SPAN * PATIENCE - 5


def test_only_what_users_and_programs_said_counts_as_asked():
    turns = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "no no no")]
    assert asked_by(turns) == "Be brief.\nHi"


def test_texts_serve_where_there_are_no_tokens():
    push = by_texts("")
    pieces = ["It", " is", " so", "\n"] * 200
    end = next(place for place, piece in enumerate(pieces) if push(piece))
    assert SPAN - 1 <= end <= SPAN + 32


def test_sentences_that_were_asked_for_may_be_repeated():
    asked = f"Write a hundred times in a row: {SENTENCE}"
    assert ends_at(SENTENCE * 100, asked) is None
    tokens = Tokens()
    numbers = tokens('{"text": "' + SENTENCE * 30)
    formed = LoopGuard("", tokens.text_of, formed=True)
    assert not any(formed.push(number) for number in numbers)


@given(
    st.lists(st.integers(0, 3), max_size=12),
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.integers(1, 12),
)
def test_a_circle_is_found_as_by_trying_every_period(before, repeated, times):
    tokens = before + repeated * times

    def span(period: int) -> int:
        count = period
        while count < len(tokens) and tokens[-count - 1] == tokens[-count - 1 + period]:
            count += 1
        return count

    longest = max(
        found if (found := span(period)) >= period * TIMES else 0 for period in range(1, len(tokens) + 1)
    )
    period, found = circle(tokens)
    assert found == longest and (found == 0 or span(period) == found)


def test_a_look_costs_little():
    """Against the whole answer by itself, so that a busy machine changes nothing."""
    tokens = Tokens()
    numbers = tokens(prose(4000))
    guard, spent = LoopGuard("", tokens.text_of), []
    for number in numbers:
        begin = time.thread_time()
        guard.push(number)
        spent.append(time.thread_time() - begin)
    assert sum(spent) / len(spent) < 1e-3  # seconds a token; it is about 1e-5
