"""A controller whose weak model is in a local server: where questions go, and why."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
from local_servers import CLOUD, KINDS, QWEN, WORDS

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.message import Image, Message, Text
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, JsonOutput, Tool
from edge_router.engines.local_server.engine import inspected
from edge_router.errors import (
    ConfigError,
    ContextOverflow,
    EdgeRouterError,
    EngineUnavailable,
    InvalidRequest,
    LocalServerDown,
)
from edge_router.routing.confidence.gate import Gate, LogisticRegression
from edge_router.routing.confidence.gate_store import keep
from edge_router.store.tool_skill import Skill
from edge_router.store.tool_skill import keep as keep_skill
from edge_router.types import Reason

ANSWER = "".join(WORDS)


@pytest.fixture
def controller_of(paths):
    """controller_of(server, "ollama", strong=..., **{"weak.tools": "yes"})"""
    made = []

    def make(server, kind="ollama", *, strong="big", **settings):
        config = Config().replace(
            **{
                "weak.engine": "remote",
                "weak.model": KINDS[kind][1],
                "weak.base_url": server.address,
                **settings,
            }
        )
        engine = None if strong is None else ScriptedEngine(strong, model_id="strong-one")
        router = ScriptedRouter(lambda text: 0.9 if "hard" in text else 0.1)
        made.append(Controller(config, strong=engine, router=router, paths=paths))
        return made[-1]

    yield make
    for controller in made:
        controller.close()


def ask(text="hi", **fields):
    return ChatRequest((Message("user", text),), **fields)


def start(controller, request=None):
    answer = controller.start(request or ask())
    return collect(answer).text, answer


def test_the_score_decides_and_what_is_private_stays(local_server, controller_of):
    server = local_server("ollama")
    controller = controller_of(server)
    text, answer = start(controller)
    assert (text, answer.decision.reason, answer.model) == (ANSWER, Reason.SCORE, QWEN)
    assert start(controller, ask("hard"))[0] == "big"
    text, answer = start(controller, ask("hard", private=True))
    assert (text, answer.decision.reason) == (ANSWER, Reason.PRIVATE)
    text, answer = start(controller_of(server, offline=True), ask("hard"))
    assert (text, answer.decision.reason) == (ANSWER, Reason.OFFLINE)
    assert start(controller, ask("hard", target=QWEN))[0] == ANSWER and QWEN in controller.model_names()


OTHERS = [
    (
        {
            "refuses": (
                500,
                {"error": "model requires more system memory (5.6 GiB) than is available (3.2 GiB)"},
            )
        },
        Reason.NO_MEMORY,
    ),
    (
        {"refuses": (500, {"error": "llama runner process has terminated: exit status 2"})},
        Reason.WEAK_UNAVAILABLE,
    ),
    ({"refuses": (404, {"error": f"model '{QWEN}' not found"})}, Reason.WEAK_UNAVAILABLE),
    ({"breaks_after": 0}, Reason.WEAK_UNAVAILABLE),
]


def test_what_goes_wrong_before_the_first_word_is_the_strong_models(local_server, controller_of):
    for behaviour, reason in OTHERS:
        server = local_server("ollama")
        controller = controller_of(server)
        controller.warm()
        for name, value in behaviour.items():
            setattr(server.behaviour, name, value)
        text, answer = start(controller)
        assert (text, answer.decision.reason) == ("big", reason), behaviour


def test_a_server_that_is_not_there(local_server, controller_of):
    server = local_server("ollama")
    server.close()
    assert start(controller_of(server))[1].decision.reason is Reason.WEAK_UNAVAILABLE
    with pytest.raises(LocalServerDown):
        start(controller_of(server, strong=None))
    with pytest.raises(LocalServerDown):
        start(controller_of(server), ask(private=True))


def test_what_it_has_answered_is_given_again_by_the_next_program(local_server, controller_of):
    server = local_server("ollama")

    def ask_anew():
        controller = controller_of(server, **{"response_cache.mode": "disk"})
        reason = controller.chat.completions.create(messages="hi", temperature=0).decision.reason
        controller.close()
        return reason, len(server.chats())

    assert [ask_anew(), ask_anew()] == [(Reason.SCORE, 1), (Reason.CACHED, 1)]


def test_another_machine_is_not_asked_offline(controller_of):
    config = Config().replace(
        **{"weak.engine": "remote", "weak.base_url": "http://192.0.2.1", "weak.trusted_hosts": ["192.0.2.1"]}
    )
    with pytest.raises(EngineUnavailable, match="another machine"):
        inspected(config.replace(offline=True))


def test_a_mistake_in_the_configuration_sends_nothing_away(local_server, controller_of):
    server = local_server("ollama")
    for settings in ({"weak.model": CLOUD}, {"weak.base_url": "http://192.0.2.7:11434"}):
        controller = controller_of(server, **settings)
        with pytest.raises(ConfigError):
            start(controller)
    trusted = {"weak.base_url": "http://192.0.2.7:11434", "weak.trusted_hosts": ("192.0.2.7",)}
    with pytest.raises(EngineUnavailable, match="switched off"):
        start(controller_of(server, strong=None, offline=True, **trusted))


SECRET = "sk-proj-Zk3vQ9xR7bT2nW5yL8pD4sF6gH1jK0mC"


def test_what_leaves_for_a_trusted_machine_passes_the_guard(local_server, controller_of, monkeypatch):
    """The stand-in is on this machine, under a name that is taken for another one's."""
    server = local_server("ollama")
    assert start(controller_of(server), ask(f"mine is {SECRET}"))[0] == ANSWER
    assert SECRET in str(server.chats()[-1]), "on this machine nothing is hidden"
    monkeypatch.setattr("edge_router.engines.remote.place.is_loopback", lambda address: False)
    trusted = {"weak.trusted_hosts": ("127.0.0.1",), "guard.secrets": "redact"}
    assert start(controller_of(server, **trusted), ask(f"mine is {SECRET}"))[0] == ANSWER
    assert len(server.chats()) == 2 and SECRET not in str(server.chats()[-1])
    with pytest.raises(EdgeRouterError):
        start(controller_of(server, strong=None, **trusted), ask("hi", private=True))
    withheld = controller_of(server, strong=None, **{**trusted, "guard.secrets": "local"})
    with pytest.raises(EdgeRouterError, match="must not leave"):
        start(withheld, ask(f"mine is {SECRET}"))
    assert len(server.chats()) == 2


def test_long_conversations(local_server, controller_of):
    server = local_server("ollama", context=200)
    turns = tuple(Message(role, "word " * 60) for role in ("user", "assistant", "user", "assistant", "user"))
    text, answer = start(controller_of(server), ChatRequest(turns))
    assert (text, answer.decision.reason) == ("big", Reason.CONTEXT_OVERFLOW)
    text, answer = start(controller_of(server, strong=None), ChatRequest(turns))
    assert text == ANSWER and answer.truncated == 4 and len(server.chats()[-1]["messages"]) == 1
    with pytest.raises(ContextOverflow):
        start(controller_of(server, strong=None), ask("word " * 400))


def gate(bound_logprob):
    """Sure where the mean log probability is above it."""
    return Gate(
        3,
        (),
        LogisticRegression((), 0.0),
        LogisticRegression((10.0, 0.0), -10.0 * bound_logprob),
        LogisticRegression((0.0, 0.0, 0.0), 0.0),
    )


@pytest.mark.parametrize("kind", ["ollama", "llama.cpp", "vllm", "mlc"])
def test_what_it_is_unsure_of_is_escalated(kind, local_server, controller_of, paths):
    server = local_server(kind)
    controller = controller_of(server, kind, **{"weak.min_confidence": 0.5})
    keep(gate(-1.0), paths, controller._pool.weak().capabilities.weights, {"model": "m"})
    text, answer = start(controller)
    assert text == ANSWER and answer.decision.confidence > 0.9
    server.behaviour.logprob, server.behaviour.endless, server.behaviour.pauses_s = -3.0, True, 0.01
    text, answer = start(controller)
    assert (text, answer.decision.reason) == ("big", Reason.LOW_CONFIDENCE)
    assert server.behaviour.stopped.wait(30)  # and does not go on with what nobody wants


def test_a_server_without_log_probabilities_is_believed(local_server, controller_of, paths):
    server = local_server("lmstudio")
    controller = controller_of(server, "lmstudio", **{"weak.min_confidence": 0.5})
    keep(gate(-1.0), paths, controller._pool.weak().capabilities.weights, {"model": "m"})
    text, answer = start(controller)
    assert text == ANSWER and answer.decision.confidence is None


WEATHER = Tool("weather", "", {"type": "object", "properties": {}})


def test_tools_go_there_once_it_was_measured_to_call_them_well(local_server, controller_of, paths):
    server = local_server("ollama", calls=({"function": {"name": "weather", "arguments": {}}},))
    text, answer = start(controller_of(server), ask(tools=(WEATHER,)))
    assert (text, answer.decision.reason) == ("big", Reason.NEEDS_TOOLS)
    controller = controller_of(server)
    weights = controller._pool.weak().capabilities.weights
    keep_skill(Skill(QWEN, 80, 1.0, 1.0, 1.0, 1.0), paths, weights)
    answer = controller_of(server).start(ask(tools=(WEATHER,)))
    assert answer.decision.reason is Reason.SCORE and [call.name for call in collect(answer).calls] == [
        "weather"
    ]


def test_forms_and_pictures(local_server, controller_of):
    server = local_server("ollama")
    controller = controller_of(server)
    assert start(controller, ask(output=JsonOutput({"type": "object"})))[0] == ANSWER
    seen = ChatRequest((Message("user", (Text("see"), Image("data:image/png;base64,aGk="))),))
    assert start(controller, seen)[1].decision.reason is Reason.NEEDS_MEDIA
    with pytest.raises(InvalidRequest):
        start(controller_of(server, strong=None), seen)


def test_many_at_once(local_server, controller_of):
    server = local_server("ollama", pauses_s=0.01)
    controller, found = controller_of(server), []
    threads = [threading.Thread(target=lambda: found.append(start(controller)[0])) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ANSWER] * 12


def test_memory_is_given_back_where_the_server_can_be_told(local_server, controller_of):
    server = local_server("ollama")
    with closing(controller_of(server)) as controller:
        start(controller)
        controller.unload("weak")
        assert [body.get("keep_alive") for _, path, body, _ in server.behaviour.seen if path == "/api/chat"][
            -1
        ] == 0
        assert start(controller)[0] == ANSWER
