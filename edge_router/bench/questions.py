"""What typed questions cost the weak model, beside reading all of it once and beside the same as JSON.

The questions' answers without a state are known from a round before, as they are to who asks them of many
states; the state is new each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from edge_router.bench.weak_results import Measured
from edge_router.chat.events import Finished
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, QuestionsOutput, SamplingParams
from edge_router.config import Config
from edge_router.engines import resolved
from edge_router.engines.base import Decides, Engine, answered
from edge_router.errors import EngineUnavailable
from edge_router.paths import Paths
from edge_router.questions.in_words import in_words
from edge_router.questions.inquiry import Inquiry
from edge_router.questions.question import Choice, Question, Scale, YesNo
from edge_router.types import Progress

COUNT = 20
_STATE = 2000  # tokens, about
_SENTENCE = "The customer wrote again that the {thing} which came on day {day} is {state}. "
_THINGS = ("lamp", "guitar", "camera", "kettle", "tent", "printer", "clock")
_STATES = ("broken", "late", "fine", "too small", "not what was ordered")
_TOPICS = ("refund", "repair", "parcel", "colour", "price", "warranty", "address")
_SHORT = "Order {number}: the kettle that you sent me leaks, and I would like to have my money back soon."


@dataclass(frozen=True, slots=True)
class QuestionsBench:
    """Seconds. `read`: state and questions as one prompt; `asked`: the answers; `written`: the same as JSON.

    `ratio` and `quicker` are medians of rounds: `asked` over `read`, `written` over `asked`. `first`: with
    questions that were never asked before. The `short` ones are of one yes or no over a short text.
    """

    model: str
    state_tokens: int
    questions: int
    question_tokens: int
    read: Measured
    asked: Measured
    first: float
    written: Measured
    ratio: Measured
    quicker: Measured
    short_tokens: int
    short_read: Measured
    short_asked: Measured
    short_ratio: Measured

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def bench_questions(config: Config, paths: Paths, *, progress: Progress, rounds: int = 5) -> QuestionsBench:
    """Raises what starting the engine raises, `EngineUnavailable` for one that does not answer questions."""
    from edge_router.engines import load_weak, weak_engines

    engine = load_weak(weak_engines(), resolved(config), paths, progress)
    try:
        if not isinstance(engine, Decides) or not engine.capabilities.decides:
            raise EngineUnavailable(config.weak.engine, "it answers no typed questions by itself")
        return _measure(_Asker(engine, engine), progress, rounds)
    finally:
        engine.close()


class _Asker:
    """Asks and takes the time."""

    def __init__(self, engine: Engine, decides: Decides) -> None:
        self.engine, self._decides = engine, decides

    def ask(self, state: str, questions: Sequence[Question]) -> tuple[float, Finished]:
        begin = time.perf_counter()
        *_, last = self._decides.decide(Inquiry(state, questions), threading.Event())
        assert isinstance(last, Finished)
        return time.perf_counter() - begin, last

    def read(self, text: str) -> float:
        """Seconds to read what is not known yet, up to the choice of the next token."""
        request = ChatRequest((), sampling=SamplingParams(temperature=0), max_tokens=1, raw_prompt=text)
        *_, last = answered(self.engine, request, threading.Event())
        assert isinstance(last, Finished) and last.timings is not None
        return last.timings.prefill_s or 0.0

    def write(self, state: str, questions: Sequence[Question]) -> float:
        request = ChatRequest((Message("user", state),), output=QuestionsOutput(tuple(questions)))
        begin = time.perf_counter()
        list(answered(self.engine, in_words(request), threading.Event()))
        return time.perf_counter() - begin

    def count(self, text: str) -> int:
        return self.engine.prepare(ChatRequest((), raw_prompt=text)).count or 0


def _measure(asker: _Asker, progress: Progress, rounds: int) -> QuestionsBench:
    questions, short = _questions(COUNT), YesNo(None, "Does the writer want a refund?")
    first, last = asker.ask(_state(asker, 0), questions)
    asker.ask(_SHORT.format(number=0), [short])
    rows: list[tuple[float, ...]] = []
    with progress.step("measure", total=rounds) as step:
        for number in range(1, rounds + 1):
            state = _state(asker, number)
            text = "".join([state, *(f"\n\n{question.instructions}\nAnswer:" for question in questions)])
            told = f"{number} {_SHORT.format(number=number)}\n\n{short.instructions}"
            asked, last = asker.ask(state, questions)
            short_asked, short_last = asker.ask(_SHORT.format(number=number), [short])
            tokens = short_last.usage.prompt_tokens if short_last.usage else 0
            missing = tokens - asker.count(told)
            rows.append(
                (
                    asker.read(_as_long_as(asker, f"{number + rounds} {text}", last)),
                    asked,
                    asker.write(_state(asker, -number), questions),
                    asker.read(told + " so" * max(missing, 0)),
                    short_asked,
                    float(tokens),
                )
            )
            step.advance()
    read, asked_s, written, short_read, short_asked_s, short_tokens = map(list, zip(*rows, strict=True))
    state_tokens = asker.count(_state(asker, 1))
    short_ratio = [mine / other for mine, other in zip(short_asked_s, short_read, strict=True)]
    return QuestionsBench(
        model=asker.engine.model_id,
        state_tokens=state_tokens,
        questions=len(questions),
        question_tokens=(last.usage.prompt_tokens if last.usage else 0) - state_tokens,
        read=Measured.of(read),
        asked=Measured.of(asked_s),
        first=first,
        written=Measured.of(written),
        ratio=Measured.of([mine / other for mine, other in zip(asked_s, read, strict=True)]),
        quicker=Measured.of([other / mine for mine, other in zip(asked_s, written, strict=True)]),
        short_tokens=int(short_tokens[-1]),
        short_read=Measured.of(short_read),
        short_asked=Measured.of(short_asked_s),
        short_ratio=Measured.of(short_ratio),
    )


def _as_long_as(asker: _Asker, text: str, last: Finished) -> str:
    """`text` with as many tokens as all that was read for the questions, templates included."""
    missing = (last.usage.prompt_tokens if last.usage else 0) - asker.count(text)
    return text + " so" * max(missing, 0)


def _state(asker: _Asker, number: int) -> str:
    """A text of its own for each number."""
    text = f"Letters of customer {number}. "
    sentence = asker.count(_SENTENCE.format(thing=_THINGS[0], day=10, state=_STATES[0]))
    for place in range(_STATE // sentence):
        day, thing, state = (number + place) % 28 + 1, _THINGS[place % 7], _STATES[(number + place) % 5]
        text += _SENTENCE.format(thing=thing, day=day, state=state)
    return text


def _questions(count: int) -> list[Question]:
    """Of all types, in turns."""
    found: list[Question] = []
    for number in range(count):
        topic = _TOPICS[number % len(_TOPICS)]
        if number % 3 == 0:
            found.append(YesNo(None, f"Is letter {number} about the {topic}?"))
        elif number % 3 == 1:
            options = ("billing", "technical", "sales", "delivery")
            found.append(Choice(None, f"Which team answers for the {topic} of letter {number}?", options))
        else:
            levels = ("low", "medium", "high")
            found.append(Scale(None, f"How urgent is the {topic} of letter {number}?", levels))
    return found
