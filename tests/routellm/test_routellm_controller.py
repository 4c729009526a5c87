"""RouteLLM's controller as programs use it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from local_servers import QWEN, WORDS
from table import each

from edge_router import Controller as OurController
from edge_router import ScriptedEngine, ScriptedRouter
from edge_router.routellm.controller import Controller, ModelPair, RoutingError

SAY = [{"role": "user", "content": "hi"}]
HARD = [{"role": "user", "content": "hard"}]


@pytest.fixture
def make(request):
    def make(*routers):
        weak = ScriptedEngine(default=lambda _: "weak one", model_id="small")
        strong = ScriptedEngine(default=lambda _: "strong one", model_id="big")
        ours = OurController(
            weak=weak,
            strong=strong,
            router=ScriptedRouter(lambda text: 0.9 if "hard" in text else 0.1, name="mf"),
        )
        made = Controller(list(routers or ("mf",)), "gpt-4-1106-preview", "local/small", controller=ours)
        request.addfinalizer(made.close)
        return made

    return make


def test_as_its_readme_shows(make):
    client = make()
    response = client.chat.completions.create(model="router-mf-0.11593", messages=SAY)
    assert response.choices[0].message.content == "weak one"
    assert (
        client.completion(router="mf", threshold=0.5, messages=HARD).choices[0].message.content
        == "strong one"
    )
    chunks = client.chat.completions.create(model="router-mf-0.5", messages=HARD, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "strong one"
    assert client.model_counts == {"mf": {"local/small": 1, "gpt-4-1106-preview": 2}}
    assert client.model_pair == ModelPair("gpt-4-1106-preview", "local/small") and list(client.routers) == [
        "mf"
    ]


def test_for_asyncio(make):
    client = make()

    async def both():
        whole = await client.chat.completions.acreate(model="router-mf-0.5", messages=HARD)
        stream = await client.acompletion(router="mf", threshold=0.5, messages=SAY, stream=True)
        return whole, [chunk.choices[0].delta.content or "" async for chunk in stream]

    whole, pieces = asyncio.run(both())
    assert whole.choices[0].message.content == "strong one" and "".join(pieces) == "weak one"
    assert client.model_counts["mf"] == {"gpt-4-1106-preview": 1, "local/small": 1}


def test_routing_alone_asks_nobody_and_counts_nothing(make):
    client = make()
    assert client.route("hi", "mf", 0.5) == "local/small"
    assert client.route("hard", router="mf", threshold=0.5) == "gpt-4-1106-preview"
    assert client.route("hi", "mf", 0.0) == "gpt-4-1106-preview" and not client.model_counts


class Series(list):
    """As much of pandas' as is needed; pandas itself is not installed."""

    iloc = None

    def __init__(self, values, index=None):
        super().__init__(values)
        self.index = index


def test_win_rates(make):
    client = make()
    assert client.batch_calculate_win_rate(["hi", "hard"], "mf") == [0.1, 0.9]
    found = client.batch_calculate_win_rate(prompts=Series(["hi", "hard"], index=[7, 8]), router="mf")
    assert type(found) is Series and list(found) == [0.1, 0.9] and found.index == [7, 8]


WRONG = [
    {"model": "gpt-4"},
    {"model": "router-mf"},
    {"model": "router-mf-high"},
    {"model": "router-mf-1.5"},
    {"model": "router-bert-0.5"},
    {"router": "bert", "threshold": 0.5},
    {"router": "mf", "threshold": float("nan")},
    {"router": "mf"},
    {},
]


@each("fields", WRONG)
def test_what_is_no_router_and_no_threshold(make, fields):
    with pytest.raises(RoutingError):
        make().completion(messages=SAY, **fields)


def test_many_threads_count_right(make):
    client = make()

    def ask():
        for _ in range(20):
            client.completion(router="mf", threshold=0.5, messages=SAY)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.model_counts["mf"]["local/small"] == 100


def test_a_config_of_theirs_is_taken_and_said_to_be_of_no_use(make, caplog):
    ours = make().controller
    Controller(["mf"], "a", "b", {"mf": {"checkpoint_path": "routellm/mf_gpt4_augmented"}}, controller=ours)
    assert "RouteLLM's checkpoints are not used" in caplog.text


def test_two_real_servers_by_their_names(local_server, strong_server, monkeypatch):
    """Ollama here for the easy ones, an endpoint with a key for the hard ones."""
    server = local_server("ollama")
    monkeypatch.setenv("OLLAMA_API_BASE", server.address)
    with Controller(
        ["length"], "openai/remote", f"ollama_chat/{QWEN}", api_key="sk-test-0123456789abcdef"
    ) as client:
        assert client.completion(router="length", threshold=1.0, messages=SAY).choices[
            0
        ].message.content == "".join(WORDS)
        assert client.controller.config.strong.base_url == "https://api.openai.com/v1"
    with Controller(
        ["length"], "remote", "Qwen3-4B", api_base=strong_server.url(), api_key="sk-test-0123456789abcdef"
    ) as client:
        said = client.completion(router="length", threshold=0.0, messages=SAY).choices[0].message.content
        assert said.startswith("strong: hi")
    [request] = strong_server.requests()
    assert request["headers"]["authorization"] == "Bearer sk-test-0123456789abcdef"
