"""`client.chat.completions.create(...)`, in the shape of OpenAI's client, over a controller."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol, overload

from edge_router.chat.reply import gathered
from edge_router.chat.request import ChatRequest, TokenMask, Vocabulary
from edge_router.config.arguments import SettingArguments
from edge_router.control.answer import Answer, LinkedCancel
from edge_router.control.controller import CoreController
from edge_router.control.steps import done
from edge_router.control.upgrading import Upgrade
from edge_router.errors import Cancelled
from edge_router.questions.asking import inquiry_request
from edge_router.questions.inquiry import Truncation
from edge_router.questions.question import Question
from edge_router.questions.result import Answers
from edge_router.records import changed
from edge_router.response_cache.wish import wish
from edge_router.surfaces.base import Head
from edge_router.surfaces.openai.objects import ChatCompletion, ChatCompletionChunk
from edge_router.surfaces.openai.parse import INCLUDE_USAGE, conversation, parse_chat, parse_messages
from edge_router.surfaces.openai.replies import ChunkMaker, completion
from edge_router.types import Cancel, Decision, Timings

if TYPE_CHECKING:
    from typing import Self

    from edge_router.config.settings import Config
    from edge_router.engines.base import Engine
    from edge_router.questions.bounds import Bounds
    from edge_router.routing.confidence.gate import Gate
    from edge_router.routing.routers.base import Router
    from edge_router.system.paths import Paths
    from edge_router.types import Progress


class ControllerArguments(SettingArguments, total=False):
    """What a `Controller` is made with, as keyword arguments."""

    config: Config | None
    weak: Engine | None
    strong: Engine | None
    router: Router | None
    gate: Gate | None
    bounds: Bounds | None
    paths: Paths | None
    progress: Progress | None


class Controller(CoreController):
    """A `CoreController` as Python callers know it, in the shape of OpenAI's client: `controller.chat`."""

    @cached_property
    def chat(self) -> Chat:
        """`controller.chat.completions.create(...)`, as in OpenAI's client."""
        return Chat(self)

    def route(
        self,
        prompt: str | Sequence[object],
        *,
        model: str = "auto",
        private: bool = False,
        caller: str | None = None,
    ) -> Decision:
        """The decision for a prompt, or for a list of OpenAI messages. Needs no weights, network or key.

        `caller`: one of the configuration's, for whom it is.
        """
        messages = parse_messages(conversation(prompt))
        return self.decision(ChatRequest(messages, target=model, private=private, caller=caller))

    def decide(
        self,
        state: object,
        questions: Sequence[Question] | Mapping[str, Question],
        *,
        model: str = "auto",
        private: bool = False,
        caller: str | None = None,
        truncation: Truncation = "refuse",
        cancel: Cancel | None = None,
    ) -> Answers:
        """Typed questions about a text or any JSON value, answered with probabilities.

        What the weak model is unsure of goes to the strong one, and nothing else. A state longer than the
        weak model's context is refused, or loses its "middle". Raises what `chat.completions.create` does.
        """
        request = inquiry_request(state, questions, model=model, private=private, truncation=truncation)
        return done(self.answering(replace(request, caller=caller), cancel or threading.Event()))

    def upgrades(self, *ids: int, since: float = 0.0, every: bool = False) -> tuple[Upgrade, ...]:
        """What the weak model answered only for want of the strong one, oldest first. They are kept
        with `ledger.store_prompts`.

        Those that the strong one has bettered, or will not, only where they are named, or with `every`.
        `since`: seconds since 1970. Raises `InvalidRequest` for an id that is not there.
        """
        found = self._upgrader.find(ids, since)
        return tuple(each for each in found if ids or every or each.state == "open")

    def upgrade(
        self,
        *ids: int,
        since: float = 0.0,
        max_cost: float | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Upgrade]:
        """Asks the strong model for those answers, or for all that `upgrades` lists, one after the other.

        Each is kept as soon as it is there, so whoever stops loses none, and the next call goes on. Ends
        before one that could take the cost above `max_cost`. Raises what keeps the strong model from
        answering; what it will not answer has `refused`.
        """
        self._check_open()
        return self._upgrader.ask(ids, since=since, max_cost=max_cost, cancel=cancel)

    def keep_weak_answer(self, number: int) -> None:
        """The answer of that id is good enough: `upgrades` lists it no more."""
        self._upgrader.decline(number)


class Starts(Protocol):
    """A controller, as far as this file is concerned."""

    def start(self, request: ChatRequest, cancel: Cancel | None = None) -> Answer:
        """An answer under way, with its first event there. Raises what keeps it from that."""
        ...


class Chat:
    """`client.chat`, as OpenAI's client has it."""

    def __init__(self, controller: Starts) -> None:
        self.completions = Completions(controller)


class Completions:
    """`client.chat.completions`, as OpenAI's client has it."""

    def __init__(self, controller: Starts) -> None:
        self._controller = controller

    @overload
    def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: Literal[False] = False,
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        response_cache: str | None = None,
        caller: str | None = None,
        session: str | None = None,
        cancel: Cancel | None = None,
        **fields: object,
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: Literal[True],
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        response_cache: str | None = None,
        caller: str | None = None,
        session: str | None = None,
        cancel: Cancel | None = None,
        **fields: object,
    ) -> ChatStream: ...

    def create(
        self,
        *,
        messages: str | Sequence[Mapping[str, object]],
        model: str = "auto",
        stream: bool = False,
        mask: Callable[[Vocabulary], TokenMask] | None = None,
        response_cache: str | None = None,
        caller: str | None = None,
        session: str | None = None,
        cancel: Cancel | None = None,
        **fields: object,
    ) -> ChatCompletion | ChatStream:
        """An answer, whole or as a stream of chunks. `fields` are OpenAI's, plus `private=True` and
        `cache="keep"`: what the weak model reads of the system message stays on the disk for the next start.

        A stream comes back with its first token. `cancel` is a `threading.Event`: once it is set, before that
        or after, the model stops. `mask` says token by token what the weak model may write; it is made anew
        for each answer. `response_cache` says whether the answer may be one that was given before, and be
        kept: "no-cache", "no-store", "max-age=60", "use". `caller`: one of the configuration's, within
        whose limits it is. `session`: what you call the conversation, which tells it from all others that
        begin alike. Raises `InvalidRequest`, `Cancelled` where there is no answer yet, and whatever
        kept both models from answering.
        """
        call = parse_chat({**fields, "messages": conversation(messages), "model": model, "stream": stream})
        own = None if cancel is None else LinkedCancel(cancel)
        request = own_words(call.request, mask, response_cache, caller, session)
        answer = self._controller.start(request, own)
        return (
            ChatStream(answer, include_usage=bool(call.options[INCLUDE_USAGE]))
            if call.stream
            else whole(answer)
        )


def own_words(
    request: ChatRequest,
    mask: Callable[[Vocabulary], TokenMask] | None,
    response_cache: str | None,
    caller: str | None,
    session: str | None,
) -> ChatRequest:
    """`request` with what Python callers say beside OpenAI's fields. Raises `InvalidRequest`."""
    if response_cache is not None:
        request = replace(request, response_cache=wish(response_cache, "response_cache"))
    return changed(request, mask=mask, caller=caller, session=session or None)


def whole(answer: Answer) -> ChatCompletion:
    """Read an answer to its end."""
    return next(made for made in wholly(answer) if made is not None)


def wholly(answer: Answer) -> Iterator[ChatCompletion | None]:
    """None for each of an answer's events, then what they make together."""
    head = Head.begun(answer.model, answer.decision)
    for reply in gathered(answer):
        yield None if reply is None else completion(reply, head, answer.timings, answer.fallback_cause)


class ChatStream:
    """Chunks of one answer.

    `cancel` and `close` end it from any thread: whoever reads it finds nothing more. So does leaving a `for`
    loop over it, or dropping it. `next` takes one chunk and ends nothing.
    """

    def __init__(self, answer: Answer, *, include_usage: bool = False) -> None:
        self._answer, self._include_usage = answer, include_usage
        self._maker = ChunkMaker(Head.begun(answer.model, answer.decision))
        self._made: deque[ChatCompletionChunk] = deque()
        self._over = False

    @property
    def decision(self) -> Decision:
        """Where it was sent, and why."""
        return self._answer.decision

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self._answer.model

    @property
    def timings(self) -> Timings:
        """How long its parts took, as far as it has come."""
        return self._answer.timings

    @property
    def fallback_cause(self) -> Exception | None:
        """The error that made the other model answer, if one did."""
        return self._answer.fallback_cause

    @property
    def cancelled(self) -> bool:
        """Whether it was cut short because its reader no longer wanted it."""
        return self._answer.cancelled

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        try:
            while True:  # see `Answer.__iter__`
                try:
                    chunk = next(self)
                except StopIteration:
                    return
                yield chunk
        finally:
            self._answer.leave()

    def __next__(self) -> ChatCompletionChunk:
        while not self._made and not self._over:
            self._read()
        if self._answer.closed or not self._made:
            raise StopIteration
        return self._made.popleft()

    def _read(self) -> None:
        try:
            self._made.extend(self._maker.chunks(next(self._answer)))
        except StopIteration:
            self._over = True
            if self._include_usage and not self._answer.cancelled:
                self._made.append(self._maker.usage_chunk())
        except Cancelled:
            if self._answer.left or not self._answer.cancelled:
                raise
            self._over = True

    def cancel(self) -> None:
        """End it within one token. Safe from any thread, as a button that stops it."""
        self._answer.cancel()

    def close(self) -> None:
        """Done with it, read to its end or not. Safe from any thread."""
        self._answer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
