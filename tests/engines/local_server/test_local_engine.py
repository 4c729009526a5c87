"""The weak model behind stand-ins for the servers that people run."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest
from local_servers import CLOUD, KINDS, WORDS, LlamaCpp, StandIn

from edge_router.chat.events import EngineTimings, Finished, TextDelta
from edge_router.chat.message import Image, Message, Text, ToolCall, ToolResult
from edge_router.chat.reply import collect
from edge_router.chat.request import (
    ChatRequest,
    JsonOutput,
    Need,
    ReasoningOptions,
    SamplingParams,
    Tool,
    ToolChoice,
)
from edge_router.engines.base import answered
from edge_router.engines.local_server import looking
from edge_router.engines.local_server.looking import discover
from edge_router.errors import (
    Cancelled,
    ConfigError,
    ContextOverflow,
    EngineUnavailable,
    GenerationFailed,
    LocalServerDown,
    OutOfMemory,
    ServedModelMissing,
    UnsupportedRequest,
)

ANSWER = "".join(WORDS)
WEATHER = Tool("weather", "Tells it", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = {"function": {"index": 0, "name": "weather", "arguments": {"city": "Paris"}}}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def ask(text="hi", **fields):
    return ChatRequest((Message("user", text),), **fields)


def run(engine, request=None):
    return collect(answered(engine, request or ask(), threading.Event()))


@every_kind
def test_each_server_answers_also_what_is_private(kind, local_server, engine_of):
    server = local_server(kind)
    engine = engine_of(server, kind)
    reply = run(engine, ask(private=True, max_tokens=3))
    assert (
        reply.text == "".join(WORDS[:3])
        and reply.finish_reason == "length"
        and reply.usage.completion_tokens == 3
    )
    [(*_, headers)] = [
        seen for seen in server.behaviour.seen if seen[1] in ("/api/chat", "/v1/chat/completions")
    ][-1:]
    assert headers["x-edge-router-private"] == "true"
    assert engine.server.kind == kind and engine.model_id == KINDS[kind][1]


@every_kind
def test_the_context_is_found(kind, local_server, engine_of):
    server = local_server(kind, context=2000)
    engine = engine_of(server, kind)
    run(engine)  # LM Studio loads a model when it is asked
    engine.prepare(ask())
    assert engine.capabilities.context_window == (None if kind == "mlc" else 2000)


@every_kind
def test_a_prompt_that_is_too_long_is_never_cut_in_silence(kind, local_server, engine_of):
    engine = engine_of(local_server(kind, context=100), kind)
    with pytest.raises(ContextOverflow):
        run(engine, ask("word " * 200))


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
def test_tokens_are_counted_by_a_server_that_can(kind, local_server, engine_of):
    engine = engine_of(local_server(kind, context=100), kind)
    assert engine.prepare(ask("hi")).count < 100
    count = engine.prepare(ask("wörter " * 40)).count  # by its bytes it may be too long
    assert count is not None and count < 100


@every_kind
def test_log_probabilities(kind, local_server, engine_of):
    engine = engine_of(local_server(kind), kind)
    gives = kind != "lmstudio"
    assert (Need.LOGPROBS in engine.capabilities.serves) is gives is engine.capabilities.decides
    found = run(engine, ask(logprobs=True, top_logprobs=2)).logprobs
    assert [entry.token for entry in found] == (list(WORDS) if gives else [])
    assert all(entry.logprob == -0.25 and len(entry.top) == 2 for entry in found)
    assert "".join(entry.token_bytes.decode() for entry in found) == (ANSWER if gives else "")


@pytest.mark.parametrize("kind", ["ollama", "llama.cpp", "vllm"])
def test_thoughts_do_not_count_as_words_that_it_is_sure_of(kind, local_server, engine_of):
    reply = run(engine_of(local_server(kind), kind), ask(logprobs=True, reasoning=ReasoningOptions(True)))
    assert reply.parts[0].text == "Hmm. " and [entry.token for entry in reply.logprobs] == list(WORDS)


def test_what_older_ollamas_cannot_do_is_not_relied_on(local_server, engine_of):
    for version, cuts, tells in (
        *(
            ("0.12.5", True, False),
            ("0.12.6", False, False),
            ("0.12.11", False, True),
            ("0.40.4-rc1", False, True),
        ),
        ("0.0.0", False, True),
    ):
        engine = engine_of(local_server("ollama", version=version), "ollama")
        assert engine.server.refuses_long is not cuts, version
        assert (Need.LOGPROBS in engine.capabilities.serves) is tells, version


@every_kind
def test_tools_are_called_and_their_results_understood(kind, local_server, engine_of):
    server = local_server(kind, calls=(CALL, CALL))
    engine = engine_of(server, kind, tools="yes")
    assert Need.TOOLS in engine.capabilities.serves
    assert (Need.TOOL_CALL in engine.capabilities.serves) is (kind != "ollama")
    said = Message("assistant", (ToolCall("c1", "weather", '{"city": "Oslo"}'),))
    result = Message("tool", (ToolResult("c1", (Text("rain"),), name="weather"),))
    request = ChatRequest((Message("user", "hi"), said, result), tools=(WEATHER,))
    reply = run(engine, request)
    assert [(call.name, json.loads(call.arguments)) for call in reply.calls] == [
        ("weather", {"city": "Paris"})
    ] * 2
    assert reply.finish_reason == "tool_calls" and len({call.id for call in reply.calls}) == 2
    sent = server.chats()[-1]
    assert sent["tools"][0]["function"]["name"] == "weather"
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][2]["content"] == "rain" and sent["messages"][2]["tool_call_id"] == "c1"
    arguments = sent["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert arguments == ({"city": "Oslo"} if kind == "ollama" else '{"city": "Oslo"}')


@every_kind
def test_forms_of_answers(kind, local_server, engine_of):
    server = local_server(kind)
    engine, schema = engine_of(server, kind), {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert Need.JSON in engine.capabilities.serves and Need.MASK not in engine.capabilities.serves
    run(engine, ask(output=JsonOutput(schema)))
    sent = server.chats()[-1]
    found = sent["format"] if kind == "ollama" else sent["response_format"]["json_schema"]["schema"]
    assert found == schema


THOUGHTS = [
    (None, ReasoningOptions(), False),
    (None, ReasoningOptions(True), True),
    (None, ReasoningOptions(effort="high"), "high"),
    (True, ReasoningOptions(), True),
    (True, ReasoningOptions(False), False),
]


def test_thoughts_are_switched(local_server, engine_of):
    server = local_server("ollama")
    for thinking, options, sent in THOUGHTS:
        reply = run(engine_of(server, "ollama", thinking=thinking), ask(reasoning=options))
        assert server.chats()[-1]["think"] == sent, (thinking, options)
        assert reply.text == ANSWER and bool(reply.parts[0].text == "Hmm. ") is bool(sent)
    server.behaviour.thinks = False
    run(engine_of(server, "ollama"), ask(reasoning=ReasoningOptions(True)))
    assert "think" not in server.chats()[-1]
    for kind in ("llama.cpp", "vllm"):
        server = local_server(kind)
        reply = run(engine_of(server, kind), ask(reasoning=ReasoningOptions(True)))
        assert (
            server.chats()[-1]["chat_template_kwargs"] == {"enable_thinking": True}
            and reply.parts[0].text == "Hmm. "
        )
        run(engine_of(server, kind))
        assert server.chats()[-1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_ollama_is_told_all_that_a_request_says(local_server, engine_of):
    server = local_server("ollama")
    engine = engine_of(server, "ollama", context_window_size=8192, unload_after_s=90)
    sampling = SamplingParams(0.5, 0.9, 40, 0.05, 7, 1.1, 0.2, 0.3)
    parts = (Text("see"), Image("data:image/png;base64,aGk="))
    request = ChatRequest(
        (Message("developer", "short"), Message("user", parts)),
        sampling=sampling,
        stop=("x",),
        max_tokens=9,
        tools=(WEATHER,),
        tool_choice=ToolChoice("none"),
    )
    run(engine, request)
    assert server.chats()[-1] == {
        "model": "qwen3:4b",
        "stream": True,
        "messages": [
            {"role": "system", "content": "short"},
            {"role": "user", "content": "see", "images": ["aGk="]},
        ],
        "options": {
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "min_p": 0.05,
            "seed": 7,
            "repeat_penalty": 1.1,
            "presence_penalty": 0.2,
            "frequency_penalty": 0.3,
            "num_predict": 9,
            "stop": ["x"],
            "num_ctx": 8192,
        },
        "truncate": False,
        "shift": False,
        "keep_alive": "90s",
        "think": False,
    }
    loads = [
        body for _, path, body, _ in server.behaviour.seen if path == "/api/chat" and not body["messages"]
    ]
    assert [(each["options"], each["keep_alive"]) for each in loads] == [({"num_ctx": 8192}, "90s")]
    assert engine.capabilities.context_window == 8192
    run(engine_of(server, "ollama", overflow="window"))
    assert server.chats()[-1]["truncate"] is server.chats()[-1]["shift"] is True


def test_ollama_goes_on_with_a_bare_prompt(local_server, engine_of):
    server = local_server("ollama")
    assert run(engine_of(server, "ollama"), ask("Once", raw_prompt="Once")).text == ANSWER
    assert server.chats()[-1]["prompt"] == "Once" and server.chats()[-1]["raw"] is True


@pytest.mark.parametrize("kind", ["ollama", "llama.cpp"])
def test_what_the_server_measured_is_kept(kind, local_server, engine_of):
    *_, last = answered(engine_of(local_server(kind), kind), ask(), threading.Event())
    assert isinstance(last, Finished) and last.timings == EngineTimings(
        0.002, last.usage.prompt_tokens, 0.004, 5
    )


@every_kind
def test_leaving_stops_the_server(kind, local_server, engine_of):
    server = local_server(kind, endless=True, pauses_s=0.01)
    events = answered(engine_of(server, kind), ask(), threading.Event())
    assert next(events).text == WORDS[0]
    events.close()
    assert server.behaviour.stopped.wait(30)


def test_a_cancel_is_heard_while_the_model_is_still_read_in(local_server, engine_of):
    server = local_server("ollama")
    engine, cancel = engine_of(server, "ollama"), threading.Event()
    server.behaviour.loads_s = 20.0
    threading.Timer(0.2, cancel.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        list(answered(engine, ask(), cancel))
    assert time.monotonic() - began < 15


def test_circles_are_ended(local_server, engine_of):
    server = local_server("ollama", endless=True, words=("round ", "and "))
    *_, last = answered(engine_of(server, "ollama"), ask(), threading.Event())
    assert last.looped and last.reason == "length"


# ---- faults


def test_nothing_listens(engine_of, local_server):
    server = local_server("ollama")
    server.close()
    with pytest.raises(LocalServerDown):
        engine_of(server, "ollama")


@pytest.mark.parametrize("kind", ["ollama", "llama.cpp", "vllm"])
def test_a_model_that_is_not_there(kind, local_server, engine_of):
    with pytest.raises(ServedModelMissing) as caught:
        engine_of(local_server(kind), kind, model="no-such:7b")
    assert KINDS[kind][1] in " ".join(caught.value.known) and caught.value.kind == kind


def test_what_ollama_only_passes_on_is_no_local_model(local_server, engine_of):
    server = local_server("ollama")
    with pytest.raises(ConfigError, match=r"ollama\.com"):
        engine_of(server, "ollama", model=CLOUD)
    assert not server.chats()


def test_a_model_that_is_passed_on_by_now_is_asked_no_more(local_server, engine_of):
    server = local_server("ollama")
    engine = engine_of(server, "ollama")
    assert run(engine).text == ANSWER
    server.behaviour.passes_on = True
    with pytest.raises(GenerationFailed, match=r"ollama\.com"):
        run(engine)
    asked = len(server.chats())
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"ollama\.com"):
            run(engine)
    assert len(server.chats()) == asked
    server.behaviour.passes_on = False
    assert run(engine).text == ANSWER


@pytest.mark.parametrize("kind", ["ollama", "llama.cpp"])
def test_memory_that_runs_out(kind, local_server, engine_of):
    said = "model requires more system memory (5.6 GiB) than is available (3.2 GiB)"
    server = local_server(kind)
    engine = engine_of(server, kind)
    server.behaviour.refuses = (
        500,
        {"error": said} if kind == "ollama" else {"error": {"code": 500, "message": said}},
    )
    with pytest.raises(OutOfMemory) as caught:
        run(engine)
    assert caught.value.needed == int(5.6 * 2**30)
    if kind == "ollama":
        with pytest.raises(OutOfMemory):  # it is loaded at once, so that is told before a question
            engine_of(server, kind)


def test_a_model_that_is_being_loaded_is_waited_for(local_server, engine_of, monkeypatch):
    monkeypatch.setattr(looking, "_LOADS_S", 0.01)
    server = local_server("llama.cpp", loading=9)
    engine = engine_of(server, "llama.cpp")
    server.behaviour.loading = 3  # as after a restart
    assert run(engine).text == ANSWER


@every_kind
def test_a_server_that_goes_in_mid_answer_and_comes_back(kind, local_server, engine_of):
    server = local_server(kind, breaks_after=2)
    engine, shown = engine_of(server, kind), []
    with pytest.raises(GenerationFailed):
        for event in answered(engine, ask(), threading.Event()):
            shown.append(event)
    assert [event.text for event in shown if isinstance(event, TextDelta)] == list(WORDS[:2])
    server.close()
    with pytest.raises(LocalServerDown):
        run(engine)
    local_server(kind, server.port, context=3000)
    assert run(engine).text == ANSWER
    if kind in ("llama.cpp", "vllm"):
        assert engine.capabilities.context_window == 3000  # started anew with other settings


@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
def test_a_server_that_was_started_anew_with_a_larger_context_is_given_longer_prompts(
    local_server, engine_of, kind
):
    server = local_server(kind, context=1000)
    engine = engine_of(server, kind)
    long = ask("word " * 2000)
    prompt = engine.prepare(long)
    assert prompt.count >= engine.capabilities.context_window
    server.close()
    local_server(kind, server.port, context=30_000)
    prompt = engine.prepare(long)
    assert prompt.count < engine.capabilities.context_window == 30_000


def test_it_does_not_follow_to_another_address(local_server, engine_of):
    other = local_server("ollama")
    server = local_server("ollama", moved_to=other.address)
    with pytest.raises(LocalServerDown, match="points to"):
        engine_of(server, "ollama")
    server.behaviour.moved_to = None
    engine = engine_of(server, "ollama")
    server.behaviour.moved_to = other.address
    with pytest.raises(LocalServerDown, match="points to"):
        run(engine)
    assert not other.behaviour.seen


def test_no_proxy_is_asked(local_server, engine_of, monkeypatch):
    proxy = local_server("vllm")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert run(engine_of(local_server("ollama"), "ollama")).text == ANSWER
    assert not proxy.behaviour.seen


def test_pictures_are_fetched_by_nobody(local_server, engine_of):
    engine = engine_of(local_server("ollama"), "ollama")
    with pytest.raises(UnsupportedRequest):
        engine.prepare(ChatRequest((Message("user", (Image("http://example.org/cat.png"),)),)))


def test_a_key_is_sent_where_one_is_named_and_shown_nowhere(local_server, engine_of, monkeypatch):
    server = local_server("llama.cpp", key="sesame-open-0123456789")
    with pytest.raises(LocalServerDown, match=r"weak\.api_key_env"):
        engine_of(server, "llama.cpp")
    monkeypatch.setenv("MY_KEY", "sesame-open-0123456789")
    engine = engine_of(server, "llama.cpp", api_key_env="MY_KEY")
    assert run(engine).text == ANSWER
    server.behaviour.key = "another"
    with pytest.raises(LocalServerDown) as caught:
        run(engine)
    assert "sesame" not in repr(caught.value) + str(caught.value.__cause__)


def test_a_trusted_machine_gets_nothing_private(local_server, engine_of, monkeypatch):
    """The stand-in is on this machine, under a name that is taken for another one's."""
    server = local_server("ollama")
    monkeypatch.setattr("edge_router.engines.remote.place.is_loopback", lambda address: False)
    with pytest.raises(ConfigError, match="trusted_hosts"):
        engine_of(server, "ollama")
    engine = engine_of(server, "ollama", trusted_hosts=("127.0.0.1",))
    assert not engine.capabilities.decides  # so that who asks may say that it is private
    assert run(engine).text == ANSWER
    with pytest.raises(EngineUnavailable, match="private"):
        run(engine, ask(private=True))
    assert len(server.chats()) == 1


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_a_unix_socket(local_server, engine_of, tmp_path):
    path = tmp_path / "s"
    server = StandIn(LlamaCpp)
    relay = socket.socket(socket.AF_UNIX)
    relay.bind(os.fspath(path))
    relay.listen()

    ends, threads = ExitStack(), []

    def carry(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def start(work, *arguments):
        threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        threads[-1].start()

    def serve():
        with suppress(OSError):
            while True:
                inner = ends.enter_context(relay.accept()[0])
                outer = ends.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                start(carry, inner, outer)
                start(carry, outer, inner)

    start(serve)
    engine = engine_of(server, "llama.cpp", base_url=f"unix:{path}")
    try:
        assert run(engine, ask(private=True)).text == ANSWER
    finally:
        engine.close()
        relay.shutdown(socket.SHUT_RDWR)  # which wakes who accepts
        relay.close()
        threads[0].join(10)
        server.close()
        for thread in threads[1:]:
            thread.join(10)
        ends.close()


# ---- finding them


def test_what_runs_here_is_found_with_its_models(local_server):
    servers = {kind: local_server(kind) for kind in KINDS}
    ports = [server.port for server in servers.values()]
    closed = local_server("vllm")
    closed.close()
    found = {server.kind: server for server in discover([*ports, closed.port], environ={})}
    assert list(found) == list(KINDS)
    for kind, (_, name) in KINDS.items():
        assert found[kind].model(name) is not None and found[kind].url == servers[kind].address
    assert all("embed" not in model.name for server in found.values() for model in server.models)
    [cloud] = [model for model in found["ollama"].models if model.elsewhere]
    assert cloud.name == CLOUD and cloud.elsewhere.startswith("https://ollama.com")


def test_ollama_is_found_where_its_own_variable_says(local_server):
    server = local_server("ollama")
    for value in (f"127.0.0.1:{server.port}", server.address, f"http://localhost:{server.port}/"):
        assert [found.kind for found in discover([], environ={"OLLAMA_HOST": value})] == ["ollama"], value
    assert discover([], environ={"OLLAMA_HOST": "0.0.0.0:1"}) == []
    assert discover([], environ={"OLLAMA_HOST": "192.0.2.1:11434"}) == []


def test_without_an_address_the_model_says_which_server(local_server, engine_of, monkeypatch):
    servers = [local_server("lmstudio"), local_server("ollama")]
    ports = [server.port for server in servers]
    monkeypatch.setattr(
        "edge_router.engines.local_server.engine.discover", lambda: discover(ports, environ={})
    )
    assert engine_of(servers[1], "ollama", base_url=None).server.url == servers[1].address
    with pytest.raises(ServedModelMissing, match="nobody-has-it"):
        engine_of(servers[1], "ollama", base_url=None, model="nobody-has-it")
