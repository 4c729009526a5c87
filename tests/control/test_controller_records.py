"""What a controller writes down, and what that changes: the ledger, ratings, the month's money, a held share."""

from __future__ import annotations

import pytest

from edge_router.api.client import Controller
from edge_router.config.settings import Config
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import BudgetSpent, GenerationFailed
from edge_router.ledger import Ledger
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.routing.thresholds.payments import Period, month_of
from edge_router.surfaces.openai.parse import parse_chat
from edge_router.system.paths import Paths
from edge_router.types import Reason

EASY, HARD = 0.1, 0.9
HELLO = [{"role": "user", "content": "hello there"}]


def weak(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="small", serves=())


def strong(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="big")


def ask(controller: Controller, **fields: object) -> tuple[str, str, str]:
    """Text, answering model and reason."""
    reply = controller.chat.completions.create(**{"messages": HELLO, **fields})  # type: ignore[call-overload]
    return reply.text, reply.model, str(reply.decision.reason)


def test_every_answer_is_recorded_and_no_prompt_is_kept_unless_asked(paths: Paths) -> None:
    boom = GenerationFailed("tvm", "boom")
    with Controller(weak=weak("W", boom), router=ScriptedRouter(EASY)) as controller:
        ask(controller)
        with pytest.raises(GenerationFailed):
            ask(controller)
        with controller.chat.completions.create(messages=HELLO, stream=True) as stream:
            next(stream)
        rendered = controller.metrics.render()
    left, failed, whole = Ledger(paths.ledger).recent()
    assert (whole.decision.model, whole.model, whole.error) == ("weak", "small", None)
    assert whole.usage is not None
    assert (failed.error, left.error) == ("GenerationFailed", "Cancelled")
    assert {record.prompt for record in (left, failed, whole)} == {None}
    assert 'edge_router_requests_total{tier="weak",reason="score"} 3' in rendered
    assert 'edge_router_failures_total{tier="weak",error="GenerationFailed"} 1' in rendered
    with Controller(weak=weak(), router=ScriptedRouter(EASY), ledger__store_prompts=True) as controller:
        ask(controller)
    assert Ledger(paths.ledger).recent(1)[0].prompt == "hello there"


def test_who_listens_hears_of_each_answer_and_no_prompt_that_is_not_kept() -> None:
    key = "sk-proj-" + "a1B2" * 12
    for settings, prompts in (
        ({}, [None]),
        ({"ledger__enabled": False, "ledger__store_prompts": True}, [None]),
        ({"ledger__store_prompts": True}, ["my key is ..."]),
    ):
        heard = []
        with Controller(weak=weak(), router=ScriptedRouter(EASY), **settings) as controller:
            stop = controller.recorder.watch(heard.append)
            ask(controller, messages=f"my key is {key}")
            stop()
            ask(controller)
        shown = [each.prompt if each.prompt is None else each.prompt[:9] + " ..." for each in heard]
        assert shown == prompts and key not in str([each.prompt for each in heard]), settings
        assert [each.model for each in heard] == ["small"]


def test_an_answer_can_be_rated_once_it_has_ended(paths: Paths) -> None:
    request = parse_chat({"model": "auto", "messages": HELLO}).request
    with Controller(weak=weak(), router=ScriptedRouter(EASY)) as controller:
        ask(controller)
        answer = controller.start(request)
        assert answer.record_id is None
        assert len(list(answer)) > 1 and answer.record_id == 2
        rated = controller.rate(answer.record_id, -1)
        assert rated is not None and rated.rating == -1 and controller.rate(9, 1) is None
    assert [record.id for record in Ledger(paths.ledger).rated()] == [2]
    with Controller(weak=weak(), router=ScriptedRouter(EASY), ledger__enabled=False) as silent:
        answer = silent.start(request)
        answer.close()
        assert answer.record_id is None and silent.rate(2, 1) is None


def test_the_ledger_can_be_switched_off(paths: Paths) -> None:
    with Controller(weak=weak(), router=ScriptedRouter(EASY), ledger__enabled=False) as controller:
        ask(controller)
    assert not paths.ledger.exists()


def test_when_the_months_money_is_spent_the_weak_model_answers(paths: Paths) -> None:
    settings = {"strong.monthly_budget": 5.0, "strong.price_in": 1e6, "strong.price_out": 0.0}
    config = Config().replace(**{**settings, "strong.model": "big"})
    for answers in (["big", "big", "big", "small", "small"], ["small"]):  # two words in: each answer costs 2
        with Controller(
            config, weak=weak(), strong=strong(), router=ScriptedRouter(HARD), paths=paths
        ) as here:
            assert [ask(here)[1] for _ in answers] == answers
            assert here.route("hello there").reason is Reason.BUDGET
            with pytest.raises(BudgetSpent, match="this month's money is spent"):
                ask(here, model="strong")
            assert ask(here, model="weak")[2] == "forced"


def test_a_threshold_in_the_name_is_not_moved_by_the_budget(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"strong.monthly_budget": 3.0, "strong.price_in": 1e6, "strong.model": "big"}
    router = ScriptedRouter(HARD)
    with Controller(
        Config().replace(**settings), weak=weak(), strong=strong(), router=router, paths=paths
    ) as here:
        for number in range(45):
            router.answer = number / 100
            ask(here)
        router.answer = HARD
        ask(here)
        common = here.callers.budgets.common
        monkeypatch.setattr(common, "period", Period("month", month_of, lambda now: now + 10 * 86_400))
        moved = here.route("hello").threshold
        assert moved is not None and moved > router.default_threshold
        assert here.route("hello", model="router-scripted-0.25").threshold == 0.25


def test_a_strong_share_is_held_over_what_is_answered(paths: Paths) -> None:
    router = ScriptedRouter(EASY)
    config = Config().replace(**{"router.strong_share": 0.25, "strong.model": "big"})
    with Controller(config, weak=weak(), strong=strong(), router=router, paths=paths) as controller:
        answers = []
        for number in range(200):
            router.answer = 0.3 + number % 10 / 100
            controller.route("what would you do?")  # an answer is what counts, not a question about it
            controller.chat.completions.create(messages=HELLO, model="router-scripted-0.9")
            answers.append(ask(controller)[1])
        assert answers.count("big") == pytest.approx(50, abs=20)
        held = controller.route("hello").threshold
    assert held is not None and held != router.default_threshold
    with Controller(config, weak=weak(), strong=strong(), router=router, paths=paths) as controller:
        assert controller.route("hello").threshold == held


class Uncountable(str):
    """Text of a strong answer that the meter stumbles over."""

    __slots__ = ()

    def encode(self, *arguments: object, **options: object) -> bytes:
        raise RuntimeError("a mistake of ours")


def test_a_mistake_in_counting_money_loses_no_answer(paths: Paths) -> None:
    config = Config().replace(**{"strong.monthly_budget": 5.0, "strong.price_in": 1.0, "strong.model": "big"})
    engine = ScriptedEngine([Uncountable("a long answer")], model_id="big")
    with Controller(config, weak=weak(), strong=engine, router=ScriptedRouter(HARD), paths=paths) as here:
        assert ask(here)[0] == "a long answer"
        assert 'edge_router_defects_total{component="spending"' in here.metrics.render()
