"""Conversations over a controller: who answers turn by turn, and what goes before the conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from table import each

from edge_router.api.async_client import AsyncController
from edge_router.api.client import Controller
from edge_router.chat.events import Event, Finished, ToolCallArguments, ToolCallStart, Usage
from edge_router.chat.request import ChatRequest, Need
from edge_router.config.settings import Config
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import StrongUnreachable
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.system.paths import Paths
from edge_router.types import Decision

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
LONG = Usage(90_000, 1)


def calling(request: ChatRequest) -> Reply:
    """An assistant that calls its tool once, and whose prompts are long."""
    if request.messages[-1].results:
        return ["sunny", Finished("stop", LONG)]
    id = f"call_{len(request.messages)}_{abs(hash(request.messages[-1].text))}"
    steps: list[Event] = [ToolCallStart(0, id, "weather"), ToolCallArguments(0, '{"city": "Paris"}')]
    return [*steps, Finished("tool_calls", LONG)]


def talking(request: ChatRequest) -> Reply:
    return ["said", Finished("stop", LONG)]


class Talk:
    """One conversation with a controller whose weak and strong models answer as `says`."""

    def __init__(
        self, says: Reply = talking, serves: Sequence[Need] = tuple(Need), **settings: object
    ) -> None:
        config = Config().replace(**{name.replace("__", "."): value for name, value in settings.items()})
        self.weak = ScriptedEngine(default=says, model_id="small", serves=serves)
        self.strong = ScriptedEngine(default=says, model_id="big")
        self.score = 0.0
        router = ScriptedRouter(lambda text: self.score)
        self.controller = Controller(config, weak=self.weak, strong=self.strong, router=router)
        self.messages: list[dict[str, Any]] = []

    def ask(self, text: str, score: float, **fields: Any) -> tuple[str, str]:
        self.messages.append({"role": "user", "content": text})
        return self.go(score, **fields)

    def go(self, score: float, **fields: Any) -> tuple[str, str]:
        """The model, and why."""
        self.score = score
        reply = self.controller.chat.completions.create(messages=self.messages, **fields)
        said = reply.choices[0].message
        calls = [call.model_dump() for call in said.tool_calls or ()]
        self.messages.append({"role": "assistant", "content": said.content, "tool_calls": calls or None})
        self.decision: Decision = reply.decision
        return reply.model, str(reply.decision.reason)

    def tell(self, score: float, **fields: Any) -> tuple[str, str]:
        """The result of the tool that was called."""
        id = self.messages[-1]["tool_calls"][0]["id"]
        self.messages.append({"role": "tool", "tool_call_id": id, "content": "20 degrees"})
        return self.go(score, **fields)


def test_a_conversation_stays_where_it_is_until_a_switch_is_worth_it() -> None:
    talk = Talk()
    assert talk.ask("hi", 0.1) == ("small", "score")
    assert talk.ask("a little harder", 0.6) == ("small", "session")
    assert talk.decision.to_dict() == {
        "score": 0.6,
        "threshold": 0.5,
        "model": "weak",
        "reason": "session",
        "held": "prompt",
        "held_tokens": 90_001,
    }
    assert talk.ask("hard", 0.7) == ("big", "score")
    assert talk.ask("easy again, which the weak one has read nearly all of", 0.4) == ("small", "score")
    talk.controller.close()


def test_a_short_conversation_follows_the_score() -> None:
    talk = Talk(says="said")
    assert [talk.ask("hi", score) for score in (0.1, 0.6, 0.4, 0.51)] == [
        ("small", "score"),
        ("big", "score"),
        ("small", "score"),
        ("big", "score"),
    ]
    talk.controller.close()


@each("first, model", [(0.1, "small"), (0.9, "big")])
def test_a_loop_of_tools_is_not_torn(first: float, model: str) -> None:
    for settings in ({}, {"sessions__stickiness": 0}):
        talk = Talk(calling, **settings)
        assert talk.ask("weather?", first, tools=TOOLS) == (model, "score")
        assert talk.tell(1 - first, tools=TOOLS) == (model, "session"), settings
        assert talk.decision.held == "tool_call"
        talk.controller.close()


# The score that the call was made with, settings, fields of the request with its result -> who answers, why.
BEFORE = [
    (0.1, {}, {"model": "strong"}, ("big", "forced")),
    (0.9, {}, {"model": "weak"}, ("small", "forced")),
    (0.9, {}, {"private": True}, ("small", "private")),
    (0.1, {}, {"tool_choice": "required"}, ("big", "needs_tools")),
    (0.1, {}, {}, ("small", "session")),
    (0.9, {}, {}, ("big", "session")),
    (0.1, {"sessions__enabled": False}, {}, ("big", "score")),
]


@each("first, settings, fields, found", BEFORE)
def test_what_goes_before_the_conversation(
    first: float, settings: dict[str, object], fields: dict[str, object], found: tuple[str, str]
) -> None:
    serves = [need for need in Need if need is not Need.TOOL_CALL]
    talk = Talk(calling, serves, **settings)
    talk.ask("weather?", first, tools=TOOLS)
    assert talk.tell(1 - first, **{"tools": TOOLS, **fields}) == found
    assert (talk.decision.held is None) == (found[1] != "session")
    talk.controller.close()


def test_rules_go_before_it(paths: Paths) -> None:
    paths.rules.parent.mkdir(parents=True, exist_ok=True)
    paths.rules.write_text('[[rule]]\nname = "home"\nwords = ["home"]\nthen = "weak"\n')
    talk = Talk()
    assert talk.ask("hard", 0.9) == ("big", "score")
    assert talk.ask("easy", 0.4) == ("big", "session")
    assert talk.ask("at home", 0.9) == ("small", "rule")
    talk.controller.close()


def test_a_model_that_cannot_answer_is_replaced_in_a_conversation_too() -> None:
    talk = Talk(calling)
    talk.ask("weather?", 0.9, tools=TOOLS)
    talk.strong.queue(StrongUnreachable("http://x", "no route"))
    assert talk.tell(0.1, tools=TOOLS) == ("small", "strong_unavailable")
    assert talk.decision.held is talk.decision.held_tokens is None
    talk.controller.close()


def test_deciding_notes_nothing() -> None:
    talk = Talk()
    talk.score = 0.9
    for _ in range(3):
        assert talk.controller.route("hi").model == "strong"
    assert len(talk.controller._sessions) == 0
    talk.ask("hi", 0.1)
    again = [*talk.messages, {"role": "user", "content": "harder"}]
    talk.score = 0.6
    assert talk.controller.route(again).held == "prompt"
    talk.controller.close()


def test_what_it_spares_is_kept_and_counted() -> None:
    talk = Talk()
    talk.ask("hi", 0.1)
    talk.ask("harder", 0.6)
    ledger = talk.controller.recorder.ledger
    assert ledger is not None
    (record, _) = ledger.recent()
    assert (record.decision.held, record.decision.held_tokens) == ("prompt", 90_001)
    told = talk.controller.metrics.render()
    assert 'edge_router_requests_total{tier="weak",reason="session"} 1' in told
    assert 'edge_router_session_holds_total{tier="weak",held="prompt"} 1' in told
    assert 'edge_router_session_tokens_total{tier="weak"} 90001' in told
    assert "edge_router_session_fingerprints{} 4" in told
    talk.controller.close()


def test_a_share_that_is_held_counts_where_conversations_stay() -> None:
    talk = Talk(calling, router__strong_share=0.5, strong__model="big")
    counted: list[bool] = []
    talk.controller._pool.threshold(talk.controller._pool.router(None))
    tracker = talk.controller._pool._shares[None]
    tracker.observe = lambda score, *, sent: counted.append(sent)  # type: ignore[method-assign]
    talk.ask("weather?", 0.1, tools=TOOLS)
    talk.tell(0.9, tools=TOOLS)
    talk.messages.clear()
    talk.ask("weather there?", 0.9, tools=TOOLS)
    talk.tell(0.1, tools=TOOLS)
    assert counted == [False, False, True, True]
    talk.controller.close()


def test_the_same_over_asyncio() -> None:
    talk = Talk()

    async def main() -> list[tuple[str, str]]:
        client, found = AsyncController(talk.controller), []
        for talk.score in (0.1, 0.6, 0.7):
            talk.messages.append({"role": "user", "content": "go on"})
            stream = await client.chat.completions.create(messages=talk.messages, stream=True)
            said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
            talk.messages.append({"role": "assistant", "content": said})
            found.append((stream.model, str(stream.decision.reason)))
        await client.close()
        return found

    assert asyncio.run(main()) == [("small", "score"), ("small", "session"), ("big", "score")]


def test_a_program_may_name_its_conversations() -> None:
    talk = Talk()
    turn = [{"role": "user", "content": "hi"}]
    go_on = [*turn, {"role": "assistant", "content": "said"}, {"role": "user", "content": "go on"}]

    def ask(messages: list[dict[str, str]], score: float, session: str | None) -> tuple[str, str]:
        talk.score = score
        reply = talk.controller.chat.completions.create(messages=messages, session=session)
        return reply.model, str(reply.decision.reason)

    assert ask(turn, 0.1, "one") == ("small", "score")
    assert ask(turn, 0.9, "other") == ("big", "score")
    assert ask(go_on, 0.55, "one") == ("small", "session")
    assert ask(go_on, 0.55, "") == ("big", "score")  # of whom nothing is known

    async def asked() -> str:
        client = AsyncController(talk.controller)
        reply = await client.chat.completions.create(messages=go_on, session="one")
        return str(reply.decision.reason)

    assert asyncio.run(asked()) == "session"
    talk.controller.close()


def test_an_answer_that_was_kept_belongs_to_who_gave_it(paths: Paths) -> None:
    """Also where that was another process, or long ago: a tool's result goes to the model of the call."""
    kept = {"response_cache__mode": "disk", "response_cache__tools": True}
    asked = {"tools": TOOLS, "temperature": 0}
    first = Talk(calling, **kept)
    assert first.ask("weather?", 0.9, **asked) == ("big", "score")
    first.controller.close()
    talk = Talk(calling, **kept)
    assert talk.ask("weather?", 0.1, **asked) == ("big", "cached")
    assert talk.tell(0.1, **asked) == ("big", "session") and talk.decision.held == "tool_call"
    known = talk.controller._sessions.facts.reads_per_s
    talk.messages = talk.messages[:1]
    assert talk.go(0.1, **asked) == ("big", "cached")
    assert talk.tell(0.1, **asked) == ("big", "cached")  # the conversation that went on from there
    assert talk.ask("easier", 0.45, tools=TOOLS) == ("big", "session")  # its prompt is still there
    assert talk.controller._sessions.facts.reads_per_s == known
    talk.controller.close()


def test_a_fault_of_the_table_costs_no_answer() -> None:
    def broken(*_: object) -> None:
        raise ValueError("a mistake")

    talk = Talk()
    talk.ask("hi", 0.1)
    for name, found in (("look", ("big", "score")), ("note", ("small", "session"))):
        working = getattr(talk.controller._sessions, name)
        setattr(talk.controller._sessions, name, broken)
        assert talk.ask("harder", 0.6) == found
        setattr(talk.controller._sessions, name, working)
    assert 'edge_router_defects_total{component="sessions"' in talk.controller.metrics.render()
    talk.controller.close()
