"""The router decision over a real endpoint, which is another of ours: either protocol, here and elsewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_router.api.client import Controller
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.control.egress import Egress
from edge_router.control.router_judge import RouterJudge
from edge_router.engines.fleet.breaker import IN_A_ROW
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import EngineError, EngineUnavailable, StrongError, StrongTimeout, Withheld
from edge_router.guard.inspection import Guard
from edge_router.questions.inquiry import Answered, Inquiry
from edge_router.questions.question import Question
from edge_router.routing.routers.decision import HARD

KEY = "My key is ghp_" + "A1b2C3d4E5" * 3 + "f6G7h8"
NEVER = threading.Event()


def hard(inquiry: Inquiry, question: Question) -> Sequence[float]:
    """As hard as it says it is."""
    return (0, 0, 0, 0, 1) if "hard" in str(inquiry.state) else (1, 0, 0, 0, 0)


def judging(**fields: Any) -> ScriptedEngine:
    return ScriptedEngine(model_id="small", serves=(), judge=hard, **fields)


def configured(url: str, **more: object) -> Config:
    named = {"base_url": f"{url}/v1", "model": "weak", "timeout_s": 60.0, **more}
    others = {"router.name": "decision", "router.threshold": 0.5}
    return Config().replace(**others, **{f"judge.{name}": value for name, value in named.items()})


def request(text: str, **more: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **more)


def elsewhere(config: Config, **more: Any) -> RouterJudge:
    """At this machine's address, under a name that is taken for another one's."""
    guard = Guard(config.guard)
    return RouterJudge(config, Egress(guard), resolve=lambda host: ["192.0.2.1"], **more)


def ask(judge: RouterJudge, asked: ChatRequest, *, stays: bool = False) -> Any:
    return next(iter(judge.ask(asked, HARD, NEVER, stays=stays)))


@pytest.mark.parametrize("protocol", ["decisions", "systemone"])
def test_an_endpoint_of_either_protocol_routes(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "k" * 20)
    served = serve(weak=judging(), api_key="k" * 20)
    config = configured(served.url, protocol=protocol, api_key_env="JUDGE_KEY")
    weak, strong = ScriptedEngine(model_id="little"), ScriptedEngine(model_id="big")
    with Controller(config, weak=weak, strong=strong) as controller:
        for text, private, model, score in (
            ("hello", False, "weak", 0.0),
            ("a hard one", False, "strong", 1.0),
            ("a hard one", True, "weak", 1.0),  # on this machine it is asked all the same
            (f"{KEY}, hard", False, "weak", 1.0),
        ):
            reply = controller.chat.completions.create(
                messages=[{"role": "system", "content": "a recipe"}, {"role": "user", "content": text}],
                model="auto",
                private=private,
            )
            assert (reply.decision.model, reply.decision.router) == (model, "decision"), (text, private)
            assert reply.decision.score == pytest.approx(score), (text, private)
        assert controller.router("decision").score_texts(["x", "hard"]) == pytest.approx([0, 1])
    assert len(served.weak.inquiries) == 6
    assert all("recipe" not in str(each.state) for each in served.weak.inquiries)


def test_elsewhere_goes_only_what_may_leave(serve: Callable[..., Any]) -> None:
    served = serve(weak=judging())
    config = configured(served.url.replace("127.0.0.1", "localhost")).replace(**{"guard.emails": "redact"})
    judge = elsewhere(config)
    assert not judge.here and ask(judge, request("a hard one")) == Answered(0, (0, 0, 0, 0, 1))
    assert ask(judge, request("write to ann@example.com")) == Answered(0, (1, 0, 0, 0, 0))
    with pytest.raises(StrongError, match="private"):
        ask(judge, request("a hard one", private=True))
    with pytest.raises(EngineUnavailable, match="must not leave"):
        ask(judge, request("a hard one"), stays=True)
    # The end of the key would be cut off: what is looked through is what was asked.
    for text in (KEY, "x" * 5000 + KEY + "x" * 50_000):
        with pytest.raises(Withheld):
            ask(judge, request(text))
    judge.close()
    offline = elsewhere(config.replace(offline=True))
    with pytest.raises(StrongError, match="switched off"):
        ask(offline, request("a hard one"))
    offline.close()
    states = [str(each.state) for each in served.weak.inquiries]
    assert len(states) == 2 and "ann@" not in states[1] and "EMAIL_1" in states[1]


def test_on_this_machine_no_network_is_needed(serve: Callable[..., Any]) -> None:
    served = serve(weak=judging())
    config = configured(served.url.replace("127.0.0.1", "localhost"))
    judge = RouterJudge(config.replace(offline=True), Egress(Guard(config.guard)))
    assert judge.here and ask(judge, request(KEY, private=True), stays=True)
    judge.close()
    passed_on = RouterJudge(config.replace(**{"judge.model": "clef:27b-cloud"}), Egress(Guard(config.guard)))
    assert not passed_on.here, "Ollama sends it to its makers"
    passed_on.close()
    # A server may listen on one of both loopbacks.
    ways = RouterJudge(config, Egress(Guard(config.guard)), resolve=lambda host: ["127.0.0.9", "127.0.0.1"])
    assert ways.here and ask(ways, request("x"))
    ways.close()


def test_one_that_does_not_answer_is_left_alone_which_is_told_as_its_first_failure_is(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    served = serve(weak=judging(before_verdicts=[gate]))
    now = [0.0]
    config = configured(served.url)
    judge = RouterJudge(config, Egress(Guard(config.guard)), clock=lambda: now[0])
    late = threading.Event()
    late.set()
    with caplog.at_level(logging.WARNING):
        for _ in range(IN_A_ROW):
            with pytest.raises(StrongTimeout):
                list(judge.ask(request("x"), HARD, late, stays=False))
        with pytest.raises(EngineUnavailable, match="left alone"):
            ask(judge, request("x"))
    ends = ("a learned router has scored the query", "meanwhile a learned router scores queries")
    told = [each.message for each in caplog.records if "learned router" in each.message]
    assert [message.endswith(end) for message, end in zip(told, ends, strict=True)] == [True, True]
    gate.set()
    now[0] = 60.0
    assert ask(judge, request("x"))
    judge.close()


def test_too_late_and_gone_a_learned_router_scores(serve: Callable[..., Any], tmp_path: Path) -> None:
    served = serve(weak=judging(before_verdicts=[threading.Event()]))  # which nobody sets
    config = configured(served.url, timeout_s=0.01)
    prompts = ["hello", "Prove that there are infinitely many primes."]
    with Controller(config, weak=ScriptedEngine(), strong=ScriptedEngine()) as controller:
        found = controller.router("decision").score_texts(prompts)
        learned = controller.router("mf")
        sides = [score >= 0.5 for score in found]
        assert sides == [score >= learned.default_threshold for score in learned.score_texts(prompts)]
        assert controller.decision(request("hello")).score == found[0]
    with pytest.raises(EngineError):
        served.stop()
        ask(RouterJudge(configured(served.url), Egress(Guard(config.guard))), request("x"))


def test_doctor_tells_where_the_router_asks_and_asks_nobody(serve: Callable[..., Any]) -> None:
    from edge_router.cli.verbs.checks import router

    served = serve(weak=judging())
    told = list(router(configured(served.url, protocol="systemone")))
    assert [(each.name, each.text) for each in told] == [
        ("decision", f"weak at {served.url}/v1 (systemone), on this machine")
    ]
    assert not served.weak.inquiries
