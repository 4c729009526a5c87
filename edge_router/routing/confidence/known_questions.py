"""Questions with one right answer, made on the spot: sums, units and strings, each from easy to hard."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import cycle

from edge_router.chat.message import Message
from edge_router.records import dataclass

GRADES = 5  # 0 is the easiest
_EXAMPLES = 3  # answered before each question, so that even a small model knows what an answer looks like
_TRIES = 20  # a grade may have run out of questions; then the next one's turn comes

_UNITS = (  # so many of the small ones in a large one
    ("weeks", "days", 7),
    ("hours", "minutes", 60),
    ("meters", "centimeters", 100),
    ("kilometers", "meters", 1000),
    ("kilograms", "grams", 1000),
    ("feet", "inches", 12),
    ("yards", "feet", 3),
    ("years", "months", 12),
    ("days", "hours", 24),
    ("liters", "milliliters", 1000),
)
# fmt: off
_WORDS = (
    "cat", "sun", "map", "box", "pen", "dog", "cup", "hat", "egg", "key", "lamp", "fish", "tree",
    "moon", "gold", "ship", "wolf", "rain", "book", "frog", "salt", "nest", "river", "stone", "cloud",
    "bread", "tiger", "plant", "chair", "music", "lemon", "horse", "knife", "window", "garden",
    "planet", "bottle", "silver", "rabbit", "castle", "winter", "pencil", "monkey", "elephant",
    "mountain", "notebook", "umbrella", "dinosaur", "hospital", "triangle",
)
# fmt: on


_Made = tuple[str, str, str]  # a question, its answer, and a reply that gives it


@dataclass(frozen=True, slots=True)
class KnownQuestion:
    """`answer` is what `judging.exact` takes; `grade` 0 to `GRADES` - 1."""

    text: str
    answer: str
    kind: str
    grade: int

    @property
    def messages(self) -> tuple[Message, ...]:
        """The question behind a few answered ones of its kind."""
        turns: list[Message] = []
        for number in range(_EXAMPLES):
            text, _, reply = KINDS[self.kind](random.Random(f"example {number}"), number)
            turns += [Message("user", text), Message("assistant", reply)]
        return (*turns, Message("user", self.text))


def questions(count: int, seed: int = 0) -> tuple[KnownQuestion, ...]:
    """`count` different ones, kinds and grades in turn. More of them begin with the same ones."""
    found: dict[str, KnownQuestion] = {}
    draw = random.Random(seed)
    for kind, grade in _turns():
        if len(found) >= count:
            break
        for _ in range(_TRIES):
            text, answer, _ = KINDS[kind](draw, grade)
            if text not in found:
                found[text] = KnownQuestion(text, answer, kind, grade)
                break
    return tuple(found.values())


def _turns() -> Iterator[tuple[str, int]]:
    return cycle([(kind, grade) for grade in range(GRADES) for kind in KINDS])


def _sum(draw: random.Random, grade: int) -> _Made:
    high = (5, 9, 20, 60, 300)[grade]
    left, right = draw.randint(1, high), draw.randint(1, high)
    return f"What is {left} + {right}?", str(left + right), f"{left} + {right} = {left + right}"


def _difference(draw: random.Random, grade: int) -> _Made:
    high = (5, 9, 20, 60, 300)[grade]
    right, left = sorted((draw.randint(1, high), draw.randint(1, high)))
    return f"What is {left} - {right}?", str(left - right), f"{left} - {right} = {left - right}"


def _product(draw: random.Random, grade: int) -> _Made:
    high = (3, 5, 9, 12, 30)[grade]
    left, right = draw.randint(1, high), draw.randint(2, min(high, 12))
    return f"What is {left} times {right}?", str(left * right), f"{left} times {right} is {left * right}"


def _larger(draw: random.Random, grade: int) -> _Made:
    high = (9, 30, 99, 999, 99_999)[grade]
    left, right = draw.sample(range(1, high + 1), 2)
    text, most = f"Which number is larger, {left} or {right}?", max(left, right)
    return text, str(most), f"The larger number is {most}"


def _series(draw: random.Random, grade: int) -> _Made:
    start, step = draw.randint(1, (3, 5, 9, 30, 90)[grade]), draw.randint(1, (1, 2, 5, 10, 20)[grade])
    numbers = [str(start + step * place) for place in range(5)]
    return (
        f"Which number comes next: {', '.join(numbers[:4])}?",
        numbers[4],
        f"{', '.join(numbers[:4])}, {numbers[4]}",
    )


def _unit(draw: random.Random, grade: int) -> _Made:
    large, small, factor = draw.choice(_UNITS[: 2 * grade + 2])
    many = draw.randint(1, (2, 3, 5, 9, 40)[grade])
    if draw.random() < (0, 0, 0, 0.3, 0.5)[grade]:
        text, answer = f"How many {large} are {many * factor} {small}?", str(many)
        return text, answer, f"{many * factor} {small} / {factor} = {answer}"
    text, answer = f"How many {small} are {many} {large}?", str(many * factor)
    return text, answer, f"{many} {large} x {factor} = {answer}"


def _copy(draw: random.Random, grade: int) -> _Made:
    words = draw.sample(_WORDS, 1 + 2 * grade)
    return f"Write the last word again: {' '.join(words)}", words[-1], words[-1]


def _letter(draw: random.Random, grade: int) -> _Made:
    word = draw.choice([word for word in _WORDS if len(word) > grade])
    place = ("first", "second", "third", "fourth", "fifth")[grade]
    return f'What is the {place} letter of "{word}"?', word[grade], word[grade]


def _length(draw: random.Random, grade: int) -> _Made:
    word = draw.choice([word for word in _WORDS if len(word) <= 3 + grade])
    spelt = "-".join(word)
    return f'How many letters does "{word}" have?', str(len(word)), f"{spelt}: {len(word)}"


def _sorted(draw: random.Random, grade: int) -> _Made:
    words = draw.sample(_WORDS, 2 + grade)
    return f"Which word comes first in a dictionary: {', '.join(words)}?", min(words), min(words)


def _repeat(draw: random.Random, grade: int) -> _Made:
    shown = " ".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(2 + 2 * grade))
    return f"Repeat: {shown}", shown, shown


KINDS: dict[str, Callable[[random.Random, int], _Made]] = {
    "sum": _sum,
    "difference": _difference,
    "product": _product,
    "larger": _larger,
    "series": _series,
    "unit": _unit,
    "copy": _copy,
    "letter": _letter,
    "length": _length,
    "sorted": _sorted,
    "repeat": _repeat,
}
