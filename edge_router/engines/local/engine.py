"""The engine around any `ModelRunner`: messages to tokens, tokens to deltas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from edge_router.chat.events import Event, HiddenState
from edge_router.chat.request import (
    ChatRequest,
    GrammarOutput,
    JsonOutput,
    Need,
    SignalRequest,
    TokenMask,
    Vocabulary,
)
from edge_router.engines.base import CHOOSING, Capabilities, Prompt
from edge_router.engines.local.deciding import QuestionScorer
from edge_router.engines.local.forms.answer_mask import AnswerMask, Openings, Thinking
from edge_router.engines.local.forms.constraint import Grammars
from edge_router.engines.local.forms.form_mask import Form
from edge_router.engines.local.prompt import LocalPrompt, Prompter, callable_here
from edge_router.engines.local.reading.answer import AnswerDecoder
from edge_router.engines.local.reading.loops import LoopGuard, asked_by
from edge_router.engines.local.runner import ModelRunner
from edge_router.engines.local.sampler import Sampler, SamplingDefaults
from edge_router.engines.local.scheduling.jobs import GenerationTask, UnloadPolicy
from edge_router.engines.local.scheduling.line import Line
from edge_router.engines.local.scheduling.prefixes import Keeper
from edge_router.engines.local.scheduling.reader import Reader
from edge_router.engines.local.scheduling.scheduler import Scheduler
from edge_router.errors import ContextOverflow, InvalidRequest
from edge_router.prompts.answer_format import TEXT_ONLY, AnswerFormat
from edge_router.prompts.template import Template
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.questions.inquiry import Inquiry, InquiryEvent
from edge_router.types import Cancel
from edge_router.vram import Plan

# Tokens of thoughts, where a template has no word for how much.
EFFORTS = {"minimal": 256, "low": 1024, "medium": 4096}
_ANY_OBJECT = {"type": "object"}
_SPACE = b" \t\r\n"  # of JSON, before a value


class LocalEngine:
    """Answers with a model that runs here. See `engines.base.Engine` for what holds.

    `load` makes the runner, in the thread that will use it; what it raises, this raises. `end_tokens` end
    an answer, `answers` says what it is made of. Without a `template` only `raw_prompt` requests can be
    answered. Where `rest` says so the
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
        answers: AnswerFormat = TEXT_ONLY,
        rest: UnloadPolicy | None = None,
        plan: Callable[[], Plan | None] = lambda: None,
    ) -> None:
        self._name, self._model_id, self._plan = name, model_id, plan
        self._tokenizer, self._template, self._answers = tokenizer, template, answers
        self._end_tokens, self._defaults = frozenset(end_tokens), defaults
        self.prompts = Prompter(model_id, tokenizer, template, answers)
        self._scheduler = Scheduler(name, load, rest)
        self._line = Line()
        self.decider = QuestionScorer(model_id, tokenizer, self.prompts, self._scheduler, self._line)
        self._grammars = Grammars(tokenizer, self._end_tokens, self.vocab_size)
        self.weights_key: str | None = None  # of an artifact; what was calibrated for it is found by that
        self.longest_context: int | None = None  # for which the model was trained
        self.longest_answer: int | None = None  # tokens, where the request does not say
        self.ends_loops = True  # see `loops.LoopGuard`
        self.calls_tools = False  # well enough to be asked to
        self.keeper: Keeper | None = None  # of what it has read of prompts, for the next start

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            self._serves,
            self._scheduler.context_window_size,
            self.longest_context,
            self.vocab_size,
            self.weights_key,
            self._answers.calls is not None,
            self._answers.thoughts is not None,
            decides=self._template is not None,
        )

    @property
    def vocab_size(self) -> int:
        """Tokens that have a text."""
        return min(self._tokenizer.vocab_size, self._scheduler.vocab_size)

    @property
    def _serves(self) -> frozenset[Need]:
        calls = self._answers.calls if self.calls_tools else None
        found = {Need.TOOLS, Need.TOOL_CALL} if calls is not None else set()
        found |= {Need.SUFFIX} if self.prompts.infill is not None else set()
        return CHOOSING | found | {Need.JSON, Need.GRAMMAR}

    @property
    def plan(self) -> Plan | None:
        return self._plan()

    @property
    def loaded(self) -> bool:
        """False while its memory has been given back."""
        return self._scheduler.loaded

    def prepare(self, request: ChatRequest) -> LocalPrompt:
        """Raises `TemplateError`, `UnsupportedRequest` for tools that this model was not taught to call."""
        return self.prompts.prepare(request)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        """Raises `ContextOverflow`, `GenerationFailed`, `Cancelled`, `EngineUnavailable`."""
        assert isinstance(prompt, LocalPrompt), "prepared by another engine"
        request, tokens = prompt.request, list(prompt.tokens)
        window = self._scheduler.context_window_size
        room = window - len(tokens)
        longest = min(room, self.longest_answer or room) if request.max_tokens is None else request.max_tokens
        if not tokens:
            raise InvalidRequest("messages", "the prompt is empty")
        if room < 1:
            raise ContextOverflow(len(tokens), window, self.longest_context)
        if max(tokens) >= self._scheduler.vocab_size:  # such as a mark of pictures in a model that sees none
            raise InvalidRequest("messages", f"holds tokens that {self._model_id} has no weights for")
        most = min(longest, room)
        mask = self._answer_mask(prompt, most, cancel)
        sorting = self.prompts.sorting(prompt)
        answer = AnswerDecoder(
            self._tokenizer,
            end_tokens=self._ends(request),
            max_tokens=most,
            stops=[*self._own_stops(request), *(request.stop if sorting is None else ())],
            at_start=request.raw_prompt is None,
            guard=self._guard(request),
            form=mask,
        )
        reader = Reader(answer, len(tokens), sorting)
        sampler = Sampler(
            request.sampling,
            self._defaults,
            prompt=tokens,
            vocab_size=self.vocab_size,
            logprobs=request.top_logprobs if request.logprobs else None,
            mask=mask or self._callers_mask(request),
            signals=request.signals,
        )
        left = threading.Event()
        job = GenerationTask(
            tokens=tokens,
            sampler=sampler,
            sink=reader,
            cancelled=lambda: left.is_set() or cancel.is_set(),
            prefix=self.keeper.of(request, tokens) if self.keeper is not None else None,
        )
        with self._line.standing(cancel, job):
            self._scheduler.submit(job)
            try:
                yield from reader.events(cancel, self._scheduler)
            finally:
                left.set()

    def ahead(self, cancel: Cancel) -> int | None:
        """See `engines.base.Queueing`."""
        return self._line.ahead(cancel)

    def score_choices(self, prompt: Prompt, replies: Sequence[str], cancel: Cancel) -> tuple[float, ...]:
        """See `engines.base.Weighing`; what was read is kept for a prompt that begins the same."""
        # The last: some tokenizers put a space, which is a token of its own, before a text.
        signals = SignalRequest(state=tuple(self._tokenizer.encode(reply)[-1] for reply in replies))
        request = replace(prompt.request, max_tokens=1, logprobs=False, signals=signals)
        stream = self.stream(replace(prompt, request=request), cancel)
        return next(event.values for event in stream if isinstance(event, HiddenState))

    def decide(self, inquiry: Inquiry, cancel: Cancel) -> Iterator[InquiryEvent]:
        """See `engines.base.Decides`; what was read is kept for a state that begins the same."""
        self.decider.longest = self.longest_context
        return self.decider.decide(inquiry, cancel)

    def unload(self) -> None:
        """See `engines.base.Unloading`."""
        self._scheduler.unload()

    def load(self) -> None:
        """See `engines.base.Reloading`."""
        self._grammars.prepare()
        self._scheduler.load()

    def close(self) -> None:
        self._scheduler.close()
        self._grammars.close()

    def _answer_mask(self, prompt: LocalPrompt, max_tokens: int, cancel: Cancel) -> AnswerMask | None:
        """None where anything may be said."""
        request = prompt.request
        if request.mask is not None:
            return None
        form, openings, begun = self._form(request, cancel)
        thinking = self._thinking(prompt) if prompt.thinks else None
        watched = request.signals is not None and request.signals.tokens
        if form is None and (thinking is None or not (watched or thinking.budget)):
            return None
        return AnswerMask(
            self._tokenizer,
            self.vocab_size,
            max_tokens,
            thinking=thinking,
            form=form,
            openings=openings,
            begun=begun,
        )

    def _form(self, request: ChatRequest, cancel: Cancel) -> tuple[Form | None, Openings | None, bytes]:
        """What an answer is held to, what it waits for, and how it has begun. Raises `InvalidRequest`."""
        output, tools, calls = request.output, callable_here(request), self._answers.calls
        begun = request.messages[-1].text.encode() if request.continue_final else b""
        required = bool(tools) and request.tool_choice.mode == "required"
        schema: object = None
        if isinstance(output, JsonOutput):
            schema = _ANY_OBJECT if output.schema is None else output.schema
        need = Need.TOOLS if tools else Need.GRAMMAR if isinstance(output, GrammarOutput) else Need.JSON
        try:
            if isinstance(output, GrammarOutput):
                return _begun(self._grammars.grammar(output, cancel), begun), None, begun
            if schema is not None and (begun or not tools) and not required:  # what was begun is no call
                form, begun = self._grammars.json(schema, cancel), begun.lstrip(_SPACE)
                if form.fitting(begun) < len(begun):
                    form = _begun(self._grammars.json(schema, cancel, loose=True), begun)
                return form, None, begun
            if not tools or calls is None:
                return None, None, b""
            parallel = request.tool_choice.parallel is not False and not calls.bare
            otherwise = None if required else schema
            form = self._grammars.calls(calls, tools, cancel, parallel=parallel, otherwise=otherwise)
            return form, None if required or otherwise is not None else Openings.of(calls), b""
        except InvalidRequest as error:
            raise type(error)(request.name_of(need), error.reason) from error.__cause__

    def _thinking(self, prompt: LocalPrompt) -> Thinking | None:
        marks = self._answers.thoughts
        if marks is None:
            return None
        options, spoken = prompt.request.reasoning, self._tokenizer.spoken
        budget = options.max_tokens
        if budget is None and options.effort is not None:
            budget = EFFORTS.get(options.effort)
        opening = () if prompt.opened else tuple(spoken(f"{marks.open}\n"))
        return Thinking(marks.close, tuple(spoken(f"\n{marks.close}\n\n")), opening, budget)

    def _callers_mask(self, request: ChatRequest) -> TokenMask | None:
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
        formed = isinstance(request.output, JsonOutput) or bool(callable_here(request))
        return LoopGuard(asked_by(request.messages), self._text_of, formed=formed)

    def _text_of(self, tokens: Sequence[int]) -> str:
        return b"".join(self._tokenizer.token_bytes(token) for token in tokens).decode("utf-8", "replace")

    def _ends(self, request: ChatRequest) -> frozenset[int]:
        infill = self.prompts.infill if request.suffix is not None else None
        return self._end_tokens | (infill.ends if infill is not None else frozenset())

    def _own_stops(self, request: ChatRequest) -> tuple[str, ...]:
        return () if request.raw_prompt is not None or self._template is None else self._template.stops


def _begun(form: Form, begun: bytes) -> Form:
    """`form`, which an answer that was begun so can go on with. Raises `InvalidRequest`."""
    fits = form.fitting(begun)
    if fits < len(begun):
        rest = begun[fits:].decode("utf-8", "replace")
        reason = f"allows no answer that begins as the last message does: {rest[:40]!r} does not fit"
        raise InvalidRequest("messages", reason)
    return form
