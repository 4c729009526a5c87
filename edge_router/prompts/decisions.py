"""A typed question as a chat model reads it, and the words by which it would answer.

Measured with the demo model (models/README.md): an option is best found by how likely its own label is behind
"Answer:". Options that are listed are confused with one another, least where they stand before the question,
so they do where they have a description.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_router.chat.message import Message, Text
from edge_router.questions.question import Choice, Question, YesNo
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.prompts.tokenizer import TextTokenizer

BEGUN = "Answer:"  # what the model has said already
_YES_NO = "Answer yes or no."
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PAIRS = tuple(first + second for first in LETTERS for second in LETTERS)


@dataclass(frozen=True, slots=True)
class Wording:
    """`text` behind the state, and the reply, begun already, for each probability in its order."""

    text: str
    replies: tuple[str, ...]


def by_labels(question: Question) -> Wording:
    """Each option is answered by its own label."""
    if isinstance(question, YesNo):
        asked = f"{question.instructions} {_YES_NO}".strip()
        return Wording(_defined((("Yes", question.yes), ("No", question.no)), asked), ("no", "yes"))
    rows = _rows(question)
    labels = tuple(label for label, _ in rows)
    asked = question.instructions or f"Which fits best: {', '.join(labels)}?"
    return Wording(_defined(rows, asked), labels)


def by_codes(question: Question, codes: Sequence[str], first: int = 0) -> Wording:
    """Each option is answered by a code, under which they are listed, beginning with the `first`."""
    rows = [("no", question.no), ("yes", question.yes)] if isinstance(question, YesNo) else _rows(question)
    order = [(first + place) % len(rows) for place in range(len(rows))]
    listed = [f"{codes[place]}. {_line(*rows[number])}" for place, number in enumerate(order)]
    told = f"Answer with {codes[0]} to {codes[len(rows) - 1]}."
    text = _joined(question.instructions or "Which fits best?", *listed, told)
    replies = [""] * len(rows)
    for place, number in enumerate(order):
        replies[number] = codes[place]
    return Wording(text, tuple(replies))


def codes(tokenizer: TextTokenizer, count: int) -> tuple[str, ...] | None:
    """So many codes, each of which is one token of its own; None where the vocabulary has too few."""
    numbers = tuple(str(number) for number in range(1, count + 1))
    for row in (LETTERS, numbers, _PAIRS):
        found: dict[int, str] = {}
        for code in row:
            tokens = tokenizer.continued(f" {code}")
            if len(tokens) == 1:
                found.setdefault(tokens[0], code)
        if len(found) >= count:
            return tuple(found.values())[:count]
    return None


def asked(state: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The state, what is asked of it, and how the answer begins."""
    answer = Message("assistant", BEGUN)
    if not state or state[-1].role != "user":
        return (*state, Message("user", text), answer)
    last = state[-1]
    said = (*last.parts, Text(text)) if last.has_media else f"{last.text}\n\n{text}"
    return (*state[:-1], Message("user", said), answer)


def _rows(question: Question) -> list[tuple[str, str | None]]:
    if isinstance(question, Choice):
        return [(option.text, option.description) for option in question.options]
    assert not isinstance(question, YesNo)
    return [(level.label, level.description) for level in question.levels]


def _defined(rows: Sequence[tuple[str, str | None]], asked: str) -> str:
    """Behind what the labels mean, where that is said."""
    if not any(description for _, description in rows):
        return asked
    return _joined(*(_line(*row) for row in rows), f"\n{asked}")


def _line(label: str, description: str | None) -> str:
    return f"{label}: {description}" if description else label


def _joined(*lines: str) -> str:
    return "\n".join(line for line in lines if line)
