"""The dashboard's stream over real connections: what comes, to how many, and how it ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from edge_router import ScriptedRouter
from edge_router.server.dashboard.dashboard import Dashboard
from edge_router.server.dashboard.data_routes import MOST_STREAMS


class Opened:
    """A server, and a client that has a session of its dashboard."""

    def __init__(self, served: Any, client: httpx.Client) -> None:
        self.served, self.client = served, client

    def ask(self, text: str) -> None:
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
        assert self.client.post("/v1/chat/completions", json=body).status_code == 200


@pytest.fixture
def opened(serve: Callable[..., Any]) -> Iterator[Callable[..., Opened]]:
    with ExitStack() as stack:

        def make(**fields: Any) -> Opened:
            dashboard = Dashboard()
            served = serve(dashboard=dashboard, **fields)
            client = stack.enter_context(httpx.Client(base_url=served.url, timeout=60, trust_env=False))
            reply = client.get(dashboard.link(served.url), headers={"accept": "text/html"})
            assert reply.status_code == 200 and client.cookies
            return Opened(served, client)

        yield make


def decisions(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    yield from (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))


def test_decisions_come_as_they_are_made_and_the_end_is_an_end(opened: Callable[..., Opened]) -> None:
    one = opened(config={"strong.model": "big"})
    with one.client.stream("GET", "/dashboard/events") as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store"
        lines = stream.iter_lines()
        assert next(lines) == ": listening"
        one.ask("easy")
        one.ask("hard")
        found = decisions(lines)
        rows = [next(found), next(found)]
        assert [(row["tier"], row["score"]) for row in rows] == [("weak", 0.125), ("strong", 0.875)]
        assert not any("prompt" in row for row in rows)
        one.served.stop()
        assert list(found) == []  # and no error: the reply is whole


def test_so_many_pages_and_no_more_until_one_is_closed(opened: Callable[..., Opened]) -> None:
    one = opened()
    with ExitStack() as pages:

        def page() -> tuple[httpx.Response, Iterator[str]]:
            found = pages.enter_context(one.client.stream("GET", "/dashboard/events"))
            lines = found.iter_lines()
            assert found.status_code == 503 or next(lines) == ": listening"
            return found, lines

        streams = [page() for _ in range(MOST_STREAMS)]
        refused, _ = page()
        assert refused.status_code == 503 and "Close one" in json.loads(refused.read())["error"]["message"]
        streams[0][0].close()
        while (again := page())[0].status_code == 503:  # the server hears of it in a moment
            again[0].close()
        one.ask("easy")
        for _, lines in (*streams[1:], again):
            assert next(decisions(lines))["tier"] == "weak"


def test_the_server_answers_others_while_the_page_waits_for_something(opened: Callable[..., Opened]) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(text: str) -> float:
        asked.set()
        assert go_on.wait(60)
        return 0.5

    one = opened(router=ScriptedRouter(slow, name="word"))
    replies = []
    url, cookies = f"{one.served.url}/dashboard/explain", dict(one.client.cookies)
    waiting = threading.Thread(
        target=lambda: replies.append(
            httpx.post(url, json={"prompt": "x"}, cookies=cookies, timeout=60, trust_env=False)
        )
    )
    waiting.start()
    assert asked.wait(60)
    assert one.client.get("/health").json()["status"] == "ok"
    assert one.client.get("/dashboard/facts").status_code == 200 and replies == []
    go_on.set()
    waiting.join(60)
    assert replies[0].json()["score"] == 0.5
