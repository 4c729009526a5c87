"""An endpoint asked how hard a question is: what it is sent, what stays, who scores in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_router.api.client import Controller
from edge_router.chat.message import Image, Message, Text
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.control.router_judge import gist
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import InternalError, InvalidRouter, StrongFailed, Withheld
from edge_router.questions.inquiry import Answered, Declined, InquiryEvent
from edge_router.questions.question import Question, Scale
from edge_router.routing.routers import routers
from edge_router.routing.routers.base import checked_score
from edge_router.routing.routers.controls import LengthRouter
from edge_router.routing.routers.decision import EndpointRouter
from edge_router.routing.routers.text import LONGEST
from edge_router.types import Cancel

HELLO = ChatRequest((Message("user", "hello"),))
KEY = "My key is ghp_" + "A1b2C3d4E5" * 3 + "f6G7h8"
SAID = Answered(0, (0, 0, 0, 0.4, 0.6))


@dataclass
class Judge:
    """Says that, or raises it."""

    says: InquiryEvent | Exception = SAID
    asked: list[tuple[ChatRequest, bool]] = field(default_factory=list)
    closed: bool = False

    def ask(
        self, request: ChatRequest, question: Question, cancel: Cancel, *, stays: bool
    ) -> Sequence[InquiryEvent]:
        assert isinstance(question, Scale)
        self.asked.append((request, stays))
        if isinstance(self.says, Exception):
            raise self.says
        return [self.says]

    def close(self) -> None:
        self.closed = True


class Learned(LengthRouter):
    default_threshold = 0.2

    def score(self, messages: object) -> float:
        return 0.6


def router(judge: Judge, at: float | None = None) -> EndpointRouter:
    made = EndpointRouter(Learned, 60.0, at)
    made.use_judge(judge)
    return made


def test_the_score_is_the_expected_level_and_the_whole_request_is_shown() -> None:
    judge = Judge()
    made = router(judge)
    assert checked_score(made, HELLO, stays=True) == pytest.approx(0.9)
    assert made.score(HELLO.messages) == pytest.approx(0.9)
    assert made.score_texts(["a", "b"]) == pytest.approx([0.9, 0.9])
    assert [stays for _, stays in judge.asked] == [True, False, False, False]
    assert judge.asked[0][0] == HELLO
    made.close()
    assert judge.closed


def test_what_does_not_answer_is_scored_by_the_learned_router() -> None:
    for says in (Withheld(("a key",)), StrongFailed("there", 500, "no"), Declined(0)):
        assert router(Judge(says)).score(HELLO.messages) == pytest.approx(1 - 0.4 * 0.5 / 0.8), says
        # Onto the threshold that was calibrated, where one was.
        assert router(Judge(says), 0.9).score(HELLO.messages) == pytest.approx(1 - 0.4 * 0.1 / 0.8), says


def test_a_mistake_of_ours_is_not_hidden() -> None:
    with pytest.raises(InternalError):
        router(Judge(InternalError("router", "TypeError", "x"))).score(HELLO.messages)
    with pytest.raises(InvalidRouter, match="endpoint"):
        EndpointRouter(Learned).score(HELLO.messages)


def test_the_configuration_says_whom_the_router_asks() -> None:
    there = Config().replace(**{"judge.base_url": "https://example.com/v1", "judge.model": "m"})
    assert isinstance(routers(config=there).get("decision")(), EndpointRouter)
    assert not isinstance(routers().get("decision")(), EndpointRouter)


def test_a_gist_is_bounded_and_text_alone() -> None:
    messages = (
        Message("system", "secret recipe"),
        Message("user", (Text("What is this?"), Image("data:image/png;base64,AAAA"))),
    )
    assert gist(messages) == "What is this?"
    assert len(gist((Message("user", "x" * 100_000),))) <= LONGEST


def test_nothing_is_sent_out_where_the_score_changes_nothing(tmp_path: Path) -> None:
    """Private, offline, held by a rule or the guard, or nobody stronger to ask."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "r"\nwords = ["salary"]\nthen = "local_only"\n', "utf-8")
    plain, ruled = Config(), Config().replace(**{"rules.file": str(rules)})
    offline = Config().replace(offline=True)
    for config, text, private, has_strong, stays in (
        (plain, "hello", False, True, False),
        (plain, "hello", True, True, True),
        (offline, "hello", False, True, True),
        (ruled, "my salary", False, True, True),
        (plain, KEY, False, True, True),
        (plain, "hello", False, False, True),
    ):
        judge = Judge()
        strong = ScriptedEngine(model_id="big") if has_strong else None
        weak = ScriptedEngine(model_id="small", serves=())
        with Controller(config, weak=weak, strong=strong, router=router(judge)) as controller:
            controller.chat.completions.create(
                messages=[{"role": "user", "content": text}], model="auto", private=private
            )
        assert [found for _, found in judge.asked] == [stays], (text, private, has_strong)
        assert judge.closed
