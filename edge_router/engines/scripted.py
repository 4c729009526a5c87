"""An engine that says what it is told: for the tests of programs that embed the router.

    weak = ScriptedEngine("Paris.", StrongUnreachable("http://example", "no route"), ["Par", "is."])
    controller = Controller(weak=weak, strong=ScriptedEngine(model_id="big"))
    weak.calls      # every ChatRequest it was asked, in order

It serves as the weak or the strong model, keeps every promise of `engines.base.Engine`, and counts a word
as a token.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

from edge_router.chat.events import Event, Finished, TextDelta, Usage
from edge_router.chat.request import ChatRequest, Need
from edge_router.config.settings import Config
from edge_router.engines.base import CHOOSING, Capabilities, Prompt
from edge_router.engines.stops import StopStrings
from edge_router.errors import Cancelled, ContextOverflow, EngineUnavailable
from edge_router.questions.answer import normalized
from edge_router.questions.inquiry import Answered, Declined, Inquiry, InquiryEvent, StateCut
from edge_router.questions.question import Question
from edge_router.system.paths import Paths
from edge_router.types import Cancel, Progress

Step: TypeAlias = str | Event | Exception | float | threading.Event
"""A piece of text, an event as it is, an error to raise, seconds to wait, or an event to wait for."""

Reply: TypeAlias = str | Exception | Sequence[Step] | Callable[[ChatRequest], "Reply"]
"""A text (streamed word by word, cut at max_tokens and stops), an error, steps, or what makes a reply."""

Verdict: TypeAlias = Sequence[float] | None
"""Probabilities of a question's options or levels, or of (no, yes); None declines it."""

_WAKE_S = 0.005  # how soon a cancel is seen while waiting for an event
_LOOK_S = 0.05  # how soon a close is seen while waiting for a time


def echo(request: ChatRequest) -> str:
    """What an engine says once nothing is queued."""
    return f"You said: {request.messages[-1].text}"


def weighed(inquiry: Inquiry, question: Question) -> Verdict:
    """What an engine thinks of a question by itself: numbers that depend on all that was said, only."""
    said = "\n".join(message.text for message in inquiry.state)
    seeds = (f"{said}\n{question}\n{place}" for place in range(question.size))
    return normalized([1 + zlib.crc32(seed.encode("utf-8", "surrogatepass")) for seed in seeds])


class ScriptedEngine:
    """Gives the queued replies, one per call, then `default` for ever. Safe to use from several threads.

    `judge` answers typed questions; an engine without it takes none. `before_verdicts` come first, as steps.
    """

    def __init__(
        self,
        *replies: Reply,
        model_id: str = "scripted",
        context_window_size: int | None = None,
        serves: Iterable[Need] = Need,
        default: Reply = echo,
        judge: Callable[[Inquiry, Question], Verdict] | None = weighed,
        before_verdicts: Sequence[float | Exception | threading.Event] = (),
    ) -> None:
        self._model_id, self._default = model_id, default
        self._judge, self._before_verdicts = judge, before_verdicts
        self.capabilities = Capabilities(
            CHOOSING | frozenset(serves), context_window_size, decides=judge is not None
        )
        self._replies = deque(replies)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.calls: list[ChatRequest] = []
        self.inquiries: list[Inquiry] = []

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def queue(self, *replies: Reply) -> None:
        """Add to what it will say."""
        with self._lock:
            self._replies.extend(replies)

    def prepare(self, request: ChatRequest) -> Prompt:
        """Counts the words of all messages."""
        return Prompt(request, sum(len(message.text.split()) for message in request.messages))

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        request, prompt_tokens = prompt.request, prompt.count or 0
        with self._lock:
            self.calls.append(request)
            reply = self._replies.popleft() if self._replies else self._default
        if self.closed:
            raise EngineUnavailable(self._model_id, "it is closed")
        window = self.capabilities.context_window
        if window is not None and prompt_tokens >= window:
            raise ContextOverflow(prompt_tokens, window)
        while callable(reply):
            reply = reply(request)
        words = 0
        for step in _steps(reply, request):
            self._wait(step, cancel)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, str):
                words += len(step.split())
                yield TextDelta(step)
            elif isinstance(step, Finished):
                yield step if step.usage is not None else replace(step, usage=Usage(prompt_tokens, words))
                return
            elif not isinstance(step, float | int | threading.Event):
                yield step
        self._wait("", cancel)
        yield Finished("stop", Usage(prompt_tokens, words))

    def score_choices(self, prompt: Prompt, replies: Sequence[str], cancel: Cancel) -> tuple[float, ...]:
        """Numbers that depend on all that was said, and on nothing else."""
        if self._closed.is_set():
            raise EngineUnavailable(self._model_id, "it is closed")
        said = "\n".join(message.text for message in prompt.request.messages)
        return tuple(zlib.crc32(f"{said}\n{reply}".encode("utf-8", "replace")) / 2**32 for reply in replies)

    def decide(self, inquiry: Inquiry, cancel: Cancel) -> Iterator[InquiryEvent]:
        """Counts the words of the state and of all instructions."""
        assert self._judge is not None, "its capabilities say that it does not"
        with self._lock:
            self.inquiries.append(inquiry)
        if self.closed:
            raise EngineUnavailable(self._model_id, "it is closed")
        state = sum(len(message.text.split()) for message in inquiry.state)
        window = self.capabilities.context_window
        if window is not None and state >= window:
            if inquiry.truncation == "refuse":
                raise ContextOverflow(state, window)
            yield StateCut(state - window)
            state = window
        for step in self._before_verdicts:
            self._wait(step, cancel)
            if isinstance(step, Exception):
                raise step
        for index, question in enumerate(inquiry.questions):
            self._wait("", cancel)
            verdict = self._judge(inquiry, question)
            yield Declined(index) if verdict is None else Answered(index, tuple(verdict))
        asked = sum(len(question.instructions.split()) for question in inquiry.questions)
        yield Finished("stop", Usage(state + asked, 0))

    def close(self) -> None:
        self._closed.set()

    def _wait(self, step: Step, cancel: Cancel) -> None:
        """As long as `step` says; raises `Cancelled` as soon as nobody wants the answer any more."""
        left = float(step) if isinstance(step, float | int) else 0.0
        while not (cancel.is_set() or self._closed.is_set()):
            if isinstance(step, threading.Event):
                if step.wait(_WAKE_S):
                    return
            elif left <= 0 or cancel.wait(min(left, _LOOK_S)):
                break
            else:
                left -= _LOOK_S
        if cancel.is_set() or self._closed.is_set():
            raise Cancelled


def _steps(reply: Reply, request: ChatRequest) -> Sequence[Step]:
    if isinstance(reply, Exception):
        return [reply]
    if not isinstance(reply, str):
        return cast("Sequence[Step]", reply)
    stops = StopStrings(request.stop)
    shown, stopped = stops.push(reply)
    words: list[Step] = [*re.findall(r"\s*\S+|\s+$", shown + stops.rest())]
    if request.max_tokens is not None and len(words) > request.max_tokens:
        return [*words[: request.max_tokens], Finished("length")]
    return [*words, Finished("stop", stop_sequence=stops.found)] if stopped else words


def load_weak(config: Config, paths: Paths, progress: Progress) -> ScriptedEngine:
    """The engine "scripted" as the weak model, for trying the router where nothing can be compiled."""
    return ScriptedEngine(
        model_id="scripted-weak", context_window_size=config.weak.context_window_size, serves=()
    )


def load_strong(config: Config, paths: Paths, progress: Progress) -> ScriptedEngine:
    """The engine "scripted" as the strong model."""
    return ScriptedEngine(model_id=config.strong.model or "scripted-strong")
