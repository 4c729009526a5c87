"""Typed questions, each answered by how likely a model here finds its options: nothing is written."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import TypeAlias

from edge_router.chat.message import Message
from edge_router.chat.request import MEDIA_NEEDS, ChatRequest, Need, ReasoningOptions
from edge_router.engines.local.prompt import PLACE, Prompter
from edge_router.engines.local.scheduling.branches import Branch
from edge_router.engines.local.scheduling.line import Line
from edge_router.engines.local.scheduling.scheduler import Scheduler
from edge_router.engines.local.scheduling.survey import SurveyReader, Weighed
from edge_router.errors import (
    ContextOverflow,
    InvalidRequest,
    UnsupportedRequest,
)
from edge_router.prompts.decisions import Wording, asked, by_codes, by_labels, codes
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.questions.inquiry import Answered, Inquiry, InquiryEvent, StateCut
from edge_router.questions.question import Choice, Question, Scale, YesNo
from edge_router.records import dataclass
from edge_router.types import Cancel
from edge_router.webgpu_program import PAGE_SIZE

_Replies: TypeAlias = tuple[tuple[int, ...], ...]
_Key: TypeAlias = tuple[str, _Replies]

_KNOWN = 1024  # questions whose answer without a state is remembered
_MOST_READ = 64  # beginnings of labels, for which a list with codes is the shorter way
_LEAST = 1e-9  # of a reply's probability, that it is not the beginning of a longer one
_CUT = " [...] "
_CUTS = 12  # times that a state is shortened until it fits


@dataclass(frozen=True, slots=True)
class Manner:
    """How a question is put to a model. Each was measured: models/README.md. With any of this, or a wording,
    goes `thresholds.question_bounds.FORMAT`: the bounds that users have measured are of one manner.

    `form`: the options are told by their labels, or by codes of one token; "auto" takes labels unless two
    read the same or they are very many. `orders` of the options under their codes, averaged. `prior`: what
    the model says without the state is taken away. `temperatures` by type of question.
    """

    form: str = "auto"
    orders: int = 2
    prior: bool = True
    temperatures: Mapping[type, float] = field(default_factory=lambda: MappingProxyType(_TEMPERATURES))


_TEMPERATURES: Mapping[type, float] = {YesNo: 0.8, Choice: 1.1, Scale: 1.1}  # found on the suite


@dataclass(frozen=True, slots=True)
class _Put:
    """One wording of the question with that index, as tokens."""

    index: int
    text: str
    replies: _Replies


class QuestionScorer:
    """Of one engine. Safe to use from many threads. `longest`: for which context its model was trained."""

    def __init__(
        self, model_id: str, tokenizer: TextTokenizer, prompts: Prompter, scheduler: Scheduler, line: Line
    ) -> None:
        self.manner = Manner()
        self.longest: int | None = None
        self._model_id, self._tokenizer, self._prompts = model_id, tokenizer, prompts
        self._scheduler, self._line = scheduler, line
        self._lock = threading.Lock()
        self._priors: OrderedDict[_Key, tuple[float, ...]] = OrderedDict()

    def decide(self, inquiry: Inquiry, cancel: Cancel) -> Iterator[InquiryEvent]:
        """See `engines.base.Decides`. Raises what `LocalEngine.stream` does."""
        request = ChatRequest(inquiry.state)
        for need in sorted(request.needs & (MEDIA_NEEDS | {Need.FOREIGN})):
            raise UnsupportedRequest(request.name_of(need), f"{self._model_id} reads text only")
        if not inquiry.questions:
            raise InvalidRequest("questions", "there are none")
        puts = [
            put for index, question in enumerate(inquiry.questions) for put in self._puts(index, question)
        ]
        survey, cut = self._fitting(inquiry, puts)
        if cut:
            yield StateCut(cut)
        priors = self._without_state(puts, cancel) if self.manner.prior else None
        left = [sum(put.index == index for put in puts) for index in range(len(inquiry.questions))]
        found: list[list[tuple[float, ...]]] = [[] for _ in inquiry.questions]
        for number, logprobs in self._surveyed(survey, cancel):
            put, question = puts[number], inquiry.questions[puts[number].index]
            found[put.index].append(
                self._probabilities(question, put, logprobs, priors[number] if priors else None)
            )
            if len(found[put.index]) == left[put.index]:
                yield Answered(put.index, _mean(found[put.index]))
        yield survey.finished()

    # ---- how it is asked -----------------------------------------------------------------------------------

    def _puts(self, index: int, question: Question) -> list[_Put]:
        return [
            _Put(index, wording.text, tuple(self._reply(reply) for reply in wording.replies))
            for wording in self._wordings(question)
        ]

    def _wordings(self, question: Question) -> list[Wording]:
        labels, form = by_labels(question), self.manner.form
        if form == "labels" or (form == "auto" and self._tells_apart(labels)):
            return [labels]
        found = codes(self._tokenizer, question.size)
        if found is None:
            return [labels]
        orders = min(self.manner.orders, question.size)
        return [by_codes(question, found, order * question.size // orders) for order in range(orders)]

    def _tells_apart(self, wording: Wording) -> bool:
        replies = tuple(self._reply(reply) for reply in wording.replies)
        different = len(set(replies)) == len(replies) and all(replies)
        return different and len(Branch((), replies).beginnings) <= _MOST_READ

    def _reply(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.continued(f" {text}"))

    def _reader(self, state: Sequence[Message], puts: Sequence[_Put]) -> SurveyReader:
        """Raises `InvalidRequest`, `TemplateError`."""
        head, _ = self._around(())
        shared, behind = self._around(state)
        texts = (self._tokenizer.guard(put.text) + behind for put in puts)
        tokens = [tuple(self._tokenizer.encode(text, follows=True)) for text in texts]
        if any(max(row) >= self._scheduler.vocab_size for row in (shared, *tokens)):
            raise InvalidRequest("messages", f"holds tokens that {self._model_id} has no weights for")
        branches = [Branch(its, put.replies) for its, put in zip(tokens, puts, strict=True)]
        return SurveyReader(shared, branches, head)

    def _around(self, state: Sequence[Message]) -> tuple[list[int], str]:
        """Before a question as tokens, and the text behind it."""
        thoughtless = ReasoningOptions(enabled=False)
        request = ChatRequest(asked(state, PLACE), reasoning=thoughtless, continue_final=True)
        return self._prompts.around(request, PLACE)

    # ---- what has room -------------------------------------------------------------------------------------

    def _fitting(self, inquiry: Inquiry, puts: Sequence[_Put]) -> tuple[SurveyReader, int]:
        """What is asked of the state, and how many tokens were cut out of that. Raises `ContextOverflow`."""
        window = self._scheduler.context_window_size
        whole = survey = self._reader(inquiry.state, puts)
        share = 1.0
        for _ in range(_CUTS if inquiry.truncation == "middle" else 0):
            if survey.most <= window:
                break
            share *= (window - PAGE_SIZE) / survey.most
            shorter = _shortened(inquiry.state, share)
            if shorter is None:
                break
            survey = self._reader(shorter, puts)
        if survey.most > window:
            raise ContextOverflow(whole.most, window, self.longest)
        return survey, whole.longest - survey.longest

    # ---- what is found -------------------------------------------------------------------------------------

    def _without_state(self, puts: Sequence[_Put], cancel: Cancel) -> Sequence[tuple[float, ...]]:
        """What the model says to each where it is told nothing; asked once."""
        keys = [(put.text, put.replies) for put in puts]
        with self._lock:
            known = {key: self._priors[key] for key in keys if key in self._priors}
            for key in known:
                self._priors.move_to_end(key)
        missing = list({key: put for key, put in zip(keys, puts, strict=True) if key not in known}.values())
        if missing:
            for number, logprobs in self._surveyed(self._reader((), missing), cancel):
                key = missing[number].text, missing[number].replies
                known[key] = logprobs
                self._remember(key, logprobs)
        return [known[key] for key in keys]

    def _remember(self, key: _Key, logprobs: tuple[float, ...]) -> None:
        with self._lock:
            self._priors[key] = logprobs
            while len(self._priors) > _KNOWN:
                self._priors.popitem(last=False)

    def _probabilities(
        self, question: Question, put: _Put, logprobs: Sequence[float], prior: Sequence[float] | None
    ) -> tuple[float, ...]:
        scores = _apart(put.replies, logprobs)
        if prior is not None:
            scores = [
                score - before for score, before in zip(scores, _apart(put.replies, prior), strict=True)
            ]
        temperature = self.manner.temperatures[type(question)]
        highest = max(scores)
        weights = [math.exp((score - highest) / temperature) for score in scores]
        total = math.fsum(weights)
        return tuple(weight / total for weight in weights)

    def _surveyed(self, survey: SurveyReader, cancel: Cancel) -> Iterator[Weighed]:
        """Of each prompt, by its number, the log probabilities of its replies."""
        left = threading.Event()
        job = survey.job(lambda: left.is_set() or cancel.is_set())
        with self._line.standing(cancel, job):
            self._scheduler.submit(job)
            try:
                yield from survey.told(cancel, self._scheduler)
            finally:
                left.set()


def _apart(replies: _Replies, logprobs: Sequence[float]) -> list[float]:
    """Log probabilities of each reply and no longer one: "good" is not the beginning of "good enough"."""
    known = dict(zip(replies, logprobs, strict=True))

    def own(reply: tuple[int, ...]) -> float:
        longer = [one for one in known if len(one) > len(reply) and one[: len(reply)] == reply]
        next_ones = [one for one in longer if not any(one != other == one[: len(other)] for other in longer)]
        share = math.fsum(math.exp(known[one] - known[reply]) for one in next_ones)
        return known[reply] + math.log(max(1 - share, _LEAST))

    return [own(reply) for reply in replies]


def _mean(rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(math.fsum(column) / len(rows) for column in zip(*rows, strict=True))


def _shortened(state: Sequence[Message], share: float) -> tuple[Message, ...] | None:
    """About that `share` of it, for its longest message loses its middle; None where that is not enough."""
    number = max(range(len(state)), key=lambda number: len(state[number].text), default=None)
    if number is None:
        return None
    text = state[number].text
    lost = math.ceil(sum(len(message.text) for message in state) * (1 - share)) + len(_CUT)
    if lost >= len(text):
        return None
    half, kept = (len(text) - lost) // 2, len(text) - lost
    cut = Message(state[number].role, text[: kept - half] + _CUT + text[len(text) - half :])
    return (*state[:number], cut, *state[number + 1 :])
