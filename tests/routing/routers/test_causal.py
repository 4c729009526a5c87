"""The weak model as a router: how its score comes about, and when there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.api.client import Controller
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Prompt
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import ArtifactMissing, ContextOverflow, InvalidRouter
from edge_router.routing.routers.causal import CausalRouter
from edge_router.types import Cancel


class JudgingEngine(ScriptedEngine):
    """Weighs the five grades as it is told, and remembers what it was asked; a word is a token."""

    def __init__(self, *logits: float, window: int | None = None) -> None:
        super().__init__(model_id="small", context_window_size=window, serves=())
        self.logits, self.weighed = logits, list[ChatRequest]()

    def score_choices(self, prompt: Prompt, replies: Sequence[str], cancel: Cancel) -> tuple[float, ...]:
        assert list(replies) == ["1", "2", "3", "4", "5"]
        window = self.capabilities.context_window
        if window is not None and prompt.count is not None and prompt.count >= window:
            raise ContextOverflow(prompt.count, window)
        self.weighed.append(prompt.request)
        return self.logits


FLAT = (1.0,) * 5


def router(engine: ScriptedEngine) -> CausalRouter:
    made = CausalRouter()
    made.use_weak(lambda: engine)
    return made


def turn(text: str, role: str = "user") -> Message:
    return Message(role, text)


@given(st.lists(st.floats(-1e4, 1e4), min_size=5, max_size=5))
def test_the_score_is_the_expected_grade(logits: list[float]) -> None:
    score = router(JudgingEngine(*logits)).score([turn("hello")])
    weights = np.exp(np.array(logits) - max(logits))
    assert 0 <= score <= 1 and score == pytest.approx(float(weights @ np.arange(5) / weights.sum() / 4))
    moved = router(JudgingEngine(*(value + 7 for value in logits))).score([turn("hello")])
    assert moved == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(("grade", "score"), [(0, 0.0), (2, 0.5), (4, 1.0)])
def test_a_grade_that_is_certain(grade: int, score: float) -> None:
    logits = [50.0 if place == grade else -50.0 for place in range(5)]
    assert router(JudgingEngine(*logits)).score([turn("hello")]) == pytest.approx(score)


def test_the_conversation_comes_first_so_that_reading_it_serves_the_answer_too() -> None:
    engine = JudgingEngine(*FLAT)
    conversation = [turn("be brief", "system"), turn("why?"), turn("so.", "assistant"), turn("and then?")]
    router(engine).score(conversation)
    assert list(engine.weighed[0].messages[:-1]) == conversation
    assert engine.weighed[0].messages[-1].role == "user"


def test_a_book_is_judged_by_its_gist() -> None:
    engine = JudgingEngine(*FLAT, window=120)
    assert router(engine).score([turn("It was a dark night. " * 5000 + "Who did it?")]) == 0.5
    gist, _ = engine.weighed[0].messages
    assert gist.text.startswith("It was") and gist.text.endswith("Who did it?")
    with pytest.raises(ContextOverflow):
        router(JudgingEngine(*FLAT, window=3)).score([turn("hi")])


def test_without_a_weak_model_it_says_so() -> None:
    with pytest.raises(InvalidRouter, match="weak model's own judgement"):
        CausalRouter().score([turn("hi")])


def test_an_engine_that_cannot_weigh_is_named() -> None:
    class Mute:
        model_id = "mute"

    made = CausalRouter()
    made.use_weak(Mute)  # type: ignore[arg-type]
    with pytest.raises(InvalidRouter, match="the engine of mute"):
        made.score([turn("hi")])


@pytest.mark.parametrize(("hard", "model"), [(9.0, "big"), (-9.0, "small")])
def test_a_controller_lets_its_weak_model_judge(hard: float, model: str) -> None:
    weak = JudgingEngine(0.0, 0.0, 0.0, hard, hard)
    with Controller(weak=weak, strong=ScriptedEngine(model_id="big")) as controller:
        reply = controller.chat.completions.create(model="router-causal_llm-0.5", messages="hello")
        assert "router-causal_llm" in controller.model_names()
    assert reply.model == model and reply.decision.router == "causal_llm"
    assert len(weak.weighed) == 1 and len(weak.calls) == (model == "small")


def test_a_weak_model_that_is_not_built_is_told() -> None:
    settings = {"weak__build": False, "router__name": "causal_llm"}
    with Controller(strong=ScriptedEngine(), **settings) as controller, pytest.raises(ArtifactMissing):  # type: ignore[arg-type]
        controller.route("hello")
