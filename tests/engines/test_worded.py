"""Typed questions to an engine that only writes: a word with its log probabilities, or JSON for the rest."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping

import pytest

from edge_router.chat.events import Event, Finished, TextDelta, TokenLogprob, Usage
from edge_router.chat.message import Image, Message, Text
from edge_router.chat.request import ChatRequest, JsonOutput
from edge_router.engines.base import Capabilities, Prompt
from edge_router.engines.worded import by_logprobs
from edge_router.errors import Cancelled
from edge_router.prompts.decisions import asked
from edge_router.questions.inquiry import Answered, Inquiry
from edge_router.questions.question import Choice, Scale, YesNo
from edge_router.types import Cancel

YES_NO = YesNo(None, "Is it?")


class Telling:
    """Says a word whose likeliest tokens are `told`, and any JSON that is asked for."""

    model_id = "telling"
    capabilities = Capabilities()

    def __init__(self, told: Mapping[str, float]) -> None:
        self.told = told
        self.requests: list[ChatRequest] = []

    def prepare(self, request: ChatRequest) -> Prompt:
        return Prompt(request)

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        self.requests.append(prompt.request)
        if isinstance(prompt.request.output, JsonOutput):
            assert prompt.request.output.schema is not None
            members = prompt.request.output.schema["properties"]
            written = {name: {"probability": 0.75, "number": 2, "certainty": 0.75} for name in members}
            yield TextDelta(json.dumps(written))
        elif self.told:
            top = tuple(TokenLogprob(text, math.log(p), text.encode()) for text, p in self.told.items())
            yield TextDelta(top[0].token, (TokenLogprob(top[0].token, top[0].logprob, b"", top),))
        yield Finished("length", usage=Usage(10, 1))

    def close(self) -> None: ...


CASES = (
    (YES_NO, {"Yes": 0.5, " yes": 0.1, "No": 0.2, "Maybe": 0.1}, (0.25, 0.75), 1),
    (YES_NO, {"Yes": 0.9, "Hm": 0.1}, (0.1, 0.9), 1),  # no more than the least likely that is told
    (YES_NO, {"Well": 0.6, "Yes": 0.3, "No": 0.1}, (0.25, 0.75), 2),  # too little: in JSON
    (YES_NO, {}, (0.25, 0.75), 2),  # none told
    (
        Choice(None, "Which?", ["x", "y", "z"]),
        {"B": 0.6, " A": 0.3, "C": 0.1, "b": 0.0001},
        (0.3, 0.6, 0.1),
        1,
    ),
    (Scale(None, "How?", ["low", "high"]), {"B": 0.6, "A": 0.2}, (0.25, 0.75), 1),
    (Choice(None, "Which?", [f"{n}" for n in range(6)]), {"A": 1.0}, None, 1),  # more than are told
)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_word_answers_where_enough_of_it_is_told(number: int) -> None:
    question, told, expected, calls = CASES[number]
    engine = Telling(told)
    *answers, last = by_logprobs(engine, Inquiry("Some text.", [question]), threading.Event(), 5)
    (answer,) = answers
    assert isinstance(answer, Answered) and math.fsum(answer.probabilities) == pytest.approx(1)
    if expected is not None:
        assert answer.probabilities == pytest.approx(expected)
    assert len(engine.requests) == calls
    assert isinstance(last, Finished) and last.usage == Usage(10 * calls, calls)


def test_each_answer_has_its_question_s_index_and_cancelling_is_heard() -> None:
    engine, cancel = Telling({"Yes": 1.0}), threading.Event()
    questions = [Choice(None, "?", [f"{n}" for n in range(6)]), YES_NO, Scale(None, "How?", ["low", "high"])]
    stream = by_logprobs(engine, Inquiry("Some text.", questions), cancel, 5)
    found = {event.index for event in stream if isinstance(event, Answered)}
    assert found == {0, 1, 2}
    stream = by_logprobs(engine, Inquiry("Some text.", [YES_NO, YES_NO]), cancel, 5)
    next(stream)
    cancel.set()
    with pytest.raises(Cancelled):
        next(stream)


def test_pictures_stay_in_what_is_asked() -> None:
    picture = Image("data:image/png;base64,AAAA")
    [user, _] = asked((Message("user", (picture, Text("Look."))),), "Is it?")
    assert user.parts == (picture, Text("Look."), Text("Is it?"))
    assert asked((Message("user", "Look."),), "Is it?")[0].text == "Look.\n\nIs it?"
