"""What a caller may use, how much of it, and from which money: in a program, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from table import each

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter, YesNo
from edge_router.chat.events import Finished, TextDelta, Usage
from edge_router.control.guarded_engine import GuardedEngine
from edge_router.errors import (
    BudgetSpent,
    CallerLimited,
    ConfigError,
    GenerationFailed,
    ModelNotAllowed,
    UnknownName,
    UnsupportedRequest,
)
from edge_router.ledger import Ledger
from edge_router.system.paths import Paths
from edge_router.types import Decision

PRICED = {"strong.model": "big", "strong.price_in": 0.0, "strong.price_out": 1e6}  # a coin for each token
Make = Callable[..., Controller]


@pytest.fixture
def make(paths: Paths, request: pytest.FixtureRequest) -> Make:
    def build(**settings: object) -> Controller:
        config = Config().replace(**{name.replace("__", "."): value for name, value in settings.items()})
        controller = Controller(
            config,
            weak=ScriptedEngine(default=lambda _: "here", model_id="small", serves=()),
            strong=ScriptedEngine(
                default=lambda _: [TextDelta("there"), Finished("stop", Usage(1, 1))], model_id="big"
            ),
            router=ScriptedRouter(lambda text: float(text) if text[:1].isdigit() else 0.5, name="word"),
            paths=paths,
        )
        request.addfinalizer(controller.close)
        return controller

    return build


def ask(controller: Controller, text: str = "0.9", **fields: object) -> tuple[str, str, str | None]:
    reply = controller.chat.completions.create(messages=text, max_tokens=1, **fields)  # type: ignore[call-overload]
    return reply.decision.model, str(reply.decision.reason), reply.decision.caller


def engines(controller: Controller) -> tuple[ScriptedEngine, ScriptedEngine]:
    weak, strong = controller._pool.weak(), controller._pool.strong()
    assert isinstance(weak, ScriptedEngine) and isinstance(strong, GuardedEngine)
    return weak, strong._engine  # type: ignore[return-value]


def priced(**settings: object) -> dict[str, object]:
    return {**{name.replace(".", "__"): value for name, value in PRICED.items()}, **settings}


def test_a_threshold_a_share_and_a_model_of_its_own(make: Make) -> None:
    controller = make(
        callers__low__threshold=0.2,
        callers__high__threshold=1.0,
        callers__none__strong_share=0.0,
        callers__here__model="weak",
        callers__there__model="strong",
        callers__plain__models=(),
    )
    told = {name: ask(controller, "0.7", caller=name) for name in ("low", "high", "plain", "here", "there")}
    assert told == {
        "low": ("strong", "score", "low"),
        "high": ("weak", "score", "high"),
        "plain": ("strong", "score", "plain"),
        "here": ("weak", "forced", "here"),
        "there": ("strong", "forced", "there"),
    }
    assert ask(controller, "0.7", caller="here", model="auto:latest") == ("weak", "forced", "here")
    assert ask(controller, "0.7") == ("strong", "score", None)
    assert controller.route("0.3", caller="low").threshold == 0.2
    assert controller.route("0.3").threshold == 0.5
    assert ask(controller, "0.3", caller="here", model="router-word-0.1")[0] == "strong"
    for _ in range(60):
        ask(controller, "0.7", caller="none")
    assert ask(controller, "0.99", caller="none")[0] == "weak"
    assert controller.route("0.7").model == "strong"  # what one caller's share has learnt is its own


def test_a_share_is_held_over_a_new_start_and_apart_from_others(make: Make, paths: Paths) -> None:
    settings: dict[str, object] = {"callers__a__strong_share": 0.0, "router__strong_share": 1.0}
    first = make(**settings)
    for _ in range(60):
        ask(first, "0.7", caller="a")
        ask(first, "0.7")
    first.close()
    assert (paths.callers / "a" / "share.json").is_file() and paths.share.is_file()
    again = make(**settings)
    assert again.route("0.7", caller="a").model == "weak" and again.route("0.7").model == "strong"


def test_what_is_not_allowed(make: Make) -> None:
    controller = make(callers__a__models=("weak",), callers__b__models=("auto",))
    for model in ("strong", "big", "router-word", "router-word-0.1"):
        with pytest.raises(ModelNotAllowed):
            ask(controller, caller="a", model=model)
    assert ask(controller, caller="a") == ("weak", "caller", "a")
    assert ask(controller, caller="a", model="small") == ("weak", "forced", "a")
    assert ask(controller, caller="b") == ("strong", "score", "b")
    with pytest.raises(ModelNotAllowed, match="not among those of this key: auto"):
        ask(controller, caller="b", model="weak")
    with pytest.raises(UnknownName, match="caller"):
        ask(controller, caller="c")
    assert controller.route("0.9", caller="a").reason == "caller"
    with pytest.raises(ModelNotAllowed):
        controller.route("0.9", caller="a", model="strong")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(UnsupportedRequest):  # no way around: not for what the weak model cannot
        ask(controller, caller="a", tools=tools, tool_choice="required")
    with pytest.raises(UnsupportedRequest):
        controller.chat.completions.create(messages=[{"role": "user", "content": [picture]}], caller="a")


def test_a_weak_model_that_fails_is_no_way_to_the_strong_one(make: Make) -> None:
    controller = make(callers__a__models=("weak",))
    weak, strong = engines(controller)
    weak.queue(GenerationFailed("small", "broken"))
    with pytest.raises(Exception, match="broken"):
        ask(controller, caller="a")
    assert strong.calls == []


@each(
    "settings, words",
    (
        ({"callers__a__models": ("nobody",)}, r"callers\.a\.models"),
        ({"callers__a__models": ("router-nobody",)}, r"callers\.a\.models"),
        ({"callers__a__model": "nobody"}, r"callers\.a\.model "),
        (
            {"callers__a__model": "strong", "callers__a__models": ("weak",)},
            r"must be one that callers\.a\.models has",
        ),
    ),
)
def test_models_that_nobody_knows(make: Make, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(**settings)


def test_rates_are_each_callers_own_and_counted_in_the_metrics(make: Make) -> None:
    controller = make(callers__a__requests_per_minute=2, callers__b__requests_per_minute=1)
    ask(controller, caller="a"), ask(controller, caller="a"), ask(controller, caller="b")
    for caller in ("a", "b"):
        with pytest.raises(CallerLimited):
            ask(controller, caller=caller)
    ask(controller)
    text = controller.metrics.render()
    assert 'edge_router_caller_requests_total{caller="a",tier="strong"} 2' in text
    assert 'edge_router_caller_refusals_total{caller="b",error="CallerLimited"} 1' in text
    assert 'edge_router_caller_tokens_total{caller="b",tier="strong"} 2' in text


def test_many_at_once_at_the_limit(make: Make) -> None:
    controller = make(callers__a__requests_per_minute=7, callers__a__concurrency=100)

    def one(_: int) -> str:
        try:
            return ask(controller, "0.1", caller="a")[0]
        except CallerLimited as error:
            return error.what

    with ThreadPoolExecutor(16) as threads:
        told = list(threads.map(one, range(40)))
    assert (told.count("weak"), told.count("requests a minute")) == (7, 33)


def test_whatever_ends_an_answer_gives_its_place_back(make: Make) -> None:
    controller = make(callers__a__concurrency=1)

    weak, _ = engines(controller)
    for _ in range(2):
        stream = controller.chat.completions.create(messages="0.1", caller="a", stream=True)
        with pytest.raises(CallerLimited):
            ask(controller, "0.1", caller="a")
        stream.close()
        weak.queue(GenerationFailed("small", "broken"))
        with pytest.raises(GenerationFailed, match="broken"):
            ask(controller, "0.1", caller="a", model="weak")
        with pytest.raises(UnknownName):
            ask(controller, "0.1", caller="a", model="router-nobody")
    assert ask(controller, "0.1", caller="a")[0] == "weak"


def test_who_leaves_before_the_end_has_had_what_came(make: Make) -> None:
    controller = make(callers__a__tokens_per_minute=500, callers__b__tokens_per_minute=500)
    weak, _ = engines(controller)
    weak.queue(["word " * 100] * 10, ["word " * 100] * 10)
    for caller, read in (("a", 1), ("b", 9)):
        stream = controller.chat.completions.create(messages="0.1", caller=caller, stream=True)
        for _ in range(read + 1):
            next(stream)
        stream.close()
    assert ask(controller, "0.1", caller="a")[0] == "weak"
    with pytest.raises(CallerLimited, match="tokens a minute"):
        ask(controller, "0.1", caller="b")


def test_money_of_its_own_by_the_month_and_the_day(make: Make) -> None:
    controller = make(
        **priced(callers__month__monthly_budget=2.0, callers__day__daily_budget=1.0, callers__free__models=())
    )
    told = {name: [ask(controller, caller=name)[1] for _ in range(3)] for name in ("month", "day", "free")}
    assert told == {
        "month": ["score", "score", "budget"],
        "day": ["score", "budget", "budget"],
        "free": ["score"] * 3,
    }
    assert ask(controller)[1] == "score"
    for name, period in (("month", "month"), ("day", "day")):
        with pytest.raises(BudgetSpent, match=f"this {period}'s money"):
            ask(controller, caller=name, model="strong")
        assert controller.route("0.9", caller=name).reason == "budget"
    controller.close()
    again = make(**priced(callers__month__monthly_budget=2.0, callers__day__daily_budget=1.0))
    assert [ask(again, caller=name)[1] for name in ("month", "day")] == ["budget", "budget"]


def test_an_answer_that_is_under_way_goes_on_while_its_money_runs_out(make: Make) -> None:
    controller = make(**priced(callers__a__daily_budget=1.0))
    _, strong = engines(controller)
    strong.queue(["one ", "two"])
    stream = controller.chat.completions.create(messages="0.9", caller="a", stream=True, max_tokens=5)
    told = [next(stream).choices[0].delta.content, next(stream).choices[0].delta.content]
    assert ask(controller, caller="a")[1] == "budget"
    told += [chunk.choices[0].delta.content for chunk in stream]
    assert "".join(text or "" for text in told) == "one two"
    assert 0 < controller.callers.purses("a").own[0].spent < 5  # what it was, not what it might have been
    controller.close()


def test_a_callers_answer_is_paid_from_both_purses_or_from_none(make: Make) -> None:
    controller = make(**priced(strong__monthly_budget=3.0, callers__a__monthly_budget=2.0))
    common, (own,) = controller.callers.purses("a").common, controller.callers.purses("a").own
    assert common is not None
    assert [ask(controller, caller="a")[1] for _ in range(3)] == ["score", "score", "budget"]
    assert (common.spent, own.spent) == (2.0, 2.0)
    with pytest.raises(BudgetSpent, match=r"of a budget of 2"):
        ask(controller, caller="a", model="strong")
    assert (common.spent, own.spent) == (2.0, 2.0)
    assert ask(controller)[1] == "score" and (common.spent, own.spent) == (3.0, 2.0)
    other = make(**priced(strong__monthly_budget=3.0, callers__b__monthly_budget=20.0))
    assert ask(other, caller="b")[1] == "budget"
    with pytest.raises(BudgetSpent) as caught:
        ask(other, caller="b", model="strong")
    assert "3" not in str(caught.value) and "20" not in str(caught.value)
    assert other.callers.purses("b").own[0].spent == 0.0


def test_a_budget_moves_the_threshold_of_its_caller_alone(make: Make) -> None:
    controller = make(**priced(callers__a__monthly_budget=40.0, callers__b__models=()))
    for number in range(40):
        ask(controller, f"0.{number:02}", caller="a")
    ask(controller, "0.9", caller="a")
    own = controller.callers.purses("a").own[0]
    own.period = type(own.period)("month", own.period.name, lambda now: now + 10 * 86_400)
    moved = controller.route("0.6", caller="a").threshold
    assert moved is not None and moved > 0.3
    del controller  # what it comes to is in test_spending; here: whose it is


def test_typed_questions_are_asked_within_the_same_limits(make: Make) -> None:
    controller = make(
        callers__a__models=("weak",), callers__a__requests_per_minute=2, callers__b__concurrency=1
    )
    asked = [YesNo("urgent", "Is it urgent?")]
    answers = controller.decide("0.9", asked, caller="a")
    assert (answers.model, answers.decision.caller) == ("small", "a")
    with pytest.raises(ModelNotAllowed):
        controller.decide("0.9", asked, caller="a", model="strong")
    ask(controller, caller="a")
    with pytest.raises(CallerLimited):
        controller.decide("0.9", asked, caller="a")
    for _ in range(3):  # each gives its place back
        controller.decide("0.9", asked, caller="b")


def test_in_asyncio_it_is_the_same(make: Make) -> None:
    controller = make(callers__a__models=("weak",), callers__a__requests_per_minute=3)

    async def run() -> None:
        answering = AsyncController(controller)
        assert (await answering.route("0.9", caller="a")).reason == "caller"
        create = answering.chat.completions.create
        assert (await create(messages="0.9", caller="a")).decision.caller == "a"
        stream = await create(messages="0.9", caller="a", stream=True)
        assert [chunk async for chunk in stream] and stream.decision.caller == "a"
        assert (await answering.decide("0.9", [YesNo("x", "Is it?")], caller="a")).decision.caller == "a"
        for again in (create(messages="0.9", caller="a"), create(messages="0.9", caller="a", stream=True)):
            with pytest.raises(CallerLimited):
                await again
        with pytest.raises(ModelNotAllowed):
            await create(messages="0.9", caller="a", model="big")

    asyncio.run(run())


def test_two_processes_count_into_one_sum(make: Make) -> None:
    settings = priced(callers__a__daily_budget=5.0)
    controllers = [make(**settings), make(**settings)]
    told = [ask(controllers[number % 2], caller="a")[1] for number in range(8)]
    assert told == ["score"] * 5 + ["budget"] * 3


def test_the_ledger_keeps_the_callers_name(make: Make, paths: Paths) -> None:
    controller = make(callers__a__models=(), ledger__enabled=True)
    ask(controller, caller="a"), ask(controller)
    assert [record.decision.caller for record in Ledger(paths.ledger).recent()] == [None, "a"]


def test_a_decision_tells_whose_it_is() -> None:
    assert Decision("weak", "score", caller="a").to_dict()["caller"] == "a"  # type: ignore[arg-type]
    assert "caller" not in Decision("weak", "score").to_dict()  # type: ignore[arg-type]
