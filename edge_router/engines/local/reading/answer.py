"""From chosen tokens to the text of an answer: whole characters, stop strings, the end."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

from edge_router.chat.events import FinishReason, TokenLogprob
from edge_router.engines.local.reading.loops import LoopGuard
from edge_router.engines.local.sampler import SampledToken
from edge_router.engines.stops import StopStrings
from edge_router.records import dataclass


class ClosingForm(Protocol):
    """What an answer is held to, and closed by where it has to end; see `form_mask.FormMask`."""

    @property
    def complete(self) -> bool: ...

    @property
    def cut(self) -> bool: ...

    def shorten(self, max_tokens: int) -> None: ...

    def hurry(self) -> bool: ...


class Spelling(Protocol):
    """What each token is written as."""

    @property
    def leading_space(self) -> bool: ...

    def token_bytes(self, token: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class AnswerPiece:
    """What one more token adds to the answer, which may be nothing yet."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    looped: bool = False


class AnswerDecoder:
    """One answer under way: `push` every chosen token until a piece has a finish reason.

    `end_tokens` end the answer and are no part of it. `max_tokens` is at least 1. `at_start` says that the
    text stands on its own, so that the space which some tokenizers put before a text is dropped.
    """

    def __init__(
        self,
        tokenizer: Spelling,
        *,
        end_tokens: Collection[int],
        max_tokens: int,
        stops: Sequence[str] = (),
        at_start: bool = True,
        guard: LoopGuard | None = None,
        form: ClosingForm | None = None,
    ) -> None:
        self.tokens = 0  # of the answer so far
        self._tokenizer, self._end_tokens, self._max_tokens = tokenizer, end_tokens, max_tokens
        self._stops, self._guard, self._form = StopStrings(stops), guard, form
        self._looped = False
        # Holds back an unfinished character. One that the answer's end leaves unfinished is never shown.
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._drop_space = at_start and tokenizer.leading_space
        self._length = self._shown = 0  # characters
        self._logprobs: deque[tuple[int, TokenLogprob]] = (
            deque()
        )  # with the place where the token's text begins

    @property
    def stop(self) -> str | None:
        """The stop string that ended it."""
        return self._stops.found

    def shorten(self, max_tokens: int) -> None:
        """There is room for no more than this."""
        self._max_tokens = min(self._max_tokens, max_tokens)
        if self._form is not None:
            self._form.shorten(self._max_tokens - self.tokens)

    def ends(self, choice: SampledToken) -> bool:
        """Whether it will surely be complete with this one."""
        if self._form is not None and self._form.complete:
            return True
        return choice.token in self._end_tokens or self.tokens + 1 >= self._max_tokens

    def push(self, choice: SampledToken) -> AnswerPiece:
        if choice.token in self._end_tokens:
            return self._end(self._stops.rest(), self._reason("stop"))
        self.tokens += 1
        data = self._tokenizer.token_bytes(choice.token)
        text = self._decode(data)
        if self._drop_space and text:
            self._drop_space, text = False, text.removeprefix(" ")
        if choice.logprob is not None:
            self._logprobs.append((self._length, self._logprob(choice, data)))
        self._length += len(text)
        text, stopped = self._stops.push(text)
        if stopped:
            return self._piece(text, "stop", cut=True)
        if self._form is not None and self._form.complete:
            return self._end(text + self._stops.rest(), self._reason("stop"))
        if self.tokens >= self._max_tokens:
            return self._end(text + self._stops.rest(), "length")
        if not self._looped and self._guard is not None and self._guard.push(choice.token):
            self._looped = True
            if self._form is None or not self._form.hurry():
                return self._end(text + self._stops.rest(), "length")
        return self._piece(text, None)

    def _reason(self, own: FinishReason) -> FinishReason:
        """`own` where the model came to it by itself."""
        return "length" if self._form is not None and self._form.cut else own

    def _end(self, text: str, reason: FinishReason) -> AnswerPiece:
        return replace(self._piece(text, reason), looped=self._looped)

    def _piece(self, text: str, finish_reason: FinishReason | None, *, cut: bool = False) -> AnswerPiece:
        """Logprobs go out with the text of their token, so that they don't show a stop string either."""
        self._shown += len(text)
        nothing_held = self._shown == self._length and not cut
        ready: list[TokenLogprob] = []
        while self._logprobs and (nothing_held or self._logprobs[0][0] < self._shown):
            ready.append(self._logprobs.popleft()[1])
        return AnswerPiece(text, tuple(ready), finish_reason)

    def _logprob(self, choice: SampledToken, data: bytes) -> TokenLogprob:
        top = tuple(_named(self._tokenizer.token_bytes(token), logprob) for token, logprob in choice.top)
        return _named(data, choice.logprob or 0.0, top)


def _named(data: bytes, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(data.decode("utf-8", "replace"), logprob, data, top)
