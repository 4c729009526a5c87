"""Answers for which the strong model was not there: kept, asked again, and put beside the old ones."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from table import each

from edge_router.api.client import Controller
from edge_router.chat.events import Finished, ToolCallArguments, ToolCallStart
from edge_router.chat.reply import collect
from edge_router.config.sections import LedgerConfig
from edge_router.config.settings import Config
from edge_router.control.background_upgrades import BackgroundUpgrades
from edge_router.engines.remote.kept_question import read, written
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import (
    BudgetSpent,
    Cancelled,
    EdgeRouterError,
    InvalidRequest,
    StrongFailed,
    StrongNotConfigured,
    StrongRefused,
    StrongUnreachable,
)
from edge_router.ledger import Ledger, Record
from edge_router.ledger.upgrades import Better, Upgrades
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.surfaces.anthropic.surface import AnthropicMessages
from edge_router.surfaces.openai.parse import parse_chat, parse_completion
from edge_router.system.paths import Paths
from edge_router.types import Decision, Reason

pytestmark = pytest.mark.integration  # some seconds of writing to disk

HARD = 0.9
KEY = "sk-proj-" + "aB3" * 8
DOWN = StrongUnreachable("http://there", "refused")
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who was Noether?"},
    {"role": "assistant", "content": "A mathematician."},
    {"role": "user", "content": "Prove her theorem."},
]


def made(*strong: Reply, weak: tuple[Reply, ...] = (), **settings: object) -> Controller:
    return Controller(
        weak=ScriptedEngine(*weak, model_id="small", serves=()),
        strong=ScriptedEngine(*strong, model_id="big"),
        router=ScriptedRouter(HARD),
        **{"ledger__store_prompts": True, **settings},  # type: ignore[arg-type]
    )


def ask(controller: Controller, messages: Any = "Prove it.", **fields: object) -> str:
    return controller.chat.completions.create(messages=messages, **fields).text  # type: ignore[call-overload, no-any-return]


def strong_of(controller: Controller) -> ScriptedEngine:
    return controller._pool.strong()._engine  # type: ignore[attr-defined, no-any-return]


def test_an_answer_is_bettered_and_both_stay(paths: Paths) -> None:
    with made(weak=("W",), offline=True) as controller:
        assert ask(controller, TALK, temperature=0.5, max_tokens=99) == "W"
        (found,) = controller.upgrades()
        assert (found.id, found.reason, found.prompt) == (1, Reason.OFFLINE, "Prove her theorem.")
        assert (found.model, found.answer, found.state, found.better) == ("small", "W", "open", None)
        with pytest.raises(StrongUnreachable):
            next(controller.upgrade())
    with made("S") as controller:
        (done,) = controller.upgrade()
        (asked,) = strong_of(controller).calls
        assert [message.text for message in asked.messages] == [message["content"] for message in TALK]
        assert (asked.sampling.temperature, asked.max_tokens) == (0.5, 99)
        assert (done.state, done.answer, done.better, done.better_model) == ("better", "W", "S", "big")
        assert controller.upgrades() == () and controller.upgrades(1) == controller.upgrades(every=True)
        assert list(controller.upgrade()) == list(controller.upgrade(1)) == []  # it costs no second time
        assert controller.upgrades(1) == (done,)
    rows = Ledger(paths.ledger).recent()
    assert [(row.model, row.decision.would_escalate) for row in rows] == [("big", False), ("small", True)]


@each(
    "strong, settings, fields",
    [
        ((), {}, {}),  # the strong one answered
        ((), {"offline": True}, {"model": "weak"}),
        ((), {"offline": True}, {"private": True}),
        ((), {"offline": True, "ledger__store_prompts": False}, {}),
        ((), {"offline": True, "ledger__upgrade": "off"}, {}),
        ((), {"offline": True, "ledger__enabled": False}, {}),
        ((), {"offline": True}, {"messages": f"Why is {KEY} refused?"}),
    ],
)
def test_what_is_not_kept(
    strong: tuple[Reply, ...], settings: dict[str, object], fields: dict[str, Any]
) -> None:
    with made(*strong, **settings) as controller:
        ask(controller, **fields)
        assert controller.upgrades(every=True) == ()


def test_an_answer_that_broke_off_or_called_a_tool_is_not_kept() -> None:
    call = [ToolCallStart(0, "c", "f"), ToolCallArguments(0, "{}"), Finished("tool_calls")]
    with made(weak=(call,), offline=True) as controller:
        ask(controller)
        with controller.chat.completions.create(messages="Prove it.", stream=True) as stream:
            next(stream)
        assert controller.upgrades(every=True) == ()


def test_a_failure_stops_and_the_next_run_goes_on(paths: Paths) -> None:
    with made(DOWN, DOWN, DOWN, "S1", DOWN, "S2", "S3") as controller:
        for name in "abc":
            assert ask(controller, name) == f"You said: {name}"
        assert [(each.id, each.reason) for each in controller.upgrades()] == [
            (number, Reason.STRONG_UNAVAILABLE) for number in (1, 2, 3)
        ]
        run = controller.upgrade()
        assert next(run).better == "S1"
        with pytest.raises(StrongUnreachable):
            next(run)
        assert [each.id for each in controller.upgrades()] == [2, 3]
        assert [each.better for each in controller.upgrade()] == ["S2", "S3"]


def test_ctrl_c_leaves_the_question_open() -> None:
    def interrupted(_: object) -> Reply:
        raise KeyboardInterrupt

    cancel = threading.Event()
    with made(DOWN, interrupted, "S") as controller:
        ask(controller)
        with pytest.raises(KeyboardInterrupt):
            next(controller.upgrade())
        cancel.set()
        with pytest.raises(Cancelled):
            next(controller.upgrade(cancel=cancel))
        assert [each.better for each in controller.upgrade()] == ["S"]


@each(
    "error, settled",
    [
        (InvalidRequest("messages", "no"), True),
        (StrongFailed("http://there", 500, "broken"), False),
        (BudgetSpent(1.0), False),
        ("", True),
    ],
)
def test_what_a_question_is_to_blame_for_is_not_asked_again(
    error: Reply, settled: bool, paths: Paths
) -> None:
    Ledger(paths.ledger).clear()
    with made(DOWN, error, "S", "S") as controller:
        ask(controller)
        if settled:
            (refused,) = controller.upgrade()
            assert refused.state == "refused" and refused.refused and list(controller.upgrade()) == []
        else:
            with pytest.raises(EdgeRouterError):
                next(controller.upgrade())
        assert len(controller.upgrades()) == (not settled)
        assert [each.better for each in controller.upgrade(1)] == ["S"]  # by its name, all the same


REFUSED = StrongRefused("http://there", 400, "seed", "no")


@each(
    "replies, found",
    [
        ([REFUSED, "S", "S"], ["StrongRefused", None, None]),
        (
            ["S", REFUSED, StrongFailed("http://there", 413, "too large")],
            [None, "StrongRefused", "StrongFailed"],
        ),
        ([REFUSED, REFUSED], None),  # it is not the questions that are to blame
        ([REFUSED, DOWN], None),
        (["S", StrongFailed("http://there", 404, "no such model")], None),
    ],
)
def test_an_endpoint_that_refuses_all_blames_no_question(
    replies: list[Reply], found: list[str | None] | None, paths: Paths
) -> None:
    Ledger(paths.ledger).clear()
    with made(DOWN, DOWN, DOWN, *replies) as controller:
        for name in "abc":
            ask(controller, name)
        if found is None:
            with pytest.raises(EdgeRouterError):
                list(controller.upgrade())
        else:
            assert {each.refused for each in controller.upgrade()} == set(found)
        kept = controller.upgrades(every=True)
        assert [each.refused for each in kept] == (found or [None] * 3)


def test_one_that_is_refused_alone_is_told() -> None:
    with made(DOWN, REFUSED) as controller:
        ask(controller)
        with pytest.raises(StrongRefused):
            list(controller.upgrade())


def test_the_rules_and_the_guard_of_now_hold(paths: Paths) -> None:
    with made(offline=True, guard__level="off") as controller:
        for text in ("of Acme", "of Globex", f"Why is {KEY} refused?", "of Initech"):
            ask(controller, text)
    paths.rules.write_text(
        '[[rule]]\nname = "a"\nwords = "acme"\nthen = "local_only"\n'
        '[[rule]]\nname = "b"\nwords = "globex"\nthen = "weak"\n',
        encoding="utf-8",
    )
    with made() as controller:
        done = list(controller.upgrade())
        assert [each.refused for each in done] == ["Withheld", "Withheld", "Withheld", None]
        assert [call.messages[-1].text for call in strong_of(controller).calls] == ["of Initech"]


def test_a_secret_that_may_leave_hidden_is_kept_hidden(paths: Paths) -> None:
    with made(weak=(f"Try {KEY}.",), offline=True, guard__secrets="redact") as controller:
        ask(controller, f"Why is {KEY} refused?")
        (found,) = controller.upgrades()
        assert found.prompt == "Why is [SECRET_1] refused?" and found.answer == "Try [SECRET_1]."
    assert not any(KEY.encode() in file.read_bytes() for file in paths.ledger.parent.glob("ledger*"))


def test_costs_are_foreseen_bounded_and_paid_for(paths: Paths) -> None:
    prices = {"strong.price_in": 1e6, "strong.price_out": 1e6, "strong.model": "big"}
    config = Config().replace(**prices, **{"strong.monthly_budget": 100.0})
    with made(DOWN, DOWN, DOWN, "S S", "S S", config=config) as controller:
        for _ in range(3):
            ask(controller, "abc", max_tokens=4)
        assert [each.cost_at_most for each in controller.upgrades()] == [5.0, 5.0, 5.0]
        done = list(controller.upgrade(max_cost=8.0))
        assert [each.cost for each in done] == [3.0, 3.0] and controller.upgrades()[0].id == 3
        assert list(controller.upgrade(max_cost=4.9)) == []
        common = controller.callers.budgets.common
    assert common is not None and 6.0 <= common.spent < 100
    with made(config=Config().replace(**prices, **{"strong.monthly_budget": 1.0})) as poor:
        with pytest.raises(BudgetSpent):
            next(poor.upgrade())
        assert [each.id for each in poor.upgrades()] == [3]
    with made() as unpriced, pytest.raises(InvalidRequest):
        next(unpriced.upgrade(max_cost=1.0))


def test_one_that_is_good_enough_is_listed_no_more() -> None:
    with made(DOWN, "S") as controller:
        ask(controller)
        controller.keep_weak_answer(1)
        assert controller.upgrades() == () and list(controller.upgrade()) == []
        assert controller.upgrades(1)[0].state == "declined"
        assert [each.better for each in controller.upgrade(1)] == ["S"]
        with pytest.raises(InvalidRequest):
            controller.upgrades(7)


def test_without_a_strong_model_nothing_can_be_bettered(paths: Paths) -> None:
    with Controller(
        weak=ScriptedEngine(model_id="small"), router=ScriptedRouter(HARD), ledger__store_prompts=True
    ) as controller:
        ask(controller)
        with pytest.raises(StrongNotConfigured):
            next(controller.upgrade())
        assert len(controller.upgrades()) == 1


def test_two_processes_do_not_ask_the_same(paths: Paths) -> None:
    with made(DOWN, "S") as controller:
        ask(controller)
        ledger = Ledger(paths.ledger)
        assert ledger.upgrades.claim(1) and not ledger.upgrades.claim(1)
        assert list(controller.upgrade()) == []
        ledger.upgrades.release(1)
        assert [each.better for each in controller.upgrade()] == ["S"]
        ledger.close()


def test_clearing_the_ledger_clears_them_too(paths: Paths) -> None:
    with made(offline=True) as controller:
        ask(controller, "a secret wish")
    ledger = Ledger(paths.ledger)
    assert ledger.clear() == 1 and ledger.upgrades.find() == ()
    ledger.close()
    assert not any(b"secret wish" in file.read_bytes() for file in paths.ledger.parent.glob("ledger*"))


def test_of_those_that_wait_the_oldest_go_and_none_that_was_bettered(paths: Paths) -> None:
    ledger = Ledger(paths.ledger)
    upgrades = Upgrades(ledger._database, most=10)
    for place in range(64):
        number = ledger.record(Record(Decision("weak", Reason.OFFLINE), "small", time=float(place)))
        assert number is not None
        upgrades.keep(number, "{}", "W")
        if number == 5:
            upgrades.better(5, Better("S", "big", 1.0), None)
    assert [each.record.id for each in upgrades.find()] == [5, *range(55, 65)]
    ledger.close()


def test_a_ledger_of_an_older_version_has_none(paths: Paths) -> None:
    with made() as controller:
        ask(controller)
    with sqlite3.connect(paths.ledger) as connection:
        connection.execute("DROP TABLE upgrades")
    connection.close()
    with made() as controller:
        assert controller.upgrades() == ()


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALLED = [
    {"role": "user", "content": "Look."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "A cat."},
]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@each(
    "body",
    [
        {"messages": TALK, "stop": ["x"], "seed": 3, "top_p": 0.5, "logit_bias": {"5": 1}},
        {"messages": CALLED, "tools": [TOOL]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Which \u00e9?"}, PICTURE]}]},
        {"messages": TALK, "response_format": {"type": "json_object"}, "metadata": {"team": "a"}},
        {"messages": TALK, "max_completion_tokens": 7, "reasoning_effort": "low", "stream": True},
        {"prompt": "Once", "max_tokens": 5},
        {"prompt": "Once", "suffix": "the end"},
    ],
)
def test_a_question_is_read_as_it_was_asked(body: dict[str, Any]) -> None:
    parse = parse_completion if "prompt" in body else parse_chat
    request = parse({"model": "auto", **body}).request
    text = written(request)
    assert text is not None
    again = read(text)
    for name in ("messages", "sampling", "max_tokens", "stop", "tools", "output", "reasoning", "raw_prompt"):
        assert getattr(again, name) == getattr(request, name), name
    assert again.suffix == request.suffix and again.extra.fields.get("metadata") == body.get("metadata")
    assert again.target == "strong" and not again.private


def test_a_question_of_another_protocol_keeps_its_metadata_for_the_rules() -> None:
    body = {
        "model": "auto",
        "max_tokens": 9,
        "system": "Be brief.",
        "metadata": {"user_id": "u1"},
        "messages": [{"role": "user", "content": "Why?"}],
    }
    call = AnthropicMessages().parse("/v1/messages", body)
    text = written(call.request)  # type: ignore[union-attr]
    assert text is not None
    again = read(text)
    assert [message.text for message in again.messages] == ["Be brief.", "Why?"]
    assert again.extra.fields == {"metadata": {"user_id": "u1"}} and again.extra.protocol == ""


@each("text", ["", "[]", "{}", '{"body": 1}', '{"body": {"messages": []}}', '{"body": {"messages": 1e999}}'])
def test_what_no_version_of_ours_has_written_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read(text)


def test_too_large_a_question_is_not_kept() -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x" * 1_000_001}]}
    assert written(parse_chat(body).request) is None


def background(controller: Controller, **settings: object) -> BackgroundUpgrades:
    wanted = LedgerConfig(store_prompts=True, **{"upgrade": "auto", **settings})  # type: ignore[arg-type]
    return BackgroundUpgrades(wanted, controller._upgrader, controller.defects, grace_s=0.0)


def eventually(holds: Callable[[], bool]) -> bool:
    """Within a time that no machine is too busy for."""
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:
        time.sleep(0.005)
    return holds()


def test_what_is_open_is_bettered_by_itself_once_the_strong_model_is_back() -> None:
    with made(DOWN, DOWN, DOWN, "S1", "S2") as controller:
        ask(controller, "a")
        ask(controller, "b")
        off = background(controller, upgrade="ask")
        off.wake()
        auto = background(controller)
        auto.wake()  # it is still down, and rests
        assert eventually(lambda: len(strong_of(controller).calls) == 3) and len(controller.upgrades()) == 2
        auto.wake()
        assert eventually(lambda: not controller.upgrades())
        assert eventually(lambda: auto._thread is None)
        assert [each.better for each in controller.upgrades(every=True)] == ["S1", "S2"]
        auto.close()
        off.close()


def test_closing_ends_it_and_leaves_the_question_open(paths: Paths) -> None:
    reached = threading.Event()

    def slow(_: object) -> Reply:
        reached.set()
        return ["S", 600.0, "S"]

    with made(DOWN, slow) as controller:
        ask(controller)
        auto = background(controller)
        auto.wake()
        assert reached.wait(60)
        auto.close()
        assert auto._thread is None
        auto.wake()
        assert auto._thread is None and [each.state for each in controller.upgrades()] == ["open"]


def test_a_controller_begins_with_it_once_the_strong_model_has_answered() -> None:
    for mode, begun in (("auto", True), ("ask", False)):
        with made(DOWN, "S", ledger__upgrade=mode) as controller:
            ask(controller)
            assert controller._background._thread is None
            ask(controller)
            assert (controller._background._thread is not None) is begun, mode
            waits = controller._background
        assert waits._thread is None  # its time of grace is no reason to wait


@each(
    "models, target, refused",
    [
        ((), "strong", None),
        (("auto",), "strong", None),
        (("weak", "big"), "big", None),
        (("weak",), "", "ModelNotAllowed"),
        (None, "", "UnknownName"),  # it is no caller any more
    ],
)
def test_what_a_caller_may_not_use_does_not_better_its_answers(
    models: tuple[str, ...] | None, target: str, refused: str | None, paths: Paths
) -> None:
    Ledger(paths.ledger).clear()
    with made(callers__ann__models=(), offline=True) as controller:
        request = parse_chat({"model": "auto", "messages": TALK}).request
        collect(controller.start(replace(request, caller="ann")))
    now = {} if models is None else {"callers__ann__models": models}
    with made("S", **now) as controller:
        (done,) = controller.upgrade()
        assert done.refused == refused and done.better == (None if refused else "S")
        assert [call.target for call in strong_of(controller).calls] == ([] if refused else [target])
