"""Typed questions on the demo model: the same numbers however they are asked, and better than chance."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.tvm.engine import open_model
from edge_router.questions.inquiry import Answered, Inquiry
from edge_router.questions.question import Choice, Question, Scale, YesNo

STATE = (
    "Peter ordered a red guitar on Monday. It will be sent to Lisbon, and he cannot wait to play it. " * 12
)
QUESTIONS: Sequence[Question] = (
    YesNo(None, "Is this about an instrument?"),
    Choice(
        None, "Which city is mentioned?", ["Oslo", "Lisbon", "New York", "New York City", "Rio de Janeiro"]
    ),
    Scale(None, "How glad is he?", ["not at all", "a little", "very much"]),
    Choice(None, "Whose is it?", ["billing", "technical support", "sales"]),  # one begins a longer one
    *(YesNo(None, f"Is the number {number} mentioned?") for number in range(15)),
)


@pytest.fixture
def fresh(batch_model: Any) -> Iterator[LocalEngine]:
    with closing(opened(batch_model)) as engine:
        yield engine


def opened(model: Any, **sizes: int) -> LocalEngine:
    sizes = {"context_window_size": 1024, **sizes}
    return open_model(model.model_dir, model.library, model_id="m", threads=1, **sizes)


def asked(engine: LocalEngine, state: str, questions: Sequence[Question]) -> list[tuple[float, ...]]:
    events = engine.decide(Inquiry(state, questions), threading.Event())
    found = {event.index: event.probabilities for event in events if isinstance(event, Answered)}
    return [found[index] for index in range(len(questions))]


def test_alone_together_and_from_what_was_kept_the_numbers_are_the_same(
    fresh: LocalEngine, batch_model: Any
) -> None:
    together = asked(fresh, STATE, QUESTIONS)
    for probabilities in together:
        assert min(probabilities) >= 0 and math.fsum(probabilities) == pytest.approx(1, abs=1e-12)
    again = asked(fresh, STATE, QUESTIONS[::-1])[::-1]
    longer = STATE + " And then he was glad."
    grown = asked(fresh, longer, QUESTIONS[:3])
    with closing(opened(batch_model, prefill_chunk_size=128)) as other:
        alone = [asked(other, STATE, [question])[0] for question in QUESTIONS[:5]]
        assert grown == [pytest.approx(row, abs=1e-5) for row in asked(other, longer, QUESTIONS[:3])]
    assert again == [pytest.approx(row, abs=1e-5) for row in together]
    assert alone == [pytest.approx(row, abs=1e-5) for row in together[:5]]


def test_it_finds_the_city_and_the_guitar(fresh: LocalEngine) -> None:
    city, thing = asked(
        fresh,
        STATE,
        [QUESTIONS[1], Choice(None, "What was ordered?", ["a lamp", "a guitar", "a bicycle"])],
    )
    assert max(city) == city[1] > 0.5
    assert max(thing) == thing[1]


def test_more_questions_than_the_cache_has_room_for(batch_model: Any) -> None:
    """What of a batch has no room comes in the next one."""
    with (
        closing(opened(batch_model, context_window_size=512)) as small,
        closing(opened(batch_model)) as large,
    ):
        questions = [YesNo(None, f"Is the number {number} mentioned?") for number in range(64)]
        tight = asked(small, STATE, questions)
        assert tight == [pytest.approx(row, abs=1e-5) for row in asked(large, STATE, questions)]


def test_random_weights_are_asked_as_well(tmp_path: Path, batch_model: Any) -> None:
    from edge_router.compile.random_model import draw_model
    from edge_router.compile.weights.package import PackageWindows

    config = batch_model.config["model_config"] | {"model_type": batch_model.config["model_type"]}
    draw_model(tmp_path, config, batch_model.model_dir, PackageWindows(1024, 512))
    engine = open_model(tmp_path, batch_model.library, model_id="m", threads=1, context_window_size=1024)
    with closing(engine):
        for probabilities in asked(engine, STATE, QUESTIONS):
            assert math.fsum(probabilities) == pytest.approx(1, abs=1e-12)
