"""What typed questions cost the weak model, beside reading all of it once and beside the same as JSON.

The questions' answers without a state are known from a round before, as they are to who asks them of many
states; the state is new each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict

from edge_router.bench.weak_results import MedianRange
from edge_router.chat.events import Finished
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, QuestionsOutput, SamplingParams
from edge_router.config.settings import Config
from edge_router.engines import resolved
from edge_router.engines.base import Decides, Engine, answered
from edge_router.errors import EngineUnavailable
from edge_router.questions.in_words import in_words
from edge_router.questions.inquiry import Inquiry
from edge_router.questions.question import Choice, Question, Scale, YesNo
from edge_router.records import dataclass
from edge_router.system.paths import Paths
from edge_router.types import Progress

COUNT = 20
STATE = 2000  # tokens, about
_SENTENCE = "The customer wrote again that the {thing} which came on day {day} is {state}. "
_THINGS = ("lamp", "guitar", "camera", "kettle", "tent", "printer", "clock")
_STATES = ("broken", "late", "fine", "too small", "not what was ordered")
_TOPICS = ("refund", "repair", "parcel", "colour", "price", "warranty", "address")
_SHORT = "Order {number}: the kettle that you sent me leaks, and I would like to have my money back soon."


@dataclass(frozen=True, slots=True)
class QuestionsBench:
    """Seconds. `read`: state and questions as one prompt; `asked`: the answers; `written`: the same as JSON.

    The `kept_` ones are of a state that was read before. `ratio` is `asked` over `read`, `quicker` is
    `written` over `asked`. `first`: with questions that were never asked before. The `short_` ones are of one
    yes or no over a short text.
    """

    model: str
    state_tokens: int
    questions: int
    question_tokens: int
    read: MedianRange
    asked: MedianRange
    first: float
    written: MedianRange
    ratio: MedianRange
    quicker: MedianRange
    kept_asked: MedianRange
    kept_written: MedianRange
    kept_quicker: MedianRange
    short_tokens: int
    short_read: MedianRange
    short_asked: MedianRange
    short_ratio: MedianRange

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def bench_questions(
    config: Config,
    paths: Paths,
    *,
    progress: Progress,
    rounds: int = 5,
    count: int = COUNT,
    state_tokens: int = STATE,
) -> QuestionsBench:
    """Raises what starting the engine raises, `EngineUnavailable` for one that does not answer questions."""
    from edge_router.engines import load_weak, weak_engines

    engine = load_weak(weak_engines(), resolved(config), paths, progress)
    try:
        if not isinstance(engine, Decides) or not engine.capabilities.decides:
            raise EngineUnavailable(config.weak.engine, "it answers no typed questions by itself")
        return _measure(_Asker(engine, engine, state_tokens), _questions(count), progress, rounds)
    finally:
        engine.close()


class _Asker:
    """Asks and takes the time."""

    def __init__(self, engine: Engine, decides: Decides, state_tokens: int) -> None:
        self.engine, self._decides, self._state_tokens = engine, decides, state_tokens

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

    def filled(self, text: str, tokens: int) -> str:
        """`text` made as long as all that was read for questions, the template included."""
        return text + " so" * max(tokens - self.count(text), 0)

    def state(self, number: int) -> str:
        """A text of its own for each number."""
        text = f"Letters of customer {number}. "
        sentence = self.count(_SENTENCE.format(thing=_THINGS[0], day=10, state=_STATES[0]))
        for place in range(self._state_tokens // sentence):
            day, thing, state = (number + place) % 28 + 1, _THINGS[place % 7], _STATES[(number + place) % 5]
            text += _SENTENCE.format(thing=thing, day=day, state=state)
        return text

    def count(self, text: str) -> int:
        return self.engine.prepare(ChatRequest((), raw_prompt=text)).count or 0


def _measure(asker: _Asker, questions: Sequence[Question], progress: Progress, rounds: int) -> QuestionsBench:
    short = YesNo(None, "Does the writer want a refund?")
    first, last = asker.ask(asker.state(0), questions)
    asker.ask(_SHORT.format(number=0), [short])
    rows: dict[str, list[float]] = {}
    short_tokens = 0
    with progress.step("measure", total=rounds) as step:
        for number in range(1, rounds + 1):
            state, other = asker.state(number), asker.state(-number)
            asked, last = asker.ask(state, questions)
            text = "".join([state, *(f"\n\n{question.instructions}\nAnswer:" for question in questions)])
            told = _SHORT.format(number=number)
            short_asked, short_last = asker.ask(told, [short])
            short_tokens = _tokens(short_last)
            short_text = asker.filled(f"{number} {told}\n\n{short.instructions}", short_tokens)
            row = {
                "asked": asked,
                "read": asker.read(asker.filled(f"{number + rounds} {text}", _tokens(last))),
                "written": asker.write(other, questions),
                "kept_asked": asker.ask(state, questions)[0],
                "kept_written": asker.write(other, questions),
                "short_asked": short_asked,
                "short_read": asker.read(short_text),
            }
            row |= {
                "ratio": asked / row["read"],
                "quicker": row["written"] / asked,
                "kept_quicker": row["kept_written"] / row["kept_asked"],
                "short_ratio": short_asked / row["short_read"],
            }
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
            step.advance()
    state_tokens = asker.count(asker.state(1))
    return QuestionsBench(
        model=asker.engine.model_id,
        state_tokens=state_tokens,
        questions=len(questions),
        question_tokens=_tokens(last) - state_tokens,
        first=first,
        short_tokens=short_tokens,
        **{name: MedianRange.of(values) for name, values in rows.items()},
    )


def _tokens(last: Finished) -> int:
    return last.usage.prompt_tokens if last.usage else 0


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
