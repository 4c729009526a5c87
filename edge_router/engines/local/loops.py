"""Ending an answer that goes in circles: a small model may say the same thing for ever, and nobody reads it.

A circle is the same tokens over and over, without a change, up to where the answer stands. Poems, lists,
tables and code repeat themselves, too, but seldom so often; what has no words (a grid of zeros, an empty
table), stands in a block of code or is more than one text of JSON may do so for longer, and what the user
wrote may be wanted for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edge_router.chat.message import Message

TIMES = 6  # that the same has to come
SPAN = 320  # tokens that this has to take
PATIENCE = 4  # times as many for what has no words, within a block of code, and for JSON
_EVERY = 32  # tokens between two looks
_WORD = re.compile(r"[^\W\d_]{2}")
_BETWEEN = re.compile(r"[\W_]+")


class LoopGuard:
    """Is told each token of an answer, and says when the answer has come to nothing but a circle.

    `asked` is what the user wrote; `text_of` gives tokens of the answer as text. `formed`: it is JSON.
    """

    def __init__(self, asked: str, text_of: Callable[[Sequence[int]], str], *, formed: bool = False) -> None:
        self._asked, self._text_of, self._formed = asked, text_of, formed
        self._tokens: list[int] = []
        self._wanted = ""  # a circle that the user wrote, twice

    def push(self, token: int) -> bool:
        """Whether the answer may end here."""
        self._tokens.append(token)
        if len(self._tokens) < SPAN or len(self._tokens) % _EVERY:
            return False
        period, span = circle(self._tokens[-SPAN * PATIENCE :])
        return span >= SPAN and self._counts(self._tokens[-period:], span)

    def _counts(self, repeated: Sequence[int], span: int) -> bool:
        text = self._text_of(repeated)
        if self._is_wanted(_BETWEEN.sub("", text.casefold())):
            return False
        data = not _WORD.search(text) or (self._formed and '"' in text)
        data = data or bool(self._text_of(self._tokens).count("```") % 2)
        return span >= (SPAN * PATIENCE if data else SPAN)

    def _is_wanted(self, text: str) -> bool:
        """Whether `text`, begun anywhere within itself, stands in what the user wrote."""
        if text and text not in self._wanted:
            asked = _BETWEEN.sub("", self._asked.casefold())
            if not any(text[turn:] + text[:turn] in asked for turn in range(len(text))):
                return False
            self._wanted = text + text
        return bool(text)


def by_texts(asked: str) -> Callable[[str], bool]:
    """The same for an engine that shows texts and no tokens: what is told each text."""
    numbers: dict[str, int] = {}

    def text_of(tokens: Sequence[int]) -> str:
        texts = tuple(numbers)
        return "".join(texts[token] for token in tokens)

    guard = LoopGuard(asked, text_of)
    return lambda text: guard.push(numbers.setdefault(text, len(numbers)))


def asked_by(messages: Sequence[Message]) -> str:
    """What the user and the program said: an assistant may have gone in circles before."""
    return "\n".join(message.text for message in messages if message.role != "assistant")


def circle(tokens: Sequence[int]) -> tuple[int, int]:
    """The longest stretch at the end of `tokens` that is the same over and over: its period and its length.

    (0, 0) where nothing comes `TIMES` times at the end. Takes a time in proportion to the tokens.
    """
    if tokens.count(tokens[-1]) < TIMES:
        return 0, 0
    backwards, found = tokens[::-1], (0, 0)
    border = [0] * len(backwards)  # of each beginning: how much of it is its end, too (Knuth, Morris, Pratt)
    for end in range(1, len(backwards)):
        length = border[end - 1]
        while length and backwards[end] != backwards[length]:
            length = border[length - 1]
        border[end] = length + (backwards[end] == backwards[length])
        period, span = end + 1 - border[end], end + 1
        if period * TIMES <= span:
            found = period, span
    return found
