"""Answers that are given again: to whom, in place of which model, and what is kept of them where."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edge_router.api.async_client import AsyncController
from edge_router.api.client import Controller
from edge_router.chat.events import (
    Answering,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
)
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.config.settings import Config
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import (
    Blocked,
    DiskFull,
    EdgeRouterError,
    GenerationFailed,
    InvalidData,
    InvalidRequest,
    LockTimeout,
    StrongUnreachable,
)
from edge_router.ledger import Ledger
from edge_router.response_cache.store import AnswerStore, Entry
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.system.paths import Paths
from edge_router.types import Reason

EASY, HARD = 0.1, 0.9
ON = {"response_cache.mode": "memory"}


def weak(*replies: Reply, **more: object) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="small", **more)  # type: ignore[arg-type]


def strong(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="big")


Make = Callable[..., Controller]


@pytest.fixture
def make() -> Iterator[Make]:
    """make(score, weak=..., strong=..., **settings): a controller that keeps answers in memory."""
    made: list[Controller] = []

    def make(score: float = EASY, **given: object) -> Controller:
        engines = {name: given.pop(name) for name in ("weak", "strong") if name in given}
        settings = {name.replace("__", "."): value for name, value in given.items()}
        config = Config().replace(**{**ON, **settings})
        engines.setdefault("weak", weak())
        made.append(Controller(config, router=ScriptedRouter(score), **engines))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(controller: Controller, text: str = "hi", **fields: object) -> tuple[str, str]:
    reply = controller.chat.completions.create(messages=text, **{"temperature": 0, **fields})  # type: ignore[call-overload]
    return reply.text, reply.decision.reason


def test_the_same_is_answered_once(make: Make, paths: Paths) -> None:
    small = weak("one", "two")
    controller = make(weak=small)
    first = controller.chat.completions.create(messages="hi", temperature=0)
    again = controller.chat.completions.create(messages="hi", temperature=0)
    assert (first.text, first.decision.reason, first.decision.age_s) == ("one", Reason.SCORE, None)
    assert (again.text, again.model, again.decision.reason) == ("one", "small", Reason.CACHED)
    assert again.decision.age_s is not None and 0 <= again.decision.age_s < 60
    assert {"reason": "cached", "age_s": again.decision.age_s}.items() <= again.decision.to_dict().items()
    assert (again.usage.prompt_tokens, again.usage.completion_tokens) == (1, 1)
    assert again.usage.prompt_tokens_details.cached_tokens == 1
    assert again.id != first.id and len(small.calls) == 1
    assert ask(controller, "hello") == ("two", "score")
    assert [each.decision.reason for each in Ledger(paths.ledger).recent()] == ["score", "cached", "score"]
    assert not paths.responses.exists()


def test_it_is_off_unless_somebody_switches_it_on(make: Make, paths: Paths) -> None:
    controller = make(weak=weak("one", "two"), response_cache__mode="off")
    assert [ask(controller)[0], ask(controller)[0]] == ["one", "two"]
    assert not paths.responses.exists()


def test_whatever_changes_an_answer_asks_anew(make: Make) -> None:
    """And what changes none does not."""
    small = weak(default=lambda request: f"answer {len(small.calls)}")
    controller = make(weak=small)
    for fields in (
        {},
        {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}]},
        {"messages": [{"role": "user", "content": "hi", "name": "ann"}]},
        {"max_tokens": 50},
        {"stop": ["x"]},
        {"seed": 1},
        {"top_p": 0.5},
        {"frequency_penalty": 1},
        {"response_format": {"type": "json_object"}},
        {"reasoning_effort": "high"},
        {"model": "weak"},
        {"model": "router-scripted"},
        {"verbosity": "low"},
    ):
        fields = {"messages": "hi", "temperature": 0, **fields}
        create = controller.chat.completions.create
        before = len(small.calls)
        told = [create(**fields).decision.reason for _ in range(2)]  # type: ignore[call-overload]
        expected = 0 if fields.get("model") == "router-scripted" else 1  # it is what auto means
        assert (len(small.calls) - before, told[1]) == (expected, "cached"), fields
    before = len(small.calls)
    for same in ({"user": "ann"}, {"metadata": {"n": "1"}}, {"private": True}, {"model": "auto"}):
        assert ask(controller, **same)[1] == "cached", same
    assert len(small.calls) == before


def test_what_was_rated_down_is_not_said_again(make: Make) -> None:
    controller = make(weak=weak("bad", "good"))
    request = ChatRequest((Message("user", "hi"),), sampling=SamplingParams(0))
    for rating, expected in ((1, "bad"), (-1, "bad"), (1, "good"), (1, "good")):
        answer = controller.start(request)
        assert "".join(each.text for each in answer if isinstance(each, TextDelta)) == expected
        assert answer.record_id is not None
        controller.rate(answer.record_id, rating)  # type: ignore[arg-type]


def test_nobody_gets_what_another_caller_asked_for(make: Make) -> None:
    callers = {"callers__ann__models": (), "callers__bob__models": ()}
    controller = make(weak=weak("one", "two", "three"), **callers)
    told = []
    for caller in ("ann", "bob", None, "ann", "bob", None):
        request = ChatRequest((Message("user", "hi"),), sampling=SamplingParams(0), caller=caller)
        told.append("".join(e.text for e in controller.start(request) if isinstance(e, TextDelta)))
    assert told == ["one", "two", "three"] * 2


def test_what_is_not_sure_to_come_again_is_kept_only_where_asked_for(make: Make) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    far = [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    rows: tuple[tuple[dict[str, object], bool, dict[str, object]], ...] = (
        ({"temperature": None}, True, {"response_cache__sampled": True}),
        ({"temperature": 0.7}, True, {"response_cache__sampled": True}),
        ({"temperature": 0.7, "top_k": 1}, True, {}),
        ({"tools": tools}, True, {"response_cache__tools": True}),
        ({"messages": [{"role": "user", "content": picture}]}, True, {}),
        ({"messages": [{"role": "user", "content": far}]}, False, {}),
        ({"logprobs": True}, False, {}),
        ({"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}, False, {}),
        ({"web_search_options": {}}, False, {}),
    )
    for fields, asked, settings in rows:
        for wish, more, expected in (
            (None, {}, fields.get("top_k") == 1),
            ("use", {}, asked),
            (None, settings, bool(settings) or fields.get("top_k") == 1),
        ):
            controller = make(**more)
            given = {"messages": "hi", "temperature": 0, **fields, "response_cache": wish}
            create = controller.chat.completions.create
            told = [create(**given).decision.reason for _ in range(2)]  # type: ignore[call-overload]
            assert (told[1] == "cached") is expected, (fields, wish, more, told)


def test_a_request_says_what_it_wants(make: Make) -> None:
    controller = make(weak=weak(*"abcdef"))
    for wish, said in (
        ("no-store", "a"),
        (None, "b"),
        (None, "b"),
        ("no-store", "c"),
        (None, "b"),
        ("no-cache", "d"),
        (None, "d"),
        ("max-age=3600", "d"),
        ("max-age=0, no-store", "e"),
        ("NO-CACHE , max-age=5", "f"),
    ):
        assert ask(controller, response_cache=wish)[0] == said, wish
    for wrong in ("nostore", "max-age=x", "private=no", "no-cache no-store"):
        with pytest.raises(InvalidRequest, match="response_cache"):
            ask(controller, response_cache=wrong)


def test_only_what_ended_whole_is_kept(make: Make) -> None:
    """Everything else is asked anew."""
    for reply, kept in (
        ("fine", True),
        ([ReasoningDelta("hm "), "so"], True),
        (["cut ", Finished("length")], False),
        (["going round ", Finished("length", looped=True)], False),
        (["filtered", Finished("content_filter")], False),
        ([RefusalDelta("I won't.")], False),
        ([ToolCallStart(0, "c", "f"), ToolCallArguments(0, "{}"), Finished("tool_calls")], True),
        ("", False),
        ([ReasoningDelta("only thoughts")], False),
        (["half", GenerationFailed("tvm", "boom")], False),
    ):
        controller = make(weak=weak(reply, default="anew"))
        with suppress(GenerationFailed):
            ask(controller)
        again = ask(controller)
        assert (again[1] == "cached") is kept, reply
        assert kept or again[0] == "anew", reply


def test_what_its_reader_left_is_not_kept(make: Make) -> None:
    controller = make(weak=weak(["one ", "two ", "three"], ["one ", "two ", "three"], default="anew"))
    with controller.chat.completions.create(messages="hi", temperature=0, stream=True) as stream:
        next(stream)
    assert ask(controller)[0] == "one two three"
    cancel = threading.Event()
    stream = controller.chat.completions.create(messages="other", temperature=0, stream=True, cancel=cancel)
    next(stream)
    cancel.set()
    assert len(list(stream)) < 3
    assert ask(controller, "other") == ("anew", "score")


def test_a_shortened_conversation_is_not_kept(make: Make) -> None:
    small = weak(context_window_size=10)
    controller = make(weak=small)
    messages = [{"role": "user", "content": "a b c d e f g"}] * 3
    create = controller.chat.completions.create
    assert [create(messages=messages, temperature=0).decision.reason for _ in range(2)] == ["score"] * 2


def test_it_streams_again_in_pieces(make: Make) -> None:
    text = "A longer answer, so that it comes in more than one piece when it is given again."
    said = [ReasoningDelta("Let me "), ReasoningDelta("think."), *(f"{word} " for word in text.split())]
    controller = make(weak=weak(said, default="anew"))
    request = ChatRequest((Message("user", "hi"),), sampling=SamplingParams(0))
    first, again = (list(controller.start(request)) for _ in range(2))

    def of(kind: type, events: list[object]) -> str:
        return "".join(event.text for event in events if isinstance(event, kind))  # type: ignore[attr-defined]

    for kind in (ReasoningDelta, TextDelta):
        assert of(kind, first) == of(kind, again) != ""
    assert len([event for event in again if isinstance(event, TextDelta)]) >= 3
    assert isinstance(again[-1], Finished) and again[-1].reason == "stop"
    stream = controller.chat.completions.create(messages="hi", temperature=0, stream=True)
    assert stream.decision.reason is Reason.CACHED
    assert len([chunk for chunk in stream if chunk.choices[0].delta.content]) >= 3


def test_tool_calls_come_again(make: Make) -> None:
    call = [ToolCallStart(0, "c1", "f"), ToolCallArguments(0, '{"a":'), ToolCallArguments(0, "1}")]
    controller = make(weak=weak([*call, Finished("tool_calls")]), response_cache__tools=True)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    for reason in ("score", "cached"):
        reply = controller.chat.completions.create(messages="hi", temperature=0, tools=tools)
        assert reply.decision.reason == reason
        (made,) = reply.choices[0].message.tool_calls
        assert (made.id, made.function.name, made.function.arguments) == ("c1", "f", '{"a":1}')
        assert reply.choices[0].finish_reason == "tool_calls"


def test_the_threshold_that_holds_now_decides(make: Make, paths: Paths) -> None:
    """An answer of the weak model serves where that would answer now, one of the strong model always."""

    def told(score: float, threshold: float, **settings: object) -> tuple[str, str]:
        controller = make(
            score, weak=weak("W"), strong=strong("S"), router__threshold=threshold, **settings, **SHARED
        )
        found = ask(controller, str(score))
        controller.close()
        return found

    SHARED = {"response_cache__mode": "disk"}
    assert told(0.4, 0.5) == ("W", "score")
    assert told(0.4, 0.45) == ("W", "cached")
    assert told(0.4, 0.3) == ("S", "score")  # which takes its place
    assert told(0.4, 0.5) == ("S", "cached")
    assert told(0.4, 0.5, offline=True) == ("S", "cached")
    assert told(0.9, 0.5, offline=True) == ("W", "offline")
    assert told(0.9, 0.5, offline=True) == ("W", "cached")
    assert told(0.9, 0.5) == ("S", "score")


def test_what_stood_in_for_the_strong_model_is_not_said_again(make: Make) -> None:
    down = StrongUnreachable("http://example", "no route")
    controller = make(HARD, weak=weak("W"), strong=strong(down, "S"))
    assert ask(controller) == ("W", "strong_unavailable")
    assert ask(controller) == ("S", "score")
    assert ask(controller) == ("S", "cached")


def test_another_model_or_setting_answers_anew(make: Make) -> None:
    def told(small: ScriptedEngine, **settings: object) -> str:
        controller = make(weak=small, response_cache__mode="disk", **settings)
        found = ask(controller)[1]
        controller.close()
        return found

    assert told(weak()) == "score"
    assert told(weak()) == "cached"
    assert told(ScriptedEngine(model_id="other")) == "score"
    assert told(ScriptedEngine(model_id="other"), weak__thinking=True) == "score"
    assert told(ScriptedEngine(model_id="other"), weak__thinking=True, weak__threads=3) == "cached"
    kept = weak()
    kept.capabilities = ScriptedEngine().capabilities.__class__(weights="other weights")
    assert told(kept) == "score"


RULES = """
[[rule]]
name = "bombs"
words = "bomb"
then = "block"
[[rule]]
name = "customers"
words = "acme"
then = "local_only"
"""


def test_rules_and_the_guard_stand_before_it(make: Make, paths: Paths) -> None:
    def controller(**settings: object) -> Controller:
        return make(HARD, weak=weak("W"), strong=strong("S"), response_cache__mode="disk", **settings)

    for text in ("a bomb", "acme", "ann@example.org"):
        assert ask(controller(), text) == ("S", "score"), text
    paths.rules.write_text(RULES, encoding="utf-8")
    for _ in range(2):
        with pytest.raises(Blocked):
            ask(controller(), "a bomb")
    assert ask(controller(), "acme") == ("W", "rule")
    assert ask(controller(), "acme") == ("W", "cached")
    for _ in range(2):
        assert ask(controller(guard__emails="local"), "ann@example.org")[0] == "W"


def test_a_hit_costs_nothing(make: Make, paths: Paths) -> None:
    prices = {"strong__price_in": 1e6, "strong__price_out": 1e6, "strong__monthly_budget": 100.0}
    controller = make(HARD, strong=strong("S"), **prices)
    ask(controller)
    spending = controller.callers.budgets.common
    assert spending is not None
    spent = spending.spent
    assert spent > 0 and ask(controller) == ("S", "cached") and spending.spent == spent
    written = controller.metrics.render()
    assert 'edge_router_requests_total{tier="strong",reason="cached"} 1' in written
    assert 'edge_router_tokens_total{tier="strong",kind="completion"} 1\n' in written
    assert 'edge_router_response_cache_lookups_total{result="hit"} 1' in written
    assert 'edge_router_response_cache_lookups_total{result="miss"} 1' in written
    assert "edge_router_response_cache_answers{} 1" in written


def test_what_is_on_disk_is_for_its_user_alone(make: Make, paths: Paths) -> None:
    controller = make(
        weak=weak("kept", "the key is sk-proj-" + "a1B2" * 12, "shown"), response_cache__mode="disk"
    )
    assert ask(controller, "private one", private=True)[0] == "kept"
    assert not paths.responses.exists()
    ask(controller, "a secret")
    assert AnswerStore(paths.responses).totals().answers == 0
    ask(controller, "plain")
    controller.close()
    if sys.platform != "win32":
        for file in (paths.responses, Path(f"{paths.responses}-wal")):
            if file.exists():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (entry,) = AnswerStore(paths.responses).entries()
    other = make(weak=weak("anew"), response_cache__mode="disk")
    assert ask(other, "plain", private=True)[1] == "cached"  # nothing leaves, nothing is written of it
    other.close()
    assert AnswerStore(paths.responses).entries() == [entry]
    content = paths.responses.read_bytes()
    assert b"private one" not in content and b"plain" not in content and b"sk-proj" not in content


class Embedding(ScriptedRouter):
    """Vectors by how many letters a text has."""

    space = "letters"

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, len(text) / 100] for text in texts])


def embedding(score: float = EASY, small: ScriptedEngine | None = None, **settings: object) -> Controller:
    config = Config().replace(**{**ON, "response_cache.similarity": 0.99, **settings})
    return Controller(config, router=Embedding(score), weak=small or weak(), strong=strong("S"))


FRANCE = ("What is the capital of France?", "what's the capital of france", "Tell me the capital of France!")


def test_nearly_the_same_is_answered_once(paths: Paths) -> None:
    small = weak(default=lambda request: f"answer {len(small.calls)}")
    with embedding(small=small, **{"response_cache.mode": "disk"}) as controller:
        told = [controller.chat.completions.create(messages=text, temperature=0) for text in FRANCE]
        assert [each.text for each in told] == ["answer 1"] * 3
        assert [each.decision.reason for each in told] == ["score", "cached", "cached"]
        assert told[0].decision.similarity is None
        assert all(0.99 <= (each.decision.similarity or 0) <= 1 for each in told[1:])
        assert (
            controller.chat.completions.create(messages=FRANCE[0], temperature=0).decision.similarity is None
        )
        assert ask(controller, "What is the capital of Spain?")[0] == "answer 2"
        far = "Hello! " * 40 + "Tell me the capital of France!"  # the same words, another vector
        assert ask(controller, far)[0] == "answer 3"
        written = controller.metrics.render()
        for result, count in (("hit", 1), ("similar", 2), ("miss", 3)):
            assert f'lookups_total{{result="{result}"}} {count}' in written


def test_all_else_has_to_be_the_very_same() -> None:
    one, other = FRANCE[:2]
    for fields in (
        {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": other}]},
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": other},
            ]
        },
        {"response_format": {"type": "json_object"}},
        {"max_tokens": 9},
        {"model": "weak"},
        {"response_cache": "no-cache"},
        {"response_cache": "no-store"},
    ):
        with embedding() as controller:
            assert ask(controller, one)[1] == "score"
            given = {"messages": other, "temperature": 0, **fields}
            reply = controller.chat.completions.create(**given)  # type: ignore[call-overload]
            assert reply.decision.reason != "cached", fields
            assert ask(controller, other)[1] == "cached"
    with embedding(**{"response_cache.similarity": None}) as controller:
        assert [ask(controller, text)[1] for text in (one, other)] == ["score", "score"]


def test_it_is_not_said_where_the_strong_model_would_answer() -> None:
    router = Embedding(lambda text: HARD if text == FRANCE[1] else EASY)
    config = Config().replace(**{**ON, "response_cache.similarity": 0.9})
    with Controller(config, router=router, weak=weak("W", "V"), strong=strong("S")) as controller:
        assert ask(controller, FRANCE[0]) == ("W", "score")
        assert ask(controller, FRANCE[1]) == ("S", "score")
        assert ask(controller, FRANCE[2]) in (("W", "cached"), ("S", "cached"))


def test_a_router_without_vectors_is_told_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    controller = make(response_cache__similarity=0.9)
    assert [ask(controller, text)[1] for text in FRANCE] == ["score"] * 3
    assert caplog.text.count("has no effect with the router scripted: it makes no vectors of texts") == 1


@pytest.mark.integration
def test_the_shipped_router_makes_vectors() -> None:
    config = Config().replace(**{**ON, "response_cache.similarity": 0.8})
    with Controller(config, weak=weak("one"), strong=strong("S")) as controller:
        assert ask(controller, FRANCE[0], model="router-mf-1")[1] == "score"
        for text in FRANCE[1:]:
            assert ask(controller, text, model="router-mf-1") == ("one", "cached"), text
        assert ask(controller, "What is the capital of Spain?", model="router-mf-1")[1] == "score"


class Broken(AnswerStore):
    """What may break, breaks; `what` says how."""

    what: Exception = ValueError("a mistake")

    def find(self, key: str, *, max_age_s: float | None = None) -> Entry | None:
        raise self.what

    put = touch = find  # type: ignore[assignment]


def test_whatever_breaks_costs_no_answer_and_is_told_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for what, said in (
        (DiskFull(Path("x")), "the response cache is not used"),
        (InvalidData("x", "is damaged"), "the response cache is not used"),
        (LockTimeout(Path("x"), 2.0), "the response cache is not used"),
        (ValueError("a mistake"), "ERROR    edge_router.defects"),
    ):
        caplog.clear()
        controller = make(weak=weak("a", "b", "c"))
        assert controller._responses is not None
        store = controller._responses.store = Broken(None)
        store.what = what
        assert [ask(controller)[0] for _ in range(3)] == ["a", "b", "c"], what
        assert caplog.text.count(said) == 1, (what, caplog.text)


def test_a_row_that_cannot_be_read_is_made_anew(make: Make, paths: Paths) -> None:
    controller = make(weak=weak("a", "b", "c"), response_cache__mode="disk")
    ask(controller)
    with sqlite3.connect(paths.responses) as connection:
        connection.execute('UPDATE answers SET events = \'[[["text"]],["stop",null,null]]\'')
    connection.close()
    assert ask(controller) == ("b", "score")
    controller.close()
    again = make(weak=weak("d", "e"), response_cache__mode="disk")
    assert [ask(again), ask(again)] == [("d", "score"), ("d", "cached")]
    assert again._responses is not None and not again._responses.rests


def test_many_at_once_mix_nothing_up(make: Make) -> None:
    controller = make(
        weak=weak(default=lambda request: f"for {request.messages[-1].text}"), response_cache__mode="disk"
    )
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda number: (number % 5, ask(controller, f"q{number % 5}")), range(100)))
    assert all(text == f"for q{number}" for number, (text, _) in told)
    assert {reason for _, (_, reason) in told} == {"score", "cached"}


def test_an_answer_that_ends_after_closing_writes_nothing(make: Make, paths: Paths) -> None:
    controller = make(weak=weak("one two"), response_cache__mode="disk")
    answer = controller.start(ChatRequest((Message("user", "hi"),), sampling=SamplingParams(0)))
    next(answer)
    controller.close()
    with suppress(EdgeRouterError):
        list(answer)
    assert not paths.responses.exists()


def test_asyncio(make: Make) -> None:
    async def asked() -> list[tuple[str, str]]:
        async with AsyncController(make(weak=weak("one two three"))) as controller:
            found = []
            for stream in (False, True, True):
                create = controller.chat.completions.create
                given = await create(messages="hi", temperature=0, stream=stream)  # type: ignore[call-overload]
                if stream:
                    text = "".join([chunk.choices[0].delta.content or "" async for chunk in given])
                else:
                    text = given.text
                found.append((text, given.decision.reason))
            refreshed = await controller.chat.completions.create(
                messages="hi", temperature=0, response_cache="no-cache"
            )
            return [*found, (refreshed.text, refreshed.decision.reason)]

    assert asyncio.run(asked()) == [
        ("one two three", "score"),
        ("one two three", "cached"),
        ("one two three", "cached"),
        ("You said: hi", "score"),
    ]


def test_of_several_strong_models_the_one_that_the_score_chooses() -> None:
    router = ScriptedRouter(0.5, name="mf")
    names = ("mid", "top")
    endpoints = {f"endpoints.{name}.models": [f"model-{name}"] for name in names}
    endpoints |= {f"endpoints.{name}.base_url": "http://127.0.0.1:9" for name in names}

    def controller(at: float, stands_in: bool = False) -> Controller:
        tiers = f"0:weak, {at}:mid, {at + 0.3}:top"
        config = Config().replace(**{"response_cache.mode": "disk", "tiers": tiers, **endpoints})
        said = "top" if at < 0.2 or stands_in else "mid"
        big = ScriptedEngine([Answering(f"model-{said}", said), f"from {said}"], model_id="big")
        return Controller(config, router=router, weak=weak("W"), strong=big)

    for at, expected in (
        (0.3, ("from mid", "score")),
        (0.3, ("from mid", "cached")),
        (0.6, ("from mid", "cached")),  # the weak model would answer: this is no worse
        (0.1, ("from top", "score")),
        (0.1, ("from top", "cached")),
        (0.3, ("from mid", "score")),  # one of another model is not what is wanted
    ):
        with controller(at) as made:
            assert ask(made) == expected, at
    for text in ("a", "b"):  # what another said in its place
        with controller(0.3, stands_in=True) as made:
            assert made.chat.completions.create(messages=text, temperature=0).decision.tier_model == "mid"
        with controller(0.3) as made:
            assert ask(made, text) == ("from mid", "score"), text


@pytest.mark.integration
def test_a_compiled_model_is_known_by_its_weights_before_it_is_loaded(built_home: Path) -> None:
    paths = Paths.under(built_home)
    config = Config().replace(**{"response_cache.mode": "disk", "offline": True})
    told = []
    for settings in ({}, {}, {"weak.context_window_size": 512}):
        with Controller(config.replace(**settings), router=ScriptedRouter(EASY), paths=paths) as controller:
            reply = controller.chat.completions.create(messages="Say yes.", temperature=0, max_tokens=40)
            told.append((reply.text, reply.decision.reason, controller._pool.loaded_weak is None))
    assert told[0][0] == told[1][0] == told[2][0] != ""
    assert [(reason, cold) for _, reason, cold in told] == [
        ("score", False),
        ("cached", True),
        ("score", False),
    ]
    paths.responses.unlink()
