"""Answers held to a form, token by token, and closed in time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.engines.local.forms.closing import LONGEST, Closing
from edge_router.engines.local.forms.vocabulary import GrammarVocabulary
from edge_router.errors import GenerationFailed
from edge_router.records import dataclass

PACKAGE = "llguidance"
_DIGITS = 24  # of a number; more are wanted by nobody, and a small model finds no end
_STEPS = 2048  # in search of a way, for each token: some microseconds each
_WIDEST = 16  # bytes of a token, as far as a way to the end is looked for


@dataclass(frozen=True, slots=True)
class Form:
    """What an answer, or the rest of one, is held to; made for one model. `way` is the shortest known."""

    matcher: Any
    closing: Closing
    way: bytes
    words: GrammarVocabulary
    threads: ThreadPoolExecutor

    @property
    def shortest(self) -> int:
        """Tokens that a whole answer takes at least, as far as that is known."""
        return len(self.words.cut(self.way) or self.way)

    def mask(self, max_tokens: int) -> FormMask:
        """For an answer that has not begun."""
        closing, matcher = self.closing.copy(), self.matcher.deep_copy()
        return FormMask(matcher, closing, self.way, self.words, self.threads, max_tokens)

    def fitting(self, said: bytes) -> int:
        """How many bytes of the beginning of an answer fit."""
        return self.closing.fitting(said)

    def resumed(self, said: bytes, max_tokens: int) -> FormMask | None:
        """For one that has begun with this and has so many tokens left; None where it does not fit."""
        closing, matcher = self.closing.copy(), self.matcher.deep_copy()
        tokens = self.words.cut(said)
        if tokens is None or not closing.push(said) or matcher.try_consume_tokens(tokens) < len(tokens):
            return None
        way = closing.way(lambda way: True)
        return None if way is None else FormMask(matcher, closing, way, self.words, self.threads, max_tokens)


class FormMask:
    """A `TokenMask` whose answer is closed in time: no token is taken behind which it could no longer be.

    The mask of the next token is looked for in another thread, while the model computes. `way` ends an
    answer that has not begun.
    """

    def __init__(
        self,
        matcher: Any,
        closing: Closing,
        way: bytes,
        words: GrammarVocabulary,
        threads: ThreadPoolExecutor,
        max_tokens: int,
    ) -> None:
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        self._matcher, self._fill = matcher, fill_next_token_bitmask
        self._bits = allocate_token_bitmask(1, words.known.vocab_size)
        self._closing, self._words, self._threads = closing, words, threads
        self._left = max_tokens
        # Ends the answer within what is left; None where nothing known does. Tokens once they were needed.
        self._way: bytes | Sequence[int] | None = way if self._fits(way, max_tokens) else None
        self._next = threads.submit(self._step, None)
        self.cut = False  # it was ended before the model would have

    @property
    def idle(self) -> bool:
        return False

    @property
    def thinking(self) -> bool:
        return False

    @property
    def complete(self) -> bool:
        """Nothing more can come."""
        return self._closing.complete

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Raises `GenerationFailed` where the form has become too large to be followed."""
        self._next.result()
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._words.size]
        return bits.view(np.bool_)

    @property
    def shortest(self) -> int:
        """Tokens that end it from where it is, as far as that is known."""
        way = None if self._way is None else self._tokens_of(self._way)
        return len(way) if way is not None else 0

    def affordable(self, token: int) -> int:
        """`token`, or what is said in its place so that the answer is closed in time."""
        said = self._words.bytes_of(token)
        if token in self._words.ends or not self._closing.push(said):
            return token
        if self._way is None:
            return token
        left = self._left - 1
        endless = self._closing.digits > _DIGITS or self._closing.infinite
        way = None if endless else self._known_way(said, left)
        if way is None and not endless:
            longest = min(LONGEST, _WIDEST * (left + 1))
            way = self._closing.way(lambda way: self._fits(way, left), longest, steps=_STEPS)
        if way is not None or (rest := self._tokens_of(self._way)) is None:
            self._way = way
            return token
        self._closing.pop()
        if not rest:
            return min(self._words.ends, default=token)
        self._closing.push(self._words.bytes_of(rest[0]))
        self._way = rest[1:]
        self.cut = self.cut or (rest[0] != token and not endless)
        return rest[0]

    def accept(self, token: int) -> None:
        self._left -= 1
        self._next = self._threads.submit(self._step, token)

    def shorten(self, max_tokens: int) -> None:
        """There is room for no more than this."""
        self._left = min(self._left, max_tokens)

    def hurry(self) -> bool:
        """Close it as soon as may be. False where that can't be done."""
        rest = None if self._way is None else self._tokens_of(self._way)
        if rest is None:
            return False
        self.cut = True
        self.shorten(len(rest))
        return True

    def _known_way(self, said: bytes, left: int) -> bytes | None:
        """The last way, where it still is one: a text that goes on ends as it would have before."""
        if not isinstance(self._way, bytes):
            return None
        way = self._way.removeprefix(said)
        return way if self._closing.ends_by(way) and self._fits(way, left) else None

    def _fits(self, way: bytes, left: int) -> bool:
        if len(way) <= left:  # no token is shorter than a byte
            return True
        tokens = self._tokens_of(way)
        return tokens is not None and len(tokens) <= left

    def _tokens_of(self, way: bytes | Sequence[int]) -> Sequence[int] | None:
        return self._words.cut(way) if isinstance(way, bytes) else way

    def _step(self, token: int | None) -> None:
        if token is not None:
            self._matcher.consume_token(token)
        self._fill(self._matcher, self._bits, 0)
        if self._matcher.is_error():
            raise GenerationFailed(PACKAGE, first_words(self._matcher.get_error()))


def first_words(fault: str) -> str:
    """What matters of an error of llguidance's, which may go on with the whole grammar."""
    lines = [line.strip() for line in fault.partition("<state>")[0].splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("error:")), lines[0] if lines else "")
    return said.removeprefix("error: ")[:200]
