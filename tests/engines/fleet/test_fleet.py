"""Several endpoints as one strong model, over sockets: one after the other fails, and nobody notices."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest

from edge_router.chat.events import Answering, Event, Finished, TextDelta
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.config.settings import Config
from edge_router.engines.base import answered
from edge_router.engines.fleet.engine import FleetEngine, load
from edge_router.engines.remote.keys import find_key
from edge_router.errors import (
    Cancelled,
    EngineUnavailable,
    StrongError,
    StrongFailed,
    StrongInterrupted,
    StrongPaused,
    StrongRateLimited,
    StrongRefused,
    StrongUnreachable,
)
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

NAMES = ("a", "b", "c")
Make = Callable[..., FleetEngine]


def reply_text(prompt: str) -> str:
    return f"strong: {prompt} · ça va\u2028end"


@pytest.fixture
def make(paths: Paths) -> Iterator[Make]:
    """make(url, ..., endpoints_a_weight=2, strong_strategy="weighted"): fleets that are closed in the end."""
    with ExitStack() as stack:

        def make(*urls: str, **settings: Any) -> FleetEngine:
            found: dict[str, object] = {"strong.timeout_s": 3.0, "strong.max_retries": 0}
            for name, url in zip(NAMES, urls, strict=False):
                found |= {f"endpoints.{name}.base_url": url, f"endpoints.{name}.models": [f"model-{name}"]}
            for name, value in settings.items():
                section, _, rest = name.partition("_")
                rest = rest.replace("_", ".", 1) if section == "endpoints" else rest
                found[f"{section}.{rest}"] = value
            engine = load(Config().replace(**found), paths, SilentProgress())
            assert isinstance(engine, FleetEngine)
            return stack.enter_context(closing(engine))

        yield make


def ask(text: str = "hi", **fields: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **fields)


def run(engine: FleetEngine, request: ChatRequest | None = None) -> tuple[str, str]:
    """Who answered, and what."""
    who, *events = answered(engine, request or ask(), threading.Event())
    assert isinstance(who, Answering) and not any(isinstance(event, Answering) for event in events)
    assert isinstance(events[-1], Finished)
    return who.endpoint, collect(events).text.strip()


def failed(engine: FleetEngine, request: ChatRequest | None = None) -> Exception:
    with pytest.raises((StrongError, EngineUnavailable)) as caught:
        run(engine, request)
    return caught.value


def states(engine: FleetEngine) -> dict[str, str]:
    return {each.name: each.state for each in engine.endpoints}


SCRIPTS = (
    *("400", "401", "403", "404", "408", "413", "429", "429-600", "500", "503", "quota", "unknown"),
    *("silent", "stall-0", "cut-0", "end-0", "error-0", "drop", "empty", "nothttp", "moved"),
    *("html", "badjson", "notutf8", "shape", "text", "halfjson", "cutjson"),
)


def raw(head: bytes, *pieces: bytes, forever: bool = False) -> Callable[[Callable[[bytes], None], int], None]:
    def handler(write: Callable[[bytes], None], _: int) -> None:
        write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n\r\n")
        for piece in itertools.cycle(pieces) if forever else pieces:
            write(piece)
            time.sleep(0.01 if forever else 0)

    return handler


def endless(head: bytes, piece: bytes) -> Callable[[Callable[[bytes], None], int], None]:
    """What never comes to the end of its headers, or of its first event."""

    def handler(write: Callable[[bytes], None], _: int) -> None:
        write(b"HTTP/1.1 200 OK\r\n" + head)
        while True:
            write(piece)
            time.sleep(0.01)

    return handler


STREAM = b"Content-Type: text/event-stream"
RAW = {
    "endless comments": raw(STREAM, b": still here\n\n", forever=True),
    "endless nothing": raw(STREAM, b'data: {"choices": [{"delta": {"content": ""}}]}\n\n', forever=True),
    "endless JSON": raw(b"Content-Type: application/json", b'{"choices": [', b" " * 9, forever=True),
    "endless headers": endless(b"", b"X-More: 1\r\n"),
    "slow, a byte at a time": endless(STREAM + b'\r\n\r\ndata: {"choices": [', b" "),
    "no type": raw(b"X-Other: 1", b'data: {"choices": ['),
    "cut in mid-character": raw(STREAM, 'data: {"choices": [{"delta": {"content": "ç'.encode()[:-1]),
    "a picture": raw(b"Content-Type: image/png", b"\x89PNG\r\n"),
    "another length": raw(STREAM + b"\r\nContent-Length: 99", b"data: {"),
}


def test_a_fault_of_one_of_three_reaches_nobody(
    make: Make, strong_server: Any, endpoint: Any, refused_url: str
) -> None:
    """Each asked first, alone, with a second one that fails, and with one that is asked where it is silent;
    the answer is there once, and whole."""
    good = strong_server.url("ok")
    urls = {script: strong_server.url(script) for script in SCRIPTS}
    urls |= {name: endpoint(handler).url for name, handler in RAW.items()} | {"refused": refused_url}
    patient = {"strong_max_retries": 2, "strong_timeout_s": 4.0}
    fleets = {name: make(url, good, good, **patient) for name, url in urls.items()}
    fleets |= {
        f"{name}, and 500": make(url, strong_server.url("500"), good, **patient) for name, url in urls.items()
    }
    soon = {**patient, "strong_hedge": True, "strong_hedge_after_ms": 150}
    fleets |= {f"{name}, hedged": make(url, good, good, **soon) for name, url in urls.items()}
    with ThreadPoolExecutor(16) as pool:
        found = dict(zip(fleets, pool.map(lambda each: run(each), fleets.values()), strict=True))
    for name, (who, text) in found.items():
        assert text == reply_text("hi"), (name, who)
        # On a busy machine the first good one may be too slow, too.
        assert who in ({"c"} if "and 500" in name else {"b", "c"}), name


def test_once_it_has_begun_an_answer_is_nobody_elses(make: Make, strong_server: Any) -> None:
    for script in ("cut-2", "end-2", "error-2", "stall-2"):
        fleet, shown = make(strong_server.url(script), strong_server.url("ok")), []
        with pytest.raises(StrongInterrupted):
            for event in answered(fleet, ask(), threading.Event()):
                shown.append(event)
        assert isinstance(shown[0], Answering) and shown[0].endpoint == "a", script
        assert "".join(each.text for each in shown if isinstance(each, TextDelta)) == "strong: hi ", script


def test_a_key_goes_to_its_own_address_only(
    make: Make, strong_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has none, one its own, one is asked for it and points elsewhere; nobody gets OpenAI's."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai-0123456789")
    monkeypatch.setenv("KEY_B", "sk-of-b-0123456789")
    monkeypatch.setenv("KEY_C", "sk-of-c-0123456789")
    fleet = make(
        strong_server.url("401"),
        strong_server.url("moved"),
        strong_server.url("echo"),
        endpoints_b_api_key_env="KEY_B",
        endpoints_c_api_key_env="KEY_C",
    )
    error = failed(fleet)
    assert isinstance(error, StrongFailed) and "sk-of" not in f"{error!r} {error.__cause__!r}"
    sent = [
        (each["path"].split("/")[1], each["headers"]["authorization"]) for each in strong_server.requests()
    ]
    assert sent == [
        ("401", "Bearer none"),
        ("moved", "Bearer sk-of-b-0123456789"),
        ("echo", "Bearer sk-of-c-0123456789"),
    ]


def test_openais_key_is_for_openai_unless_said_otherwise(paths: Paths) -> None:
    from edge_router.engines.fleet.endpoints import strong_endpoints

    config = Config().replace(
        **{
            "strong.model": "own",
            "strong.base_url": "http://127.0.0.1:1/v1",
            "strong.api_key_env": "KEY_OWN",
            "endpoints.a.models": ["x"],
            "endpoints.b.models": ["x"],
            "endpoints.b.base_url": "http://127.0.0.1:2/v1",
            "endpoints.c.models": ["x", "y"],
            "endpoints.c.base_url": "https://api.openai.com.example.org/v1",
        }
    )
    found = {each.name: each for each in strong_endpoints(config)}
    assert {name: each.settings.api_key_env for name, each in found.items() if each.keyed} == {
        "strong": "KEY_OWN",
        "a": "OPENAI_API_KEY",
    }
    assert find_key(found["a"].settings, environ={"OPENAI_API_KEY": "k"})


def test_one_that_keeps_failing_is_left_alone(make: Make, strong_server: Any) -> None:
    fleet = make(strong_server.url("500"), strong_server.url("ok"))
    assert states(fleet) == {"a": "ready", "b": "ready"}
    assert [run(fleet)[0] for _ in range(6)] == ["b"] * 6
    asked = Counter(each["path"].split("/")[1] for each in strong_server.requests())
    assert asked == {"500": 3, "ok": 6}
    assert states(fleet) == {"a": "failing", "b": "ready"}


def test_a_429_cools_its_endpoint(make: Make, strong_server: Any) -> None:
    fleet = make(strong_server.url("429-600"), strong_server.url("ok"))
    assert [run(fleet)[0] for _ in range(3)] == ["b"] * 3
    assert len([each for each in strong_server.requests() if "429" in each["path"]]) == 1
    first, second = fleet.endpoints
    assert (first.state, second.state) == ("cooling", "ready") and 500 < (first.again_s or 0) <= 600
    alone = make(strong_server.url("429-600"))
    assert isinstance(failed(alone), StrongRateLimited)
    paused = failed(alone)
    assert isinstance(paused, StrongPaused) and 500 < (paused.retry_after or 0) <= 600


def test_where_all_fail_the_last_error_is_told_then_that_they_rest(make: Make, strong_server: Any) -> None:
    fleet = make(strong_server.url("401"), strong_server.url("quota"))
    assert type(failed(fleet)).__name__ == "StrongQuotaExceeded"
    paused = failed(fleet)
    assert isinstance(paused, StrongPaused) and "StrongUnauthorized" in str(paused)
    assert len(strong_server.requests()) == 2


def test_a_failure_names_the_settings_of_its_own_endpoint(
    make: Make, strong_server: Any, refused_url: str
) -> None:
    urls = {
        "unreachable": refused_url,
        **{each: strong_server.url(each) for each in ("401", "html", "moved")},
    }
    for url in urls.values():
        fleet = make(url, strong_server.url("400"))
        error = failed(fleet, ask(target="a"))
        assert isinstance(error, StrongError) and error.section == "endpoints.a", error
        assert getattr(failed(fleet), "section", None) == "endpoints.b"  # the last that was asked


def test_where_all_fail_they_are_asked_again(make: Make, strong_server: Any) -> None:
    """None twice while there is one that was not asked yet, and no longer than the settings say."""
    urls = [strong_server.url(script) for script in ("flaky-2-500+ok", "flaky-1-503+ok")]
    assert run(make(*urls, strong_max_retries=2))[0] == "b"
    asked = [each["path"].split("/")[1] for each in strong_server.requests()]
    assert asked[:2] == ["flaky-2-500+ok", "flaky-1-503+ok"] and asked[2:] in (asked[:2], asked[1:2])
    for script, times in (("500", 3), ("429", 3), ("413", 1), ("401", 1), ("html", 1), ("429-600", 1)):
        strong_server.forget()
        assert isinstance(failed(make(strong_server.url(script), strong_max_retries=2)), StrongError)
        assert len(strong_server.requests()) == times, script


def test_what_one_refuses_another_may_take(make: Make, strong_server: Any) -> None:
    """It is no fault of the endpoint; where none takes it, the refusal is told."""
    fleet = make(strong_server.url("unknown"), strong_server.url("ok"))
    assert [run(fleet)[0] for _ in range(5)] == ["b"] * 5 and states(fleet)["a"] == "ready"
    assert isinstance(failed(make(strong_server.url("unknown"), strong_server.url("unknown"))), StrongRefused)


def test_a_request_may_name_endpoint_model_or_tag(make: Make, strong_server: Any) -> None:
    ok = strong_server.url("ok")
    settings = {
        "endpoints_b_tags": ["eu"],
        "endpoints_c_tags": ["eu"],
        "endpoints_c_models": ["big", "small"],
    }
    fleet = make(ok, strong_server.url("500"), ok, **settings)
    rows = (
        ("auto", "a", "model-a"),
        ("strong", "a", "model-a"),
        ("router-mf-0.5", "a", "model-a"),
        ("a", "a", "model-a"),
        ("c", "c", "big"),
        ("small", "c", "small"),
        ("small:latest", "c", "small"),
        ("eu", "c", "big"),  # b fails
    )
    for target, endpoint, model in rows:
        assert run(fleet, ask(target=target))[0] == endpoint, target
        assert strong_server.requests()[-1]["body"]["model"] == model, target
    assert isinstance(failed(fleet, ask(target="model-b")), StrongFailed)  # and nobody else was asked


def test_where_one_cannot_answer_the_alternatives_are_asked_in_their_order(
    make: Make, strong_server: Any
) -> None:
    ok, broken = strong_server.url("ok"), strong_server.url("500")
    for urls, target, alternatives, endpoint in (
        ((ok, ok, ok), "b", ("c", "a"), "b"),
        ((ok, broken, ok), "b", ("c", "a"), "c"),
        ((ok, broken, broken), "b", ("c", "a"), "a"),
        ((ok, ok, ok), "b", (), "b"),
    ):
        found = run(make(*urls), ask(target=target, alternatives=alternatives))
        assert found == (endpoint, reply_text("hi")), (urls, target)
    alone = make(ok, broken)
    assert isinstance(failed(alone, ask(target="b")), StrongFailed)  # who named it gets no other
    for among, endpoint in ((("c",), "c"), (("model-a",), "a"), (("a", "c"), "c")):
        may = ask(target="b", alternatives=("c",), lesser=("a",), among=among)  # what its caller may use
        assert run(make(ok, ok, ok), may)[0] == endpoint, among
    for reader, wanted, above, below, endpoint in (
        ("c", "a", ("b", "c"), (), "c"),  # who has read the conversation is above: nothing to gain
        ("a", "b", ("c",), ("a",), "b"),  # ... is below what is wanted now
        ("a", "b", ("c", "a"), (), "a"),  # ... has called a tool
    ):
        known = Answering(f"model-{reader}", reader)
        asked = ask(target=wanted, alternatives=above, lesser=below, reader=known)
        assert run(make(ok, ok, ok), asked)[0] == endpoint, (reader, wanted)


def test_who_is_asked(make: Make, strong_server: Any) -> None:
    ok, draws = strong_server.url("ok"), itertools.cycle((0.1, 0.9))
    cheap = make(ok, ok, strong_strategy="cheapest", endpoints_a_price_in=2.0, endpoints_b_price_in=1.0)
    assert run(cheap)[0] == "b"
    drawn = make(ok, ok, strong_strategy="weighted")
    drawn._draw = lambda: next(draws)
    assert [run(drawn)[0] for _ in range(4)] == ["a", "b", "a", "b"]
    busy = make(strong_server.url("stall-1"), strong_server.url("stall-1"), strong_strategy="least_busy")
    streams = [answered(busy, ask(), threading.Event()) for _ in range(4)]
    assert [next(each).endpoint for each in streams] == ["a", "b", "a", "b"]  # type: ignore[union-attr]
    assert [each.in_flight for each in busy.endpoints] == [2, 2]


def test_one_at_its_limit_leaves_it_to_others_then_is_waited_for(make: Make, strong_server: Any) -> None:
    slow, ok = strong_server.url("stall-1"), strong_server.url("ok")
    fleet = make(slow, ok, endpoints_a_concurrency=1)
    cancel = threading.Event()
    first = answered(fleet, ask(), cancel)
    assert next(first).endpoint == "a"  # type: ignore[union-attr]
    assert run(fleet)[0] == "b"
    alone = make(strong_server.url("slow"), endpoints_a_concurrency=1)
    with ThreadPoolExecutor(2) as pool:
        assert {text for _, text in pool.map(lambda _: run(alone), range(2))} == {reply_text("hi")}
    counted = make(ok, endpoints_a_requests_per_minute=1)
    run(counted)
    paused = failed(counted)  # a minute is too long to wait
    assert isinstance(paused, StrongPaused) and 0 < (paused.retry_after or 0) <= 60
    cancel.set()
    with pytest.raises(Cancelled):
        list(first)


def test_what_must_stay_here_goes_nowhere(make: Make, strong_server: Any, paths: Paths) -> None:
    ok = strong_server.url("ok")
    assert "private" in str(failed(make(ok, ok), ask(private=True)))
    settings = {"endpoints.a.base_url": ok, "endpoints.a.models": ["m"], "offline": True}
    with closing(load(Config().replace(**settings), paths, SilentProgress())) as offline:
        assert isinstance(failed(offline), StrongUnreachable)  # type: ignore[arg-type]
    closed = make(ok, ok)
    closed.close()
    assert isinstance(failed(closed), EngineUnavailable | StrongError)
    assert strong_server.requests() == []


def test_nobody_is_blamed_for_an_answer_that_nobody_wanted(make: Make, strong_server: Any) -> None:
    fleet = make(strong_server.url("silent"), strong_timeout_s=3600)
    for _ in range(5):
        cancel = threading.Event()
        stream, errors = answered(fleet, ask(), cancel), list[BaseException]()

        def read(stream: Iterator[Event] = stream, errors: list[BaseException] = errors) -> None:
            try:
                list(stream)
            except Cancelled as error:
                errors.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        while not fleet.endpoints[0].in_flight:
            time.sleep(0.005)
        cancel.set()
        reader.join(30)
        assert errors
        while fleet.endpoints[0].in_flight:
            time.sleep(0.005)
    assert states(fleet) == {"a": "ready"}


def test_while_one_fails_after_the_other_no_answer_is_lost_or_mixed_up(
    make: Make, strong_server: Any
) -> None:
    """Fails: by 500, 429 and dropped connections, in turns of 60 requests."""
    urls = [strong_server.url(f"turn-{place}-3-60+ok") for place in range(3)]
    for strategy in ("first", "least_busy", "weighted"):
        strong_server.forget()
        fleet = make(*urls, strong_strategy=strategy, strong_max_retries=2, strong_timeout_s=30.0)
        texts = [f"question {number}" for number in range(240)]
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda text, fleet=fleet: run(fleet, ask(text)), texts))
        assert [text for _, text in found] == [reply_text(text) for text in texts], strategy
        assert len({endpoint for endpoint, _ in found}) > 1, strategy


def test_many_that_met_all_failing_lose_nothing_where_one_answers_again(
    make: Make, strong_server: Any
) -> None:
    """More at once than may be asked again, which is for endpoints that nobody is answered by."""
    urls = [strong_server.url(f"turn-{place}-3-25+ok") for place in range(3)]
    fleet = make(*urls, strong_max_retries=2, strong_timeout_s=30.0)
    texts = [f"question {number}" for number in range(80)]
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda text: run(fleet, ask(text)), texts))
    assert [text for _, text in found] == [reply_text(text) for text in texts]


def test_whoever_has_read_a_conversation_is_asked_first(make: Make, strong_server: Any) -> None:
    """While it works, whatever the strategy says, for the model that it was; never one that was not named."""
    urls = [strong_server.url("ok") for _ in NAMES]
    for strategy in ("first", "least_busy", "weighted", "cheapest"):
        engine = make(*urls, strong_strategy=strategy, endpoints_c_models=["model-c", "other-c"])
        for model, asked in (("other-c", "other-c"), ("gone", "model-c")):
            who, *_ = answered(engine, ask(reader=Answering(model, "c")), threading.Event())
            assert who == Answering(asked, "c"), strategy
        assert run(engine, ask(reader=Answering("model-c", "c"), target="a"))[0] == "a"
        assert run(engine, ask(reader=Answering("m", "gone")))[0] in NAMES
    settled = make(strong_server.url("ok"), strong_server.url("401"))
    home = ask(reader=Answering("model-b", "b"))
    assert [run(settled, home)[0] for _ in range(3)] == ["a"] * 3  # asked once, and no more
    assert states(settled) == {"a": "ready", "b": "failing"}
