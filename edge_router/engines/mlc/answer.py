"""One answer of MLC's engine: one call, or two where thoughts have a bound or a form comes after them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from edge_router.chat.events import Event, Finished, FinishReason, TextDelta, Usage
from edge_router.engines.local.prompt import LocalPrompt
from edge_router.engines.local.reading.answer import AnswerDecoder, AnswerPiece
from edge_router.engines.local.reading.loops import LoopGuard, asked_by
from edge_router.engines.local.reading.sorting import Sorting
from edge_router.engines.local.sampler import SampledToken
from edge_router.engines.mlc import NAME
from edge_router.engines.mlc.call import Calls
from edge_router.engines.mlc.chunks import error_of, finish_of
from edge_router.errors import GenerationFailed
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.records import dataclass
from edge_router.system.worker_process import Line

Ask = Callable[[Mapping[str, object], Sequence[int]], Generator[Line, None, None]]
"""From a call and its prompt to what the child answers."""

_END = 0  # the number of whatever ends an answer


class StandInTokens:
    """Numbers for what tokens are written as, in place of the tokens, which MLC does not tell.

    For an `AnswerDecoder`, which reads as its tokenizer does what each stands for.
    """

    def __init__(self, tokenizer: TextTokenizer, end_tokens: Collection[int]) -> None:
        self._tokenizer, self._ends = tokenizer, frozenset(end_tokens)
        self._numbers: dict[bytes, int] = {}
        self._bytes = [b""]

    @property
    def leading_space(self) -> bool:
        return self._tokenizer.leading_space

    def token_bytes(self, number: int) -> bytes:
        return self._bytes[number]

    def text_of(self, numbers: Sequence[int]) -> str:
        return b"".join(self._bytes[number] for number in numbers).decode("utf-8", "replace")

    def number(self, written: bytes) -> int:
        token = self._control(written)
        if token in self._ends:
            return _END
        data = written if token is None else self._tokenizer.token_bytes(token)
        found = self._numbers.setdefault(data, len(self._bytes))
        if found == len(self._bytes):
            self._bytes.append(data)
        return found

    def _control(self, written: bytes) -> int | None:
        """The control token that is written so; no other is written as one of them."""
        return self._tokenizer.added.get(written.decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class MlcThinking:
    """Thoughts before the answer, ended by `close`; after `budget` tokens by us.

    `opening` and `closing` are what then is written for the model.
    """

    close: str
    opening: Sequence[int]
    closing: Sequence[int]
    budget: int | None


class MlcAnswer:
    """`events` gives all of it, and raises `GenerationFailed` and what the child's lines tell."""

    def __init__(
        self,
        prompt: LocalPrompt,
        calls: Calls,
        ask: Ask,
        *,
        tokenizer: TextTokenizer,
        max_tokens: int,
        stops: Sequence[str],
        ends_loops: bool,
        sorting: Sorting | None,
        thinking: MlcThinking | None,
        tokens: Callable[[], Mapping[bytes, int]],
    ) -> None:
        """`tokens` finds a token by what it stands for."""
        self._prompt, self._calls, self._ask, self._tokens = prompt, calls, ask, tokens
        self._tokenizer, self._most, self._sorting, self._thinking = tokenizer, max_tokens, sorting, thinking
        self._heard = StandInTokens(tokenizer, calls.end_tokens)
        request = prompt.request
        guard = None
        if ends_loops and request.raw_prompt is None:
            asked, formed = asked_by(request.messages), calls.form is not None
            guard = LoopGuard(asked, self._heard.text_of, formed=formed)
        self._answer = AnswerDecoder(
            self._heard,
            end_tokens=(_END,),
            max_tokens=max_tokens,
            stops=stops,
            at_start=request.raw_prompt is None,
            guard=guard,
        )
        self._over = False

    def events(self) -> Iterator[Event]:
        tokens = list(self._prompt.tokens)
        if self._thinking is not None:
            tokens = yield from self._think(tokens, self._thinking)
        if not self._over and self._calls.stepwise:
            tokens = yield from self._steps(tokens)
        if not self._over:
            yield from self._part(tokens, self._most - self._answer.tokens, formed=True)

    def _steps(self, tokens: Sequence[int]) -> Generator[Event, None, list[int]]:
        """The likeliest tokens, one call for each, as long as log probabilities are wanted.

        Returns `tokens` with them.
        """
        signals, tokens = self._prompt.request.signals, list(tokens)
        left = signals.tokens if signals is not None and signals.alone else None
        while not self._over and (left is None or left > 0):
            told = None
            with closing(self._ask(self._calls.step(tokens), tokens)) as lines:
                for line in lines:
                    if "error" in line:
                        raise error_of(line)
                    told = next(iter(line.get("tokens", ())), told)
            if told is None:
                raise GenerationFailed(NAME, "it tells no token")
            choice = self._choice({**told["top_logprobs"][0], "top_logprobs": told["top_logprobs"]})
            tokens.append(self._token(bytes(told["top_logprobs"][0]["bytes"])))
            yield from self._told(self._answer.push(replace(choice, top=choice.top[: self._calls.logprobs])))
            left = None if left is None else left - 1
        self._calls = replace(self._calls, logprobs=None)  # which are not the model's any more
        return tokens

    def _token(self, written: bytes) -> int:
        """The token that is written so; of several the last, for the first stand for single bytes."""
        added = self._tokenizer.added.get(written.decode("utf-8", "replace"))
        found = self._tokens().get(written) if added is None else added
        if found is None:
            raise GenerationFailed(NAME, "it tells a token that the tokenizer does not have")
        return found

    def _think(self, tokens: Sequence[int], thinking: MlcThinking) -> Generator[Event, None, list[int]]:
        """Returns `tokens` with the thoughts, as what was written would be read."""
        tokens = [*tokens, *thinking.opening]
        yield from self._written(thinking.opening)
        room = self._most - self._answer.tokens - len(thinking.closing) - 1
        most = room if thinking.budget is None else min(room, thinking.budget)
        close, said = thinking.close.encode(), b""
        if most > 0:
            said = yield from self._part(tokens, most, formed=False, until=close)
        tokens += self._tokenizer.spoken(said.decode("utf-8", "replace"))
        if close in said or self._over:
            return tokens
        yield from self._written(thinking.closing)
        return [*tokens, *thinking.closing]

    def _part(
        self, tokens: Sequence[int], most: int, *, formed: bool, until: bytes | None = None
    ) -> Generator[Event, None, bytes]:
        """What one call says, which ends where `until` is said; where that is awaited `most` is no end."""
        said, finish = b"", None
        with closing(self._ask(self._calls.call(tokens, most, formed=formed), tokens)) as lines:
            for line in lines:
                if "error" in line:
                    raise error_of(line)
                finish = finish_of(line) or finish
                for told in line.get("tokens", ()):
                    if self._over or (until is not None and until in said):
                        break
                    choice = self._choice(told)
                    said += self._heard.token_bytes(choice.token)
                    yield from self._told(self._answer.push(choice))
                if finish is None and (self._over or (until is not None and until in said)):
                    return said
        if finish is None:
            raise GenerationFailed(NAME, "the answer has no end")
        if not self._over and (finish == "stop" or until is None):
            # A form that is complete ends it, or there is no room, without a token that says so.
            yield from self._told(replace(self._answer.push(SampledToken(_END)), finish_reason=finish))
        return said

    def _choice(self, told: Mapping[str, Any]) -> SampledToken:
        number = self._heard.number(bytes(told["bytes"]))
        if self._calls.logprobs is None:
            return SampledToken(number)
        others = ((bytes(other["bytes"]), other["logprob"]) for other in told["top_logprobs"])
        top = tuple((self._heard.number(written), logprob) for written, logprob in others)
        return SampledToken(number, told["logprob"], top)

    def _written(self, tokens: Sequence[int]) -> Iterator[Event]:
        """By us, in the model's place."""
        for token in tokens:
            number = self._heard.number(self._tokenizer.token_bytes(token))
            yield from self._told(self._answer.push(SampledToken(number)))

    def _told(self, piece: AnswerPiece) -> Iterator[Event]:
        sorting, reason = self._sorting, piece.finish_reason
        if sorting is None:
            if piece.text or piece.logprobs:
                yield TextDelta(piece.text, piece.logprobs)
        else:
            yield from sorting.push(piece.text, piece.logprobs)
            reason = "stop" if sorting.stopped else reason
            if reason is not None:
                yield from sorting.end()
                reason = sorting.reason(reason)
        if reason is not None:
            self._over = True
            yield self._finished(reason, looped=piece.looped)

    def _finished(self, reason: FinishReason, *, looped: bool) -> Finished:
        thoughts = 0 if self._sorting is None else self._sorting.thoughts
        usage = Usage(len(self._prompt.tokens), self._answer.tokens, reasoning_tokens=thoughts)
        return Finished(reason, usage, looped=looped, stop_sequence=(self._sorting or self._answer).stop)
