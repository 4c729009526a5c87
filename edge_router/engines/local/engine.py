"""The engine around any `ModelRunner`: messages to tokens, tokens to deltas."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from edge_router.chat.events import (
    EngineTimings,
    Event,
    Finished,
    FinishReason,
    HiddenState,
    TextDelta,
    Usage,
)
from edge_router.chat.request import ChatRequest, JsonOutput, Need, SignalRequest, TokenMask, Vocabulary
from edge_router.engines.local.answer import Answer
from edge_router.engines.local.constraint import Grammars
from edge_router.engines.local.form_mask import FormMask
from edge_router.engines.local.line import Line
from edge_router.engines.local.loops import LoopGuard, asked_by
from edge_router.engines.local.runner import ModelRunner
from edge_router.engines.local.sampler import Choice, Sampler, SamplingDefaults
from edge_router.engines.local.scheduler import Scheduler
from edge_router.engines.local.worker import Job, Rest
from edge_router.errors import (
    Cancelled,
    ContextOverflow,
    EngineError,
    InvalidRequest,
    TemplateError,
)
from edge_router.prompts.template import Template
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.types import Cancel
from edge_router.vram import Plan

_POLL_S = 0.05  # how often a waiting reader looks at its cancel


class LocalEngine:
    """Answers with a model that runs here. See `engines.base.Engine` for what holds.

    `load` makes the runner, in the thread that will use it; what it raises, this raises. `end_tokens` end
    an answer. Without a `template` only `raw_prompt` requests can be answered. Where `rest` says so the
    runner is closed while nobody asks, and made again. `plan` is what it allocates by, where it was planned.
    """

    def __init__(
        self,
        load: Callable[[], ModelRunner],
        *,
        name: str,
        model_id: str,
        tokenizer: TextTokenizer,
        template: Template | None,
        end_tokens: Collection[int],
        defaults: SamplingDefaults,
        rest: Rest | None = None,
        plan: Callable[[], Plan | None] = lambda: None,
    ) -> None:
        self._name, self._model_id, self._plan = name, model_id, plan
        self._tokenizer, self._template = tokenizer, template
        self._end_tokens, self._defaults = frozenset(end_tokens), defaults
        self._scheduler = Scheduler(name, load, rest)
        self._line = Line()
        self._grammars = Grammars(tokenizer, self._end_tokens, self.vocab_size)
        self._grammars.prepare()
        self.weights_key: str | None = None  # of an artifact; what was calibrated for it is found by that
        self.longest_context: int | None = None  # for which the model was trained
        self.longest_answer: int | None = None  # tokens, where the request does not say
        self.ends_loops = True  # see `loops.LoopGuard`

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def context_window_size(self) -> int:
        return self._scheduler.context_window_size

    @property
    def vocab_size(self) -> int:
        """Tokens that have a text."""
        return min(self._tokenizer.vocab_size, self._scheduler.vocab_size)

    @property
    def handles_tools(self) -> bool:
        return False

    @property
    def handles_json(self) -> bool:
        return True

    @property
    def plan(self) -> Plan | None:
        return self._plan()

    @property
    def loaded(self) -> bool:
        """False while its memory has been given back."""
        return self._scheduler.loaded

    def count_tokens(self, request: ChatRequest) -> int:
        """Raises `TemplateError`."""
        return len(self._prompt(request))

    def stream(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        """Raises `ContextOverflow`, `TemplateError`, `GenerationFailed`, `Cancelled`, `EngineUnavailable`."""
        prompt = self._prompt(request)
        room = self.context_window_size - len(prompt)
        longest = min(room, self.longest_answer or room) if request.max_tokens is None else request.max_tokens
        if not prompt:
            raise InvalidRequest("messages", "the prompt is empty")
        if room < 1:
            raise ContextOverflow(len(prompt), self.context_window_size, self.longest_context)
        if max(prompt) >= self._scheduler.vocab_size:  # such as a mark of pictures in a model that sees none
            raise InvalidRequest("messages", f"holds tokens that {self._model_id} has no weights for")
        most = min(longest, room)
        form = self._form(request, most, cancel)
        reader = _Reader(
            Answer(
                self._tokenizer,
                end_tokens=self._end_tokens,
                max_tokens=most,
                stops=self._stops(request),
                at_start=request.raw_prompt is None,
                guard=self._guard(request),
                form=form,
            ),
            len(prompt),
        )
        sampler = Sampler(
            request.sampling,
            self._defaults,
            prompt=prompt,
            vocab_size=self.vocab_size,
            logprobs=request.top_logprobs if request.logprobs else None,
            mask=form or self._mask(request),
            signals=request.signals,
        )
        left = threading.Event()
        job = Job(prompt, sampler, reader, lambda: left.is_set() or cancel.is_set())
        with self._line.standing(cancel, job):
            self._scheduler.submit(job)
            try:
                yield from reader.events(cancel, self._scheduler)
            finally:
                left.set()

    def ahead(self, cancel: Cancel) -> int | None:
        """See `engines.base.Queueing`."""
        return self._line.ahead(cancel)

    def weigh(self, request: ChatRequest, replies: Sequence[str], cancel: Cancel) -> tuple[float, ...]:
        """See `engines.base.Weighing`; what was read is kept for a prompt that begins the same."""
        # The last: some tokenizers put a space, which is a token of its own, before a text.
        signals = SignalRequest(state=tuple(self._tokenizer.encode(reply)[-1] for reply in replies))
        stream = self.stream(replace(request, max_tokens=1, logprobs=False, signals=signals), cancel)
        return next(event.values for event in stream if isinstance(event, HiddenState))

    def close(self) -> None:
        self._scheduler.close()
        self._grammars.close()

    def _form(self, request: ChatRequest, max_tokens: int, cancel: Cancel) -> FormMask | None:
        output = request.output
        if request.mask is not None or not isinstance(output, JsonOutput):
            return None
        schema = {"type": "object"} if output.schema is None else output.schema
        try:
            return self._grammars.json(schema, cancel).mask(max_tokens)
        except InvalidRequest as error:
            raise type(error)(request.name_of(Need.JSON), error.reason) from error.__cause__

    def _mask(self, request: ChatRequest) -> TokenMask | None:
        if request.mask is None:
            return None
        vocabulary = Vocabulary(
            self.vocab_size, self._end_tokens, self._tokenizer.token_bytes, self._tokenizer.file
        )
        return request.mask(vocabulary)

    def _guard(self, request: ChatRequest) -> LoopGuard | None:
        """None for what goes on a text, which may be any data, and for a mask of the caller's."""
        if not self.ends_loops or request.raw_prompt is not None or request.mask is not None:
            return None
        formed = isinstance(request.output, JsonOutput)
        return LoopGuard(asked_by(request.messages), self._text_of, formed=formed)

    def _text_of(self, tokens: Sequence[int]) -> str:
        return b"".join(self._tokenizer.token_bytes(token) for token in tokens).decode("utf-8", "replace")

    def _stops(self, request: ChatRequest) -> tuple[str, ...]:
        own = () if request.raw_prompt is not None or self._template is None else self._template.stops
        return (*request.stop, *own)

    def _prompt(self, request: ChatRequest) -> list[int]:
        if request.raw_prompt is not None:
            return self._tokenizer.encode(request.raw_prompt, special=True)
        if self._template is None:
            raise TemplateError(self._model_id, "neither its tokenizer nor its conv_template tells of one")
        text = self._template.render(request.messages, guard=self._tokenizer.guard)
        return [*self._template.begin, *self._tokenizer.encode(text)]


class _Reader:
    """Takes tokens in the scheduler's thread and hands out events in the caller's."""

    def __init__(self, answer: Answer, prompt_tokens: int) -> None:
        self._answer, self._prompt_tokens = answer, prompt_tokens
        self._queue: queue.SimpleQueue[Event | EngineError] = queue.SimpleQueue()

    def push(self, choice: Choice, job: Job) -> bool:
        if choice.state:
            self._queue.put(HiddenState(choice.state))
        piece = self._answer.push(choice)
        if piece.text or piece.logprobs:
            self._queue.put(TextDelta(piece.text, piece.logprobs))
        if piece.finish_reason is None:
            return False
        self._queue.put(self._finished(piece.finish_reason, piece.looped, job))
        return True

    def ends(self, choice: Choice) -> bool:
        return self._answer.ends(choice)

    def fail(self, error: EngineError) -> None:
        self._queue.put(error)

    def limit(self, max_tokens: int) -> None:
        self._answer.shorten(self._answer.tokens + max_tokens)

    def events(self, cancel: Cancel, scheduler: Scheduler) -> Iterator[Event]:
        while True:
            item = self._next(cancel, scheduler)
            if isinstance(item, EngineError):
                raise item
            yield item
            if type(item) is Finished:
                return

    def _next(self, cancel: Cancel, scheduler: Scheduler) -> Event | EngineError:
        while not cancel.is_set():
            try:
                return self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                if not scheduler.running and self._queue.empty():
                    return scheduler.closed_error()
        return Cancelled()

    def _finished(self, reason: FinishReason, looped: bool, job: Job) -> Finished:
        cached = job.cached_tokens or 0
        return Finished(
            reason,
            looped=looped,
            usage=Usage(self._prompt_tokens, self._answer.tokens, cached),
            timings=EngineTimings(
                prefill_s=job.first_token - job.began,
                prefill_tokens=self._prompt_tokens - cached,
                decode_s=job.last_token - job.first_token,
                decode_tokens=len(job.tokens) - self._prompt_tokens - 1,
            ),
        )
