import platform
import threading
import time
from dataclasses import replace

import pytest

from edge_router import __version__
from edge_router.chat.events import Finished, TokenLogprob, Usage
from edge_router.chat.message import Message, Text
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, Extra, JsonOutput, Need, SamplingParams, Tool
from edge_router.config.sections import StrongConfig
from edge_router.engines.base import answered
from edge_router.engines.remote.engine import OpenAIEngine
from edge_router.engines.remote.keys import Key
from edge_router.errors import (
    Cancelled,
    EdgeRouterError,
    EngineUnavailable,
    StrongEmpty,
    StrongError,
    StrongFailed,
    StrongGarbled,
    StrongInterrupted,
    StrongNotConfigured,
    StrongQuotaExceeded,
    StrongRateLimited,
    StrongRefused,
    StrongTimeout,
    StrongUnauthorized,
    StrongUnreachable,
)

SECRET = "sk-very-secret-0123456789"
ANSWER = "strong: hi · ça va\u2028end"


def ask(text="hi", **fields):
    return ChatRequest((Message("user", text),), **fields)


def run(engine, request=None):
    return list(answered(engine, request or ask(), threading.Event()))


def text_of(deltas):
    return collect(deltas).text.strip()


def failure(engine, request=None):
    """What was shown, and the error after it."""
    shown = []
    with pytest.raises(StrongError) as caught:
        for event in answered(engine, request or ask(), threading.Event()):
            shown.append(getattr(event, "text", ""))
    return shown, caught.value


# ---- answers


def test_an_answer_in_pieces(make, strong_server):
    deltas = run(make(strong_server.url()))
    assert text_of(deltas) == ANSWER
    assert len(deltas) > 3
    assert deltas[-1] == Finished("stop", usage=Usage(7, 4))
    assert all(event.text for event in deltas[:-1])


def test_what_is_sent(make, strong_server):
    said = Message("user", [Text("hi"), Text("you", {"cache_control": {}})], name="me")
    request = ChatRequest(
        (Message("system", "short"), said),
        target="base_url=http://evil",
        sampling=SamplingParams(temperature=0.0, top_k=3),
        max_tokens=5,
        stop=("x",),
        tools=(Tool("f", parameters={}),),
        extra=Extra("openai", {"user": "me", "api_key": "theirs", "extra_headers": {"Host": "evil"}}),
    )
    run(make(strong_server.url(), key=Key(SECRET, "here")), request)
    (seen,) = strong_server.requests()
    assert seen["path"] == "/ok/v1/chat/completions"
    assert seen["headers"]["authorization"] == f"Bearer {SECRET}"
    assert seen["headers"]["host"] == strong_server.address.removeprefix("http://")
    assert seen["body"] == {
        "model": "remote",
        "messages": [
            {"role": "system", "content": "short"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "hi"},
                    {"type": "text", "text": "you", "cache_control": {}},
                ],
                "name": "me",
            },
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "top_k": 3,
        "max_tokens": 5,
        "stop": ["x"],
        "user": "me",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    }


def test_nothing_of_this_machine_is_told(make, strong_server):
    run(make(strong_server.url()))
    [request] = strong_server.requests()
    headers = request["headers"]
    assert headers["user-agent"] == f"edge_router/{__version__}"
    told = " ".join(f"{name}: {value}" for name, value in headers.items()).lower()
    for word in (platform.system(), platform.python_version(), platform.machine(), "stainless-lang"):
        assert word.lower() not in told


def test_a_raw_prompt_goes_to_completions(make, strong_server):
    request = ask(raw_prompt="once", logprobs=True, top_logprobs=1)
    deltas = run(make(strong_server.url()), request)
    assert text_of(deltas) == "strong: once · ça va\u2028end"
    assert deltas[0].logprobs == (
        TokenLogprob("strong: ", -0.5, b"strong: ", (TokenLogprob("y", -2.5, b"y"),)),
    )
    (seen,) = strong_server.requests()
    assert seen["path"] == "/ok/v1/completions" and seen["body"]["prompt"] == "once"


def test_logprobs(make, strong_server):
    deltas = run(make(strong_server.url()), ask(logprobs=True, top_logprobs=1))
    top = (TokenLogprob("x", -1.5, b"x"),)
    assert deltas[0].logprobs == (TokenLogprob("strong: ", -0.25, b"strong: ", top),)


def test_tool_calls_are_streamed(make, strong_server):
    deltas = run(make(strong_server.url("tools")), ask(tools=(Tool("f"),)))
    (call,) = collect(deltas).calls
    assert (call.id, call.arguments) == ("call_1", '{"city": "Paris"}')
    assert deltas[-1] == Finished("tool_calls", usage=Usage(7, 4))


@pytest.mark.parametrize(
    ("script", "usage"),
    [
        ("nousage", None),
        ("json", Usage(7, 4)),
        ("nodone", Usage(7, 4)),
        ("nofinish", Usage(7, 4)),
    ],
)
def test_endpoints_with_ways_of_their_own(make, strong_server, script, usage):
    deltas = run(make(strong_server.url(script)))
    assert text_of(deltas) == ANSWER
    assert deltas[-1] == Finished("stop", usage=usage)


@pytest.mark.parametrize(
    ("script", "usage"),
    [("ndjson", Usage(7, 4)), ("close", Usage(7, 4)), ("plainjson", Usage(7, 4)), ("ssejson", Usage(7, 4))],
)
def test_answers_under_a_wrong_name_or_with_lines_of_their_own(make, strong_server, script, usage):
    deltas = run(make(strong_server.url(script)))
    assert text_of(deltas) == ANSWER
    assert deltas[-1] == Finished("stop", usage=usage)


@pytest.mark.parametrize("word", ["", "null", "stop", "eos"])
def test_a_reason_in_every_chunk_does_not_end_the_answer(make, strong_server, word):
    deltas = run(make(strong_server.url(f"reason-{word}")))
    assert text_of(deltas) == ANSWER
    assert deltas[-1] == Finished("stop", usage=Usage(7, 4))


def test_a_reason_is_no_end_and_waiting_in_vain_for_it_no_success(make, strong_server):
    shown, error = failure(make(strong_server.url("lingers")))
    assert "".join(shown).strip() == ANSWER
    assert isinstance(error, StrongInterrupted)


def test_an_answer_without_anything_in_it(make, strong_server):
    engine = make(strong_server.url("empty"), max_retries=2)
    shown, error = failure(engine)
    assert isinstance(error, StrongEmpty) and shown == []
    assert len(strong_server.requests()) == 1
    for request in (ask(stop=("x",)), ask(raw_prompt="once")):  # whose answers may well be empty
        assert run(engine, request) == [Finished("stop", usage=Usage(7, 4))]


OPTIONAL = {
    "stream_options": {},
    "max_tokens": {"max_tokens": 5},
    "top_k": {"sampling": SamplingParams(top_k=3)},
    "temperature": {"sampling": SamplingParams(temperature=0.0)},
    "stop": {"stop": ("nothing of the kind",)},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "min_p": {"sampling": SamplingParams(min_p=0.1)},
}


@pytest.mark.parametrize("field", OPTIONAL)
def test_a_field_that_the_endpoint_refuses_is_left_out_from_then_on(make, strong_server, field, caplog):
    engine = make(strong_server.url(f"refuse-{field}"))
    request = ask(**{"max_tokens": 5, **OPTIONAL[field]})
    assert text_of(run(engine, request)) == ANSWER
    assert text_of(run(engine, request)) == ANSWER
    bodies = [seen["body"] for seen in strong_server.requests()]
    assert [field in body for body in bodies] == [True, False, False]
    assert [body.get("max_tokens") or body.get("max_completion_tokens") for body in bodies] == [5, 5, 5]
    (said,) = (record.getMessage() for record in caplog.records if record.name == OpenAIEngine.__module__)
    assert f"'{field}' is left out" in said and engine.model_id in said


def test_several_fields_are_left_out_one_after_the_other(make, strong_server):
    engine = make(strong_server.url("refuse-temperature+refuse-top_p+refuse-seed+norole-system+limit-3"))
    sampling, messages = (
        SamplingParams(0.2, 0.9, seed=7),
        (Message("system", "short"), Message("user", "hi")),
    )
    request = ChatRequest(messages, sampling=sampling, max_tokens=9)
    assert text_of(run(engine, request)) == text_of(run(engine, request)) == ANSWER
    bodies = [seen["body"] for seen in strong_server.requests()]
    assert len(bodies) == 7 and bodies[-1] == bodies[-2]
    assert bodies[-1] == {
        "model": "remote",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 3,
        "messages": [{"role": "developer", "content": "short"}, {"role": "user", "content": "hi"}],
    }


def test_who_takes_no_stream_is_asked_for_the_whole(make, strong_server):
    engine = make(strong_server.url("nostream"))
    for _ in range(2):
        deltas = run(engine)
        assert text_of(deltas) == ANSWER and deltas[-1] == Finished("stop", usage=Usage(7, 4))
    assert [seen["body"]["stream"] for seen in strong_server.requests()] == [True, False, False]


def test_a_stop_string_that_the_endpoint_does_not_take_stops_all_the_same(make, strong_server):
    deltas = run(make(strong_server.url("refuse-stop")), ask(stop=("ça", "never")))
    assert text_of(deltas) == "strong: hi ·" and deltas[-1].reason == "stop"


@pytest.mark.parametrize(
    ("script", "stop", "shown"), [("atonce", (), ANSWER), ("refuse-stop+atonce", ("ça",), "strong: hi ·")]
)
def test_what_comes_behind_the_end_in_the_same_piece_is_not_read(make, strong_server, script, stop, shown):
    deltas = run(make(strong_server.url(script)), ask(stop=stop))
    assert text_of(deltas) == shown and deltas[-1].reason == "stop"


@pytest.mark.parametrize(
    ("script", "request_fields", "field"),
    [
        ("unknown", {}, "model"),
        ("refuse-tools", {"tools": (Tool("f"),)}, "tools"),
        ("refuse-response_format", {"output": JsonOutput()}, "response_format"),
        ("refuse-messages", {}, "messages"),
        ("refuse-max_tokens+refuse-max_completion_tokens", {"max_tokens": 5}, "max_completion_tokens"),
        ("refuse-model+ok", {"sampling": SamplingParams(seed=1)}, "model"),
    ],
)
def test_what_can_not_be_mended_is_an_error_of_its_own(make, strong_server, script, request_fields, field):
    engine = make(strong_server.url(script), max_retries=2)
    for _ in range(2):
        shown, error = failure(engine, ask(**request_fields))
        assert type(error) is StrongRefused and error.field == field and shown == []
        assert "remote" in error.message or field in error.message


def test_what_was_changed_in_vain_is_not_remembered(make, strong_server):
    engine = make(strong_server.url("refuse-seed+refuse-model"))
    request = ask(sampling=SamplingParams(seed=1))
    for _ in range(2):
        failure(engine, request)
    assert ["seed" in seen["body"] for seen in strong_server.requests()] == [True, False, True, False]


@pytest.mark.parametrize("script", ["quota", "402", "402-1"])
def test_a_quota_that_is_used_up_is_not_asked_for_again(make, strong_server, script):
    _, error = failure(make(strong_server.url(script), max_retries=3))
    assert type(error) is StrongQuotaExceeded
    assert len(strong_server.requests()) == 1


def test_the_connection_is_kept(make, strong_server):
    engine = make(strong_server.url())
    run(engine)
    run(engine)
    first, second = strong_server.requests()
    assert first["port"] == second["port"]


def test_many_threads_at_once(make, strong_server):
    engine, said = make(strong_server.url("slow"), timeout_s=20), []
    threads = [
        threading.Thread(target=lambda n=n: said.append(text_of(run(engine, ask(str(n)))))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == [f"strong: {n} · ça va\u2028end" for n in range(8)]


# ---- failures


def test_refused(make, refused_url):
    shown, error = failure(make(refused_url))
    assert isinstance(error, StrongUnreachable) and shown == []
    assert "refused" in error.reason.lower() and error.endpoint == refused_url


@pytest.mark.integration
def test_an_unknown_host(make):
    _, error = failure(make("http://no-such-host.invalid/v1"))
    assert isinstance(error, StrongUnreachable) and error.__cause__ is not None


@pytest.mark.parametrize(
    ("script", "kind", "facts"),
    [
        ("silent", StrongTimeout, {"seconds": 0.3}),
        ("401", StrongUnauthorized, {"status": 401, "key_source": "here"}),
        ("403", StrongUnauthorized, {"status": 403, "key_source": "here"}),
        ("404", StrongFailed, {"status": 404, "message": "scripted 404"}),
        ("422", StrongFailed, {"status": 422, "message": "scripted 422"}),
        ("429", StrongRateLimited, {"retry_after": None}),
        ("429-60", StrongRateLimited, {"retry_after": 60.0}),
        ("500", StrongFailed, {"status": 500, "message": "scripted 500"}),
        ("503", StrongFailed, {"status": 503, "message": "scripted 503"}),
        ("drop", StrongInterrupted, {}),
        ("cut-0", StrongInterrupted, {}),
        ("end-0", StrongInterrupted, {"reason": "the answer ended in the middle"}),
        ("stall-0", StrongTimeout, {"seconds": 0.3}),
        ("error-0", StrongFailed, {"status": 503, "message": "the model fell over"}),
        ("html", StrongGarbled, {"reason": "a web page"}),
        ("text", StrongGarbled, {"reason": "an answer of type text/plain"}),
        ("badjson", StrongGarbled, {"reason": "broken JSON"}),
        ("halfjson", StrongGarbled, {"reason": "broken JSON"}),
        ("cutjson", StrongInterrupted, {}),
        ("notutf8", StrongGarbled, {}),
        ("shape", StrongGarbled, {}),
        ("nothttp", StrongGarbled, {}),
    ],
)
def test_failures_before_the_first_token(make, strong_server, script, kind, facts):
    shown, error = failure(make(strong_server.url(script), key=Key(SECRET, "here")))
    assert type(error) is kind and shown == []
    assert error.endpoint == strong_server.url(script)
    assert {name: getattr(error, name) for name in facts} == facts
    assert error.__cause__ is not None
    assert len(strong_server.requests()) == 1


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("cut-2", "peer closed connection"),
        ("end-2", "the answer ended in the middle"),
        ("stall-2", "nothing more came for 0.3 s"),
        ("error-2", "the model fell over"),
    ],
)
def test_failures_in_mid_stream_are_not_tried_again(make, strong_server, script, reason):
    shown, error = failure(make(strong_server.url(script), max_retries=5))
    assert shown == ["strong: ", "hi "]
    assert type(error) is StrongInterrupted and reason in error.reason
    assert len(strong_server.requests()) == 1


def test_no_key_where_one_is_wanted(make, strong_server):
    _, error = failure(make(strong_server.url("401")))
    assert isinstance(error, StrongUnauthorized) and error.key_source is None


@pytest.mark.integration
def test_no_connection_in_time(make):
    import socket

    with socket.socket() as full:  # a queue of connections that nobody takes
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
        _, error = failure(make(f"http://127.0.0.1:{full.getsockname()[1]}/v1", connect_timeout_s=0.2))
        for each in waiting:
            each.close()
    assert isinstance(error, StrongUnreachable | StrongTimeout)


# ---- trying again


@pytest.mark.parametrize("status", ["408", "409", "429", "500", "503"])
def test_what_passes_is_tried_again(make, strong_server, status):
    assert text_of(run(make(strong_server.url(f"flaky-1-{status}"), max_retries=1))) == ANSWER
    assert len(strong_server.requests()) == 2


def test_only_as_often_as_was_said(make, strong_server):
    _, error = failure(make(strong_server.url("flaky-9-500"), max_retries=2))
    assert isinstance(error, StrongFailed)
    assert len(strong_server.requests()) == 3


@pytest.mark.parametrize("script", ["drop", "cut-0", "end-0", "error-0"])
def test_a_cut_before_the_first_token_is_tried_again(make, strong_server, script):
    failure(make(strong_server.url(script), max_retries=1))
    assert len(strong_server.requests()) == 2


@pytest.mark.parametrize("script", ["400", "401", "404", "silent", "html", "badjson", "429-60"])
def test_what_does_not_pass_is_not(make, strong_server, script):
    failure(make(strong_server.url(script), max_retries=3))
    assert len(strong_server.requests()) == 1


def test_retry_after_is_honoured(make, strong_server):
    begin = time.monotonic()
    failure(make(strong_server.url("429-0.6"), max_retries=1))
    assert time.monotonic() - begin >= 0.6  # our own first wait is a quarter of a second at most
    assert len(strong_server.requests()) == 2


# ---- cancelling


def in_thread(engine, cancel):
    """Starts to take deltas; the list holds what came, the error last."""
    came = []

    def work():
        try:
            came.extend(answered(engine, ask(), cancel))
        except EdgeRouterError as error:
            came.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, came


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("script", ["silent", "stall-1", "429-9", "slow"])
@pytest.mark.parametrize("way", ["cancel", "close"])
def test_cancelled_while_it_waits(make, strong_server, script, way):
    engine, cancel = make(strong_server.url(script), timeout_s=3600, max_retries=9), threading.Event()
    thread, came = in_thread(engine, cancel)
    until(strong_server.requests)
    if script.startswith("stall"):
        until(lambda: came)
    cancel.set() if way == "cancel" else engine.close()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(came[-1], Cancelled)
    if script != "429-9":
        until(lambda: strong_server.requests()[0]["gone"])  # nobody pays for what nobody reads


def test_walking_away_hangs_up(make, strong_server):
    deltas = answered(make(strong_server.url("stall-1"), timeout_s=3600), ask(), threading.Event())
    next(deltas)
    deltas.close()
    until(lambda: strong_server.requests()[0]["gone"])


def test_cancelled_before_it_began(make, strong_server):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        next(answered(make(strong_server.url()), ask(), cancel))


def test_closed(make, strong_server):
    engine = make(strong_server.url())
    run(engine)
    engine.close()
    engine.close()
    with pytest.raises(EngineUnavailable):
        run(engine)


# ---- the rest of the promise


def test_facts():
    engine = OpenAIEngine(StrongConfig(model="m"))
    assert (engine.model_id, engine.capabilities.context_window) == (
        "m",
        None,
    ) and Need.TOOLS in engine.capabilities.serves
    assert engine.prepare(ask()).count is None
    engine.close()


@pytest.mark.parametrize("model", [None, ""])
def test_no_model_no_engine(model):
    with pytest.raises(StrongNotConfigured):
        OpenAIEngine(replace(StrongConfig(), model=model))
