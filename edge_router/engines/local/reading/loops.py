"""Ending an answer that goes in circles: a small model may say the same thing for ever, and nobody reads it.

A circle is the same tokens over and over, without a change, up to where the answer stands. Poems, lists,
tables and code repeat themselves, too, but seldom so often; what has no words (a grid of zeros, an empty
table), stands in a block of code or is more than one text of JSON may do so for longer, and what the user
wrote may be wanted for ever. Whole sentences in a row, or paragraphs, say enough once they have come five
times; lines do not, for they are of songs and lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edge_router.chat.message import Message

TIMES = 6  # that the same has to come
SPAN = 320  # tokens that this has to take
PATIENCE = 4  # times as many for what has no words, within a block of code, and for JSON
SENTENCE_TIMES, SENTENCE = 5, 40  # that whole sentences have to come, of so many letters with the space
_EVERY = 32  # tokens between two looks
_END_OF_SENTENCE = re.compile(r"[.!?…](?:[\"'”’»)*_]{0,3})\s|[。！？]")
_LINE_END = re.compile(r"(?<!\n)\n(?!\n)")
_NO_PROSE = re.compile(r"[|<>{}=;\\`]|\d[\d.,:/-]*\s+\d")
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
        if len(self._tokens) % _EVERY:
            return False
        (period, span), sentences = circles(self._tokens[-SPAN * PATIENCE :], (TIMES, SENTENCE_TIMES))
        if span >= SPAN and self._counts(self._tokens[-period:], span):
            return True
        return sentences[0] > 0 and self._are_sentences(self._tokens[-sentences[0] :])

    def _counts(self, repeated: Sequence[int], span: int) -> bool:
        text = self._text_of(repeated)
        if self._is_wanted(_BETWEEN.sub("", text.casefold())):
            return False
        data = not _WORD.search(text) or (self._formed and '"' in text)
        data = data or bool(self._text_of(self._tokens).count("```") % 2)
        return span >= (SPAN * PATIENCE if data else SPAN)

    def _are_sentences(self, repeated: Sequence[int]) -> bool:
        """Whether it is whole sentences of prose, begun anywhere within themselves, that nobody asked for."""
        text = self._text_of(repeated)
        if len(text) < SENTENCE or self._formed or not _END_OF_SENTENCE.search(text + text):
            return False
        if _LINE_END.search(text + text[:1]) or _NO_PROSE.search(text):
            return False
        in_code = self._text_of(self._tokens).count("```") % 2
        return not in_code and not self._is_wanted(_BETWEEN.sub("", text.casefold()))

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
    return circles(tokens, (TIMES,))[0]


def circles(tokens: Sequence[int], times: Sequence[int]) -> list[tuple[int, int]]:
    """The same for each of `times`."""
    found, fewest = [(0, 0) for _ in times], min(times)
    if tokens.count(tokens[-1]) < fewest:
        return found
    backwards = tokens[::-1]
    border = [0] * len(backwards)  # of each beginning: how much of it is its end, too (Knuth, Morris, Pratt)
    for end in range(1, len(backwards)):
        length = border[end - 1]
        while length and backwards[end] != backwards[length]:
            length = border[length - 1]
        border[end] = length + (backwards[end] == backwards[length])
        period, span = end + 1 - border[end], end + 1
        if period * fewest <= span:
            found = [
                (period, span) if period * count <= span else before
                for count, before in zip(times, found, strict=True)
            ]
    return found
