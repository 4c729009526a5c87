"""The weak model asked how hard a question is: its word where it comes in time, else a learned router's."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from edge_router.chat.events import Finished
from edge_router.chat.message import Image, Message
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import Cancelled, GenerationFailed, InvalidRequest, InvalidRouter
from edge_router.questions.inquiry import Answered, Inquiry, InquiryEvent
from edge_router.questions.question import Scale
from edge_router.routing.routers.controls import LengthRouter
from edge_router.routing.routers.decision import DecisionRouter, moved
from edge_router.types import Cancel

HELLO = (Message("user", "hello"),)


class Deciding(ScriptedEngine):
    """Gives the hardest level that probability, the easiest the rest; or raises it."""

    def __init__(self, yes: float | Exception) -> None:
        super().__init__(model_id="small", context_window_size=1000)
        self.yes, self.asked = yes, list[Inquiry]()

    def decide(self, inquiry: Inquiry, cancel: Cancel) -> Iterator[InquiryEvent]:
        self.asked.append(inquiry)
        if isinstance(self.yes, Exception):
            raise self.yes
        if self.yes < 0:  # never comes
            while not cancel.is_set():
                threading.Event().wait(0.005)
            raise Cancelled
        yield Answered(0, (1 - self.yes, 0, 0, 0, self.yes))
        yield Finished("stop")


class Learned(LengthRouter):
    default_threshold = 0.2

    def score(self, messages: object) -> float:
        return 0.6


def router(engine: ScriptedEngine, limit_s: float = 60.0) -> DecisionRouter:
    made = DecisionRouter(Learned, limit_s)
    made.use_weak(lambda: engine)
    return made


def test_the_score_is_the_expected_level() -> None:
    engine = Deciding(0.3)
    talk = (Message("system", "Be brief."), *HELLO)
    assert router(engine).score(talk) == pytest.approx(0.3)
    (inquiry,) = engine.asked
    assert inquiry.state == talk and inquiry.truncation == "middle"
    assert len(inquiry.questions) == 1 and isinstance(inquiry.questions[0], Scale)
    assert router(engine).score_texts(["a", "b"]) == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize(
    "yes", [-1, GenerationFailed("x", "broke"), InvalidRequest("messages", "a picture")], ids=str
)
def test_what_comes_too_late_or_not_at_all_is_said_by_the_learned_router(yes: float | Exception) -> None:
    made = router(Deciding(yes), limit_s=0.02)
    onto = made.default_threshold
    assert made.score((Message("user", (Image("data:,"),)),)) == pytest.approx(1 - 0.4 * (1 - onto) / 0.8)


def test_on_either_side_of_its_own_threshold_a_moved_score_stays_there() -> None:
    for threshold in (0.0, 0.1, 0.5, 1.0):
        for onto in (0.2, 0.5, 0.9):
            scores = [step / 50 for step in range(51)]
            found = [moved(score, threshold, onto) for score in scores]
            assert found == sorted(found) and found[0] >= 0 and found[-1] <= 1
            assert [each >= onto - 1e-12 for each in found] == [score >= threshold for score in scores]


def test_without_a_model_that_decides_it_says_so() -> None:
    with pytest.raises(InvalidRouter, match="weak model's own judgement"):
        DecisionRouter(Learned).score(HELLO)
    with pytest.raises(InvalidRouter, match="answers no typed questions"):
        router(ScriptedEngine(judge=None)).score(HELLO)
