"""A typed question as a chat model reads it, and the words by which it would answer.

Measured with the demo model (models/README.md): an option is best found by how likely its own label is behind
"Answer:"; options that are listed are confused with one another, so they are where they have a description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_router.chat.message import Message
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.questions.question import Choice, Question, YesNo

BEGUN = "Answer:"  # what the model has said already
_YES_NO = "Answer yes or no."
_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PAIRS = tuple(first + second for first in _LETTERS for second in _LETTERS)


@dataclass(frozen=True, slots=True)
class Wording:
    """`text` behind the state, and the reply, begun already, for each probability in its order."""

    text: str
    replies: tuple[str, ...]


def by_labels(question: Question) -> Wording:
    """Each option is answered by its own label."""
    if isinstance(question, YesNo):
        said = _lines(("Yes", question.yes), ("No", question.no)) if question.yes or question.no else ()
        asked = f"{question.instructions} {_YES_NO}".strip()
        return Wording(_joined(asked, *said), ("no", "yes"))
    rows = _rows(question)
    labels = tuple(label for label, _ in rows)
    asked = question.instructions or f"Which fits best: {', '.join(labels)}?"
    described = any(description for _, description in rows)
    return Wording(_joined(asked, *(_lines(*rows) if described else ())), labels)


def by_codes(question: Question, codes: Sequence[str], first: int = 0) -> Wording:
    """Each option is answered by a code, under which they are listed, beginning with the `first`."""
    rows = [("no", question.no), ("yes", question.yes)] if isinstance(question, YesNo) else _rows(question)
    order = [(first + place) % len(rows) for place in range(len(rows))]
    listed = [f"{codes[place]}. {_line(*rows[number])}" for place, number in enumerate(order)]
    text = _joined(
        question.instructions or "Which fits best?", *listed, f"Answer with {codes[0]} to {codes[-1]}."
    )
    replies = [""] * len(rows)
    for place, number in enumerate(order):
        replies[number] = codes[place]
    return Wording(text, tuple(replies))


def codes(tokenizer: TextTokenizer, count: int) -> tuple[str, ...] | None:
    """So many codes, each of which is one token of its own; None where the vocabulary has too few."""
    numbers = tuple(str(number) for number in range(1, count + 1))
    for row in (_LETTERS, numbers, _PAIRS):
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
    if state and state[-1].role == "user":
        return (*state[:-1], Message("user", f"{state[-1].text}\n\n{text}"), answer)
    return (*state, Message("user", text), answer)


def _rows(question: Question) -> list[tuple[str, str | None]]:
    if isinstance(question, Choice):
        return [(option.text, option.description) for option in question.options]
    assert not isinstance(question, YesNo)
    return [(level.label, level.description) for level in question.levels]


def _lines(*rows: tuple[str, str | None]) -> tuple[str, ...]:
    return tuple(f"- {_line(label, description)}" for label, description in rows)


def _line(label: str, description: str | None) -> str:
    return f"{label}: {description}" if description else label


def _joined(*lines: str) -> str:
    return "\n".join(line for line in lines if line)
