"""Thumbs through the server, for answers in one piece and for streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_router import AsyncController, Config, Controller
from edge_router.ledger import Ledger
from edge_router.server import ratings
from edge_router.server.app import create_app
from edge_router.system.paths import Paths

HI = [{"role": "user", "content": "hi"}]
Post = Callable[..., Any]


@pytest.fixture
def post(setup: Callable[..., Any], paths: Paths) -> Iterator[Post]:
    """`post(path, body)` to one server that records what it answers, and the prompts."""
    made = setup()
    config = Config().replace(**{"ledger.store_prompts": True})
    controller = Controller(config, weak=made.weak, strong=made.strong, paths=paths)
    app = create_app(AsyncController(controller), made.settings)
    yield lambda path, body: made.call("POST", path, body, app=app)
    controller.close()


def rated(paths: Paths) -> list[tuple[str | None, int | None]]:
    ledger = Ledger(paths.ledger)
    found = [(record.prompt, record.rating) for record in ledger.rated()]
    ledger.close()
    return found


def test_an_answer_is_rated_by_its_id(post: Post, paths: Paths) -> None:
    first, second = (
        post(
            "/v1/chat/completions", {"model": "weak", "messages": [{"role": "user", "content": text}]}
        ).json()
        for text in ("one", "two")
    )
    reply = post("/v1/ratings", {"id": first["id"], "rating": "down"})
    assert reply.status == 200
    assert reply.json() == {
        "id": first["id"],
        "object": "rating",
        "rating": "down",
        "model": "small",
        "prompt_kept": True,
    }
    assert rated(paths) == [("one", -1)]
    post("/v1/ratings", {"id": second["id"], "rating": "up"})
    post("/v1/ratings", {"id": first["id"], "rating": "up"})
    assert sorted(rated(paths)) == [("one", 1), ("two", 1)]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_is_rated_by_the_id_of_its_pieces(post: Post, paths: Paths, path: str) -> None:
    asked = {"prompt": "hi"} if path == "/v1/completions" else {"messages": HI}
    lines = post(path, {"model": "weak", "stream": True, **asked}).body.decode().splitlines()
    ids = {json.loads(line[6:])["id"] for line in lines if line.startswith("data: {")}
    (number,) = ids
    assert post("/v1/ratings", {"id": number, "rating": "up"}).status == 200
    assert [rating for _, rating in rated(paths)] == [1]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"rating": "up"}, "id", "must be the id of an answer"),
        ({"id": 17, "rating": "up"}, "id", "must be the id of an answer"),
        ({"id": "chatcmpl-0", "rating": "good"}, "rating", "must be up or down"),
        ({"id": "chatcmpl-0", "rating": []}, "rating", "must be up or down"),
        ({"id": "chatcmpl-0", "rating": "up"}, "id", "no answer of that id"),
    ],
)
def test_what_cannot_be_rated(post: Post, body: dict[str, object], param: str, message: str) -> None:
    reply = post("/v1/ratings", body)
    assert reply.status == 400
    assert reply.error["param"] == param
    assert message in reply.error["message"]


def test_without_a_ledger_there_is_nothing_to_rate(setup: Callable[..., Any]) -> None:
    made = setup()
    app = made.app()
    answer = made.call("POST", "/v1/chat/completions", {"model": "weak", "messages": HI}, app=app).json()
    refused = made.call("POST", "/v1/ratings", {"id": answer["id"], "rating": "up"}, app=app)
    assert refused.status == 400


def test_old_answers_make_room_for_new_ones(
    post: Post, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratings, "KEPT", 2)
    ids = [post("/v1/chat/completions", {"model": "weak", "messages": HI}).json()["id"] for _ in range(3)]
    statuses = [post("/v1/ratings", {"id": number, "rating": "up"}).status for number in ids]
    assert statuses == [400, 200, 200]
