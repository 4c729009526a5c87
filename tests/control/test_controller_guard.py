"""A query that holds what must not leave: where it goes, what is told and what is written down."""

from __future__ import annotations

import ast
import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edge_router.api.async_client import AsyncController
from edge_router.api.client import Controller
from edge_router.chat.events import Finished, TextDelta, ToolCallArguments, ToolCallStart
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, Extra
from edge_router.config.settings import Config
from edge_router.control.pool import Pool
from edge_router.control.reasons import why
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import (
    ConfigError,
    ContextOverflow,
    GenerationFailed,
    InternalError,
    StrongError,
    StrongUnreachable,
    Withheld,
)
from edge_router.ledger import Ledger
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.system.paths import Paths
from edge_router.types import Reason

EASY, HARD = 0.1, 0.9
KEY = "sk-proj-" + "aB3" * 8
MAIL = "ann@example.org"
ASKED = [{"role": "user", "content": f"Why is {KEY} refused?"}]
FOUND = ("a key or password (OpenAI)",)


def weak(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="small", serves=())


def strong(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="big")


def test_a_key_keeps_a_hard_question_here(paths: Paths) -> None:
    big = strong()
    with Controller(weak=weak("W"), strong=big, router=ScriptedRouter(HARD)) as controller:
        reply = controller.chat.completions.create(messages=ASKED)
        told = controller.route(ASKED)
        clean = controller.chat.completions.create(messages="Prove it.")
    assert (reply.text, reply.decision.reason, reply.decision.found) == ("W", Reason.GUARD, FOUND)
    assert told == reply.decision
    assert (clean.model, clean.decision.found, len(big.calls)) == ("big", (), 1)
    record = Ledger(paths.ledger).recent()[1]
    assert (record.decision.reason, record.decision.found) == (Reason.GUARD, FOUND)
    assert KEY.encode() not in paths.ledger.read_bytes()
    assert reply.decision.to_dict()["found"] == [*FOUND]
    assert why(reply.decision).startswith(
        "it must not leave this machine, for it holds a key or password (Op"
    )


def test_nothing_that_fails_on_the_way_lets_it_out() -> None:
    """Whatever would send an ordinary question to the strong model."""
    for name, engine, error in (
        ("no weak model", weak(GenerationFailed("tvm", "boom")), GenerationFailed),
        ("too long", weak(ContextOverflow(9, 4)), ContextOverflow),
        ("a mistake", weak(RuntimeError("boom")), InternalError),
    ):
        big = strong()
        settings = {"weak__on_defect": "escalate"}
        with Controller(weak=engine, strong=big, router=ScriptedRouter(HARD), **settings) as controller:
            with pytest.raises(error):
                controller.chat.completions.create(messages=ASKED)
        assert big.calls == [], name


def test_the_strong_model_by_name_is_refused_in_one_sentence() -> None:
    big = strong()
    with Controller(weak=weak(), strong=big, router=ScriptedRouter(HARD)) as controller:
        for name in ("strong", "big"):
            with pytest.raises(Withheld, match="holds a key or password") as error:
                controller.chat.completions.create(messages=ASKED, model=name)
            assert KEY not in repr(error.value)
        tool = {"type": "function", "function": {"name": "f"}}
        with pytest.raises(Withheld, match=r"a key or password .OpenAI., and the weak model calls no tools"):
            controller.chat.completions.create(messages=ASKED, tools=[tool])
    assert big.calls == []


def test_what_is_hidden_is_put_back() -> None:
    call = (
        ToolCallStart(0, "c", "open"),
        ToolCallArguments(0, '{"key": "[SECR'),
        ToolCallArguments(0, 'ET_1]"}'),
    )
    said = [TextDelta("[SECRET"), TextDelta("_1] is"), *call, Finished("tool_calls")]
    big = strong(said, said)
    settings = {"guard__secrets": "redact"}
    with Controller(weak=weak(), strong=big, router=ScriptedRouter(HARD), **settings) as controller:
        reply = controller.chat.completions.create(messages=ASKED)
        with controller.chat.completions.create(messages=ASKED, stream=True) as stream:
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert big.calls[0].messages[0].text == "Why is [SECRET_1] refused?"
    assert reply.text == streamed == f"{KEY} is"
    assert json.loads(reply.choices[0].message.tool_calls[0].function.arguments) == {"key": KEY}  # type: ignore[index]
    assert (reply.decision.reason, reply.decision.found) == (Reason.SCORE, FOUND)
    assert why(reply.decision).endswith("; hidden from it: a key or password (OpenAI)")


def test_it_is_hidden_from_what_is_asked_instead_too() -> None:
    big = strong()
    settings = {"guard__level": "strict"}
    engine = weak(ContextOverflow(9, 4))
    with Controller(weak=engine, strong=big, router=ScriptedRouter(EASY), **settings) as controller:
        reply = controller.chat.completions.create(messages=f"I am {MAIL}")
    assert (reply.text, reply.decision.reason) == (f"You said: I am {MAIL}", Reason.CONTEXT_OVERFLOW)
    assert big.calls[0].messages[0].text == "I am [EMAIL_1]"


def test_asyncio_passes_the_same_door() -> None:
    async def ask(controller: Controller) -> str:
        async with AsyncController(controller) as client:
            stream = await client.chat.completions.create(messages=f"I am {MAIL}", stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    big = strong()
    settings = {"guard__level": "strict"}
    with Controller(weak=weak(), strong=big, router=ScriptedRouter(HARD), **settings) as controller:
        assert asyncio.run(ask(controller)) == f"You said: I am {MAIL}"
    assert big.calls[0].messages[0].text == "I am [EMAIL_1]"


def test_a_mistake_in_the_guard_is_an_error_and_lets_nothing_out() -> None:
    odd = ChatRequest((Message("user", "Hello."),), extra=Extra("openai", {"x": object()}))
    for target in ("auto", "strong"):
        for settings in ({}, {"weak__on_defect": "escalate"}):
            big = strong()
            with Controller(weak=weak(), strong=big, router=ScriptedRouter(HARD), **settings) as controller:
                with pytest.raises(InternalError):
                    controller.start(replace(odd, target=target))
            assert big.calls == [], (target, settings)


def test_the_door_itself_lets_nothing_private_out() -> None:
    """Also where somebody asks the pool for the strong model, past every decision: a given and a made one."""
    big = strong()
    config = Config().replace(**{"strong.engine": "scripted", "strong.model": "made"})
    private = ChatRequest((Message("user", "Hello."),), private=True)
    secret = ChatRequest((Message("user", KEY),))
    for pool in (Pool(Config(), weak=weak(), strong=big), Pool(config, weak=weak())):
        engine = pool.strong()
        for request, error in ((private, StrongError), (secret, Withheld)):
            with pytest.raises(error):
                next(engine.stream(engine.prepare(request), threading.Event()))
        pool.close()
    assert big.calls == []


def test_a_weak_model_on_another_machine_is_told_what_is_private() -> None:
    """It refuses that; see engines/local_server."""
    trusting = Config().replace(**{"weak.trusted_hosts": ["box.lan"]})
    for config, route in ((Config(), "auto"), (trusting, "auto"), (trusting, "weak")):
        small = weak()
        with Controller(config, weak=small, strong=strong(), router=ScriptedRouter(HARD)) as controller:
            controller.chat.completions.create(messages=ASKED, model=route)
            controller.chat.completions.create(messages="Hello.", model="weak")
        assert [call.private for call in small.calls] == [True, False], route


def test_an_answer_that_cannot_be_had_is_told_as_ever() -> None:
    big = strong(StrongUnreachable("http://example", "no route"))
    settings = {"guard__secrets": "redact"}
    with Controller(weak=weak("W"), strong=big, router=ScriptedRouter(HARD), **settings) as controller:
        reply = controller.chat.completions.create(messages=ASKED)
    assert (reply.text, reply.decision.reason) == ("W", Reason.STRONG_UNAVAILABLE)


def test_prompts_are_kept_without_what_was_found(paths: Paths) -> None:
    with Controller(weak=weak(), router=ScriptedRouter(EASY), ledger__store_prompts=True) as controller:
        controller.chat.completions.create(messages=ASKED)
    assert Ledger(paths.ledger).recent(1)[0].prompt == "Why is [SECRET_1] refused?"


def test_settings_name_what_they_take() -> None:
    for settings in ({"guard__level": "high"}, {"guard__emails": "hide"}, {"guard__emial": "local"}):
        with pytest.raises(ConfigError, match=r"must be one of|no such key"):
            Config.load(environ={}, overrides={k.replace("__", "."): v for k, v in settings.items()})


def test_only_the_pool_makes_strong_models_and_puts_the_guard_before_them() -> None:
    """In all of the package: a second place would be a way around it."""
    package = Path(__file__).parents[2] / "edge_router"
    found: dict[str, set[str]] = {"OpenAIEngine": set(), "strong_engines": set(), "make_strong": set()}
    for file in sorted(package.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if not any(f"{name}(" in text for name in found):
            continue
        tree = ast.parse(text)
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for name in {call.id for call in calls if isinstance(call, ast.Name)} & set(found):
            found[name].add(file.relative_to(package).as_posix())
        if any(isinstance(call, ast.Attribute) and call.attr == "_make_strong" for call in calls):
            found["make_strong"].add(file.name)
    # names.py lists their names only.
    assert found["strong_engines"] == {"control/pool.py", "control/names.py"}
    # The weak model in a server of this machine is asked through the same client, and a fleet is several of
    # them; RouteLLM's users give theirs to the controller, whose pool puts the guard before it.
    others = {"engines/local_server/engine.py", "engines/fleet/engine.py", "routellm/controller.py"}
    others |= {"engines/remote/question_endpoint.py"}  # which the pool makes as it makes the strong model
    assert found["OpenAIEngine"] == {"engines/remote/engine.py", *others}
    assert found["make_strong"] == set()


def test_what_the_guard_keeps_here_would_not_have_escalated_either() -> None:
    for settings in ({"offline": True}, {}):
        big = strong() if settings else None
        with Controller(weak=weak(), strong=big, router=ScriptedRouter(HARD), **settings) as controller:
            assert not controller.route(ASKED).would_escalate, settings
            assert controller.route("Why is it refused?").would_escalate, settings
