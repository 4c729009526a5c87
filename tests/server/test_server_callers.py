"""Callers of the server: whose key it is, what each may use and how much, and that nobody sees another."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import openai
import pytest

from edge_router import ScriptedEngine
from edge_router.callers.keys import hash_of
from edge_router.chat.events import Finished, TextDelta, Usage
from edge_router.errors import ConfigError

ANNA, BEN, OWNER = "sk-er-" + "a1" * 16, "sk-er-" + "b2" * 16, "the owner's own key"
HASHES = {"callers.anna.key_hash": hash_of(ANNA), "callers.ben.key_hash": hash_of(BEN)}
PRICED = {"strong.model": "big", "strong.price_in": 0.0, "strong.price_out": 1e6}
TURN = [{"role": "user", "content": "hi"}]
HARD = [{"role": "user", "content": "hard"}]
CHATS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": TURN},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": TURN, "max_tokens": 9},
    "/api/chat": {"messages": TURN},
    "/api/generate": {"prompt": "hi"},
}
SYSTEMONE = {
    "state": "My invoice is wrong.",
    "model": "jev-latest",
    "questions": {"b": {"type": "noul", "instructions": "Is it?"}},
}
DECISIONS = {"input": "Wrong.", "questions": [{"type": "predicate", "instructions": "Is it?"}]}
BODIES: dict[str, dict[str, Any]] = {"/v1/systemone": SYSTEMONE, "/v1/decisions": DECISIONS}
Make = Callable[..., Any]


class Desk:
    """One app, asked with one key or another."""

    def __init__(self, setup: Any) -> None:
        self.setup, self.app = setup, setup.app()

    def ask(
        self, key: str, path: str = "/v1/chat/completions", body: Any = None, method: str = "POST"
    ) -> Any:
        given = CHATS.get(path) if body is None else body
        headers = [("host", "localhost"), ("authorization", f"Bearer {key}")]
        if path.startswith("/v1/messages"):
            headers = [("host", "localhost"), ("x-api-key", key), ("anthropic-version", "2023-06-01")]
        if method == "POST" and given is not None:
            given = {"model": "auto", **({"stream": False} if path in CHATS else {}), **given}
        return self.setup.call(method, path, given, headers=headers, app=self.app)

    def get(self, key: str, path: str) -> Any:
        return self.ask(key, path, method="GET")


@pytest.fixture
def desk(setup: Make) -> Make:
    def make(*, api_key: str | None = OWNER, ledger: bool = False, **settings: object) -> Desk:
        config = HASHES | {name.replace("__", "."): value for name, value in settings.items()}
        weak = ScriptedEngine(default=lambda request: "here", model_id="small", serves=())
        strong = ScriptedEngine(
            default=lambda request: [TextDelta("there"), Finished("stop", Usage(1, 1))], model_id="big"
        )
        return Desk(setup(api_key=api_key, config=config, weak=weak, strong=strong, ledger=ledger))

    return make


def test_a_key_is_asked_for_and_each_is_known(desk: Make) -> None:
    one = desk(api_key=None)
    for path in CHATS:
        assert one.ask("", path).status == 401, path
        assert one.ask(ANNA[:-1], path).status == 401, path
        for key, name in ((ANNA, "anna"), (BEN, "ben")):
            assert one.ask(key, path).status == 200, path
            assert one.setup.weak.calls[-1].caller == name, path
    assert one.setup.call("GET", "/health", app=one.app).status == 200
    assert one.ask(OWNER).status == 401
    assert desk().ask(OWNER).status == 200


def test_a_body_cannot_say_who_asks(desk: Make) -> None:
    one = desk(callers__ben__models=("strong",))
    for body in ({"caller": "ben"}, {"metadata": {"caller": "ben"}}, {"user": "ben"}, {"among": ["big"]}):
        one.ask(ANNA, body={"messages": TURN, **body})
        assert one.setup.weak.calls[-1].caller == "anna", body
        assert one.setup.weak.calls[-1].among == (), body


def test_a_server_without_any_key_is_none(desk: Make, setup: Make) -> None:
    with pytest.raises(ConfigError, match="nobody has a key"):
        setup(config={"callers.anna.models": ["weak"]}).app()
    with pytest.raises(ConfigError, match="KEY_OF_ANNA is not set"):
        setup(config={"callers.anna.api_key_env": "KEY_OF_ANNA"}).app()


def test_a_model_that_is_not_allowed_is_refused_by_every_protocol(desk: Make) -> None:
    one = desk(callers__anna__models=("weak",), callers__ben__models=("auto",))
    for path, body in CHATS.items():
        refused = one.ask(ANNA, path, {**body, "model": "strong"})
        assert refused.status == 403, path
        told = refused.body.decode()
        assert "not among those of this key: weak" in told and "ben" not in told, path
        assert one.ask(ANNA, path, {**body, "model": "big", "stream": True}).status == 403, path
        assert one.ask(BEN, path, {**body, "model": "strong"}).status == 403, path
        assert one.ask(ANNA, path, {**body, "model": "weak"}).status == 200, path
    assert one.ask(ANNA, body={"messages": HARD}).header("x-edge-router-reason") == "caller"
    assert one.ask(BEN, body={"messages": HARD}).header("x-edge-router-model") == "strong"
    assert one.ask(OWNER, body={"messages": TURN, "model": "strong"}).status == 200
    assert one.ask(ANNA, "/v1/embeddings", {"input": "x", "model": "mf"}).status == 403
    assert one.ask(ANNA, "/v1/messages/count_tokens", {"messages": TURN}).status == 200


def test_errors_stand_in_the_protocols_own_words(desk: Make) -> None:
    one = desk(callers__anna__models=("weak",), callers__ben__requests_per_minute=1)
    refused = one.ask(ANNA, body={"messages": TURN, "model": "strong"}).error
    assert (refused["type"], refused["param"], refused["code"]) == (
        *("permission_error", "model", "model_not_allowed"),
    )
    anthropic = one.ask(ANNA, "/v1/messages", {**CHATS["/v1/messages"], "model": "strong"}).json()
    assert (anthropic["type"], anthropic["error"]["type"]) == ("error", "permission_error")
    assert set(one.ask(ANNA, "/api/chat", {"messages": TURN, "model": "strong"}).json()) == {"error"}
    assert one.ask(BEN).status == 200
    limited = one.ask(BEN)
    assert (limited.status, limited.error["type"]) == (429, "rate_limit_error")
    assert one.ask(BEN, "/v1/messages").json()["error"]["type"] == "rate_limit_error"
    assert one.ask(BEN, "/api/chat").status == 429


def test_limits_are_told_in_headers_and_are_nobody_elses(desk: Make) -> None:
    one = desk(callers__anna__requests_per_minute=2, callers__anna__tokens_per_minute=10_000)
    first = one.ask(ANNA)
    assert first.header("x-ratelimit-limit-requests") == "2"
    assert first.header("x-ratelimit-remaining-requests") == "1"
    assert first.header("x-ratelimit-reset-requests").endswith("s")
    assert int(first.header("x-ratelimit-remaining-tokens")) < 10_000
    streamed = one.ask(ANNA, body={"messages": TURN, "stream": True})
    assert streamed.status == 200
    for stream in (False, True):
        refused = one.ask(ANNA, body={"messages": TURN, "stream": stream})
        assert refused.status == 429 and 1 <= int(refused.header("retry-after")) <= 60
        assert refused.header("x-ratelimit-remaining-requests") == "0"
        assert refused.header("x-should-retry") is None
        assert "2 requests a minute" in refused.error["message"]
    theirs = one.ask(ANNA, "/v1/messages")
    assert theirs.status == 429 and theirs.header("anthropic-ratelimit-requests-remaining") == "0"
    assert theirs.header("anthropic-ratelimit-requests-reset").endswith("Z")
    assert theirs.header("x-ratelimit-limit-requests") is None
    other = one.ask(BEN)
    assert other.status == 200 and not [name for name, _ in other.headers if "ratelimit" in name]
    assert one.ask(OWNER).status == 200


def test_models_are_those_that_a_caller_may_use(desk: Make) -> None:
    one = desk(callers__anna__models=("weak",), callers__ben__models=("auto", "router-word-0.3"))

    def names(key: str) -> set[str]:
        return {model["id"] for model in one.get(key, "/v1/models").json()["data"]}

    assert names(ANNA) == {"auto", "weak", "small"}
    told = {key: one.get(key, "/v1/models").json()["data"] for key in (ANNA, BEN)}
    assert [model["local"] for model in told[ANNA] if model["id"] == "auto"] == [True]
    tools = {key: next(m["capabilities"]["tools"] for m in told[key] if m["id"] == "auto") for key in told}
    assert tools == {ANNA: False, BEN: True}  # of what may answer
    assert names(BEN) == {"auto"}
    assert {"strong", "big", "router-word"} < names(OWNER)
    assert one.get(ANNA, "/v1/models/strong").status == 403
    assert one.get(BEN, "/v1/models/router-word-0.3").status == 200
    assert {model["name"] for model in one.get(ANNA, "/api/tags").json()["models"]} <= {
        *("auto:latest", "weak:latest", "small:latest"),
        *("auto", "weak", "small"),
    }
    assert one.ask(ANNA, "/api/show", {"model": "strong"}).status in (403, 404)


def test_auto_is_there_for_who_gets_another_model_for_it(desk: Make) -> None:
    one = desk(callers__anna__models=("big",), callers__anna__model="big")
    assert {model["id"] for model in one.get(ANNA, "/v1/models").json()["data"]} == {"auto", "big"}
    for path, body in CHATS.items():
        assert one.ask(ANNA, path).header("x-edge-router-model") == "strong", path
        assert one.ask(ANNA, path, {**body, "model": "weak"}).status == 403, path
    assert one.ask(ANNA, "/api/chat", {"messages": TURN, "keep_alive": 0}).status == 200
    assert one.ask(ANNA, "/api/chat", {"messages": [], "model": "weak"}).status == 403  # to load it
    assert one.setup.weak.calls == []


def test_an_answer_that_one_has_stored_is_there_for_nobody_else(desk: Make) -> None:
    one = desk()
    kept = one.ask(ANNA, "/v1/responses").json()["id"]
    for key in (BEN, OWNER):
        assert one.get(key, f"/v1/responses/{kept}").status == 404
        assert one.get(key, f"/v1/responses/{kept}/input_items").status == 404
        assert one.ask(key, f"/v1/responses/{kept}", method="DELETE").status == 404
        assert one.ask(key, "/v1/responses", {"input": "on", "previous_response_id": kept}).status == 400
        item = {"type": "item_reference", "id": "msg_1"}
        assert one.ask(key, "/v1/responses", {"input": [item]}).status in (400, 404)
    assert one.get(ANNA, f"/v1/responses/{kept}").json()["id"] == kept
    assert one.ask(ANNA, "/v1/responses", {"input": "on", "previous_response_id": kept}).status == 200
    assert len(one.setup.weak.calls[-1].messages) == 3


def test_nobody_rates_what_another_was_told_or_reads_the_metrics(desk: Make) -> None:
    one = desk(ledger=True)
    answer = one.ask(ANNA).json()["id"]
    for key in (BEN, OWNER):
        assert one.ask(key, "/v1/ratings", {"id": answer, "rating": "up"}).status == 400
    assert one.ask(ANNA, "/v1/ratings", {"id": answer, "rating": "up"}).status == 200
    assert one.get(ANNA, "/metrics").status == 403
    assert one.get(OWNER, "/metrics").status == 200


def test_a_spent_budget_keeps_its_caller_here_and_tells_no_sums(desk: Make) -> None:
    one = desk(
        callers__anna__daily_budget=2.5,
        strong__monthly_budget=1e6,
        **{name.replace(".", "__"): value for name, value in PRICED.items()},
    )
    hard = {"messages": HARD, "max_tokens": 1}
    reasons = [one.ask(ANNA, body=hard).header("x-edge-router-reason") for _ in range(5)]
    assert reasons == ["score", "score", "score", "budget", "budget"]
    for path, body in CHATS.items():
        refused = one.ask(ANNA, path, {**body, "model": "strong"})
        assert refused.status == 402 and "this day's money" in refused.body.decode(), path
    assert one.ask(BEN, body=hard).header("x-edge-router-reason") == "score"
    common = desk(strong__monthly_budget=0.5, **{name.replace(".", "__"): v for name, v in PRICED.items()})
    told = [common.ask(ANNA, body={**hard, "model": "strong"}) for _ in range(2)][-1]
    assert told.status == 402 and "0.5" not in told.error["message"]
    assert "0.5" in common.ask(OWNER, body={**hard, "model": "strong"}).error["message"]


def test_a_stream_that_is_open_goes_on_while_the_limit_is_reached(serve: Make) -> None:
    go = threading.Event()

    def slow(request: Any) -> Any:
        yield "one "
        assert go.wait(30)
        yield "two"

    config = HASHES | {"callers.anna.requests_per_minute": 1, "callers.ben.concurrency": 1}
    served = serve(config=config, weak=ScriptedEngine(default=slow, model_id="small"))
    for key, waits in ((ANNA, "requests a minute"), (BEN, "answers at once")):
        go.clear()
        client = served.client(api_key=key)
        with client.chat.completions.create(model="weak", messages=TURN, stream=True) as stream:  # type: ignore[arg-type]
            told = [next(stream).choices[0].delta.content]
            with pytest.raises(Exception, match=waits) as caught:
                client.chat.completions.create(model="weak", messages=TURN)  # type: ignore[arg-type]
            assert caught.value.status_code == 429  # type: ignore[attr-defined]
            go.set()
            told += [chunk.choices[0].delta.content for chunk in stream]
        assert "".join(text or "" for text in told) == "one two"
    assert served.client(api_key=BEN).chat.completions.create(model="weak", messages=TURN)  # type: ignore[arg-type]


def test_a_stream_that_is_left_gives_its_place_back(serve: Make) -> None:
    def endless(request: Any) -> Any:
        while True:
            yield "word "
            yield 0.01

    served = serve(
        config=HASHES | {"callers.ben.concurrency": 1},
        weak=ScriptedEngine(default=endless, model_id="small"),
    )
    client = served.client(api_key=BEN, max_retries=8)
    for _ in range(3):  # the client tries again until the place is free
        with client.chat.completions.create(model="weak", messages=TURN, stream=True) as stream:  # type: ignore[arg-type]
            assert next(iter(stream))


def test_many_clients_at_the_limit_at_the_same_time(serve: Make) -> None:
    served = serve(config=HASHES | {"callers.anna.requests_per_minute": 5})
    clients = {key: served.client(api_key=key) for key in (ANNA, BEN)}

    def ask(number: int) -> int:
        key = ANNA if number % 2 else BEN
        raw = clients[key].chat.completions.with_raw_response
        try:
            raw.create(model="weak", messages=TURN, stream=number % 3 == 0)  # type: ignore[call-overload]
        except openai.RateLimitError as error:
            return error.status_code
        return 200 if key == ANNA else 0

    with ThreadPoolExecutor(12) as threads:
        told = list(threads.map(ask, range(40)))
    assert (told.count(0), told.count(200), told.count(429)) == (20, 5, 15)


def test_typed_questions_know_their_caller(desk: Make) -> None:
    one = desk(callers__anna__models=("weak",), callers__ben__requests_per_minute=1)
    for path, body in BODIES.items():
        assert one.ask("", path, body).status == 401, path
        assert one.ask(ANNA, path, {**body, "model": "strong"}).status == 403, path
        assert one.ask(ANNA, path, body).status == 200, path
    told = one.ask(BEN, "/v1/systemone", SYSTEMONE)
    assert told.status == 200 and told.header("x-ratelimit-remaining-requests") == "0"
    for path, body in BODIES.items():
        limited = one.ask(BEN, path, body)
        assert limited.status == 429 and int(limited.header("retry-after")) >= 1, path


def test_no_caller_takes_the_weak_model_from_the_others(desk: Make) -> None:
    class Unloaded(ScriptedEngine):
        unloads = 0

        def unload(self) -> None:
            self.unloads += 1

    weak = Unloaded(model_id="small")
    one = desk()
    one = Desk(replace(one.setup, weak=weak))
    for body in ({"messages": TURN, "keep_alive": 0}, {"messages": [], "keep_alive": 0}):
        assert one.ask(ANNA, "/api/chat", body).status == 200
    assert weak.unloads == 0
    one.ask(OWNER, "/api/chat", {"messages": TURN, "keep_alive": 0})
    assert weak.unloads == 1


def test_the_clients_of_other_people_know_what_they_are_told(serve: Make) -> None:
    import anthropic
    import ollama

    limits = {"callers.anna.models": ["weak"], "callers.anna.requests_per_minute": 2}
    url = serve(config=HASHES | limits).url
    asked: dict[str, Any] = {"model": "auto", "max_tokens": 9, "messages": TURN}
    with anthropic.Anthropic(base_url=url, api_key=ANNA, max_retries=0) as client:
        create = client.messages.create
        assert create(**asked).content[0].text == "You said: hi"
        with pytest.raises(anthropic.PermissionDeniedError):
            create(**{**asked, "model": "strong"})
        create(**asked)
        for stream in (False, True):
            with pytest.raises(anthropic.RateLimitError) as caught:
                create(**asked, stream=stream)
            told = caught.value.response.headers
            assert 1 <= int(told["retry-after"]) <= 60
            assert told["anthropic-ratelimit-requests-remaining"] == "0"
    with closing(ollama.Client(url, headers={"Authorization": f"Bearer {ANNA}"})) as mine:
        for model, status in (("auto", 429), ("strong", 403)):
            with pytest.raises(ollama.ResponseError) as refused:
                mine.chat(model, messages=TURN)
            assert refused.value.status_code == status
        assert [model.model for model in mine.list().models] == ["auto", "weak", "small"]


def test_keys_are_read_at_the_start_only(desk: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_EVE", "e5" * 16)
    one = desk(callers__eve__api_key_env="KEY_OF_EVE")
    monkeypatch.delenv("KEY_OF_EVE")
    assert one.ask("e5" * 16).status == 200
    with pytest.raises(ConfigError, match="KEY_OF_EVE is not set"):
        desk(callers__eve__api_key_env="KEY_OF_EVE")


def test_the_ledger_knows_who_asked(desk: Make) -> None:
    one = desk(ledger=True)
    for key in (ANNA, BEN, OWNER):
        one.ask(key)
    from edge_router.ledger import Ledger
    from edge_router.system.paths import Paths

    ledger = Ledger(Paths.default().ledger)
    assert [record.decision.caller for record in ledger.recent()] == [None, "ben", "anna"]
    ledger.close()


def test_no_word_of_a_key_is_in_what_is_told(desk: Make) -> None:
    one = desk(callers__anna__requests_per_minute=1, callers__anna__models=("weak",))
    said = [one.ask(ANNA), one.ask(ANNA), one.ask(ANNA, body={"messages": TURN, "model": "strong"})]
    said += [one.ask(ANNA + "x"), one.get(OWNER, "/metrics")]
    for reply in said:
        text = json.dumps(reply.headers) + reply.body.decode()
        assert ANNA not in text and "sha256" not in text and hash_of(ANNA)[:12] not in text
