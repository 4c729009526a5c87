"""The dashboard without a browser: who gets in, what is shown of what, and that nothing else at / has changed."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_router import ScriptedEngine
from edge_router.callers.keys import hash_of
from edge_router.chat.events import Usage
from edge_router.config.settings import ServerConfig
from edge_router.errors import ConfigError
from edge_router.ledger import Ledger, Record
from edge_router.server.dashboard import access
from edge_router.server.dashboard.access import DashboardAccess
from edge_router.server.dashboard.dashboard import Dashboard
from edge_router.server.dashboard.data_routes import SavedSettings
from edge_router.server.dashboard.decision_rows import PROMPT, row_of
from edge_router.server.dashboard.live import MOST_UNREAD, RecordFeed
from edge_router.server.dashboard.page import FOLDER, files
from edge_router.system.paths import Paths
from edge_router.types import Decision, Reason, Timings

ROOT = Path(__file__).parents[2]
HOST = ("host", "127.0.0.1:6060")
BROWSER = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
DATA = ("facts", "traffic", "decisions")
POSTS = {"explain": {"prompt": "hi"}, "threshold": {"threshold": 0.4}}
PROMPT_TEXT = "a prompt of mine"


class Opened:
    """A setup's app, and a session in it."""

    def __init__(self, make: Callable[..., Any], **fields: Any) -> None:
        self.links = list[str]()
        self.saved = list[Mapping[str, object]]()
        saves = fields.pop("saves", self.save)
        self.dashboard = Dashboard(save=saves, renewed=self.links.append)
        self.setup = make(dashboard=self.dashboard, **fields)
        self.app = self.setup.app()
        self.link = self.dashboard.link("http://127.0.0.1:6060")
        self.path = self.link.removeprefix("http://127.0.0.1:6060")

    def save(self, values: Mapping[str, object]) -> SavedSettings:
        self.saved.append(values)
        return SavedSettings(Path("/there/config.toml"), ("A note.",))

    def enter(self) -> Any:
        reply = self.get(self.path, BROWSER)
        self.cookie = ("cookie", (reply.header("set-cookie") or "").partition(";")[0])
        return reply

    def get(self, path: str, *headers: tuple[str, str], method: str = "GET") -> Any:
        return self.setup.call(method, path, headers=[HOST, *headers], app=self.app)

    def data(self, name: str, *headers: tuple[str, str]) -> Any:
        return self.get(f"/dashboard/{name}", self.cookie, *headers)

    def post(self, name: str, body: object, *headers: tuple[str, str]) -> Any:
        given = [HOST, *headers] if headers else [HOST, self.cookie]
        return self.setup.call("POST", f"/dashboard/{name}", body, headers=given, app=self.app)


@pytest.fixture
def opened(setup: Any) -> Callable[..., Opened]:
    def make(**fields: Any) -> Opened:
        found = Opened(setup, **fields)
        assert found.enter().status == 200
        return found

    return make


def test_the_link_opens_the_page_once_and_the_session_stays(setup: Any) -> None:
    one = Opened(setup)
    assert one.get("/", BROWSER).status == 401
    first = one.enter()
    assert first.status == 200 and b'<script type="module" src="/dashboard/app.js">' in first.body
    name, _, rest = (first.header("set-cookie") or "").partition("=")
    assert (
        name == "edge_router_6060" and "HttpOnly" in rest and "SameSite=strict" in rest and "Path=/" in rest
    )
    assert "Max-Age" not in rest and "expires" not in rest.lower()
    again = one.get(one.path, BROWSER)
    assert again.status == 401 and again.header("set-cookie") is None
    assert b"<code>edge-router dashboard</code> prints a link" in again.body
    for path in (one.path, "/", "/dashboard", "/dashboard/"):
        assert one.get(path, BROWSER, one.cookie).status == 200, path
    # The next link is another, and opens a second browser.
    (renewed,) = one.links
    assert renewed != one.link and renewed.startswith("http://127.0.0.1:6060/?token=")
    one.path = renewed.removeprefix("http://127.0.0.1:6060")
    assert one.enter().status == 200 and len(one.links) == 2


def test_a_browser_is_forgotten_for_another_and_no_token_or_session_is_guessed() -> None:
    entry = DashboardAccess()
    for wrong in ("", "x", entry.token[:-1], entry.token + "x", "\udc80"):
        assert entry.enter(wrong) is None
        assert not entry.knows(wrong)
    sessions = [entry.enter(entry.token) for _ in range(access.MOST + 1)]
    assert not entry.knows(None) and not entry.knows(entry.token)
    assert [entry.knows(each) for each in sessions] == [False] + [True] * access.MOST


def test_everyone_but_a_browser_is_answered_at_the_root_as_ever(setup: Any) -> None:
    one, plain = Opened(setup), setup()
    for method in ("GET", "HEAD", "POST"):
        for accept in ([], [("accept", "*/*")], [("accept", "application/json")]):
            told = one.setup.call(method, "/", headers=[HOST, *accept], app=one.app, json_type=False)
            before = plain.call(method, "/", headers=[HOST, *accept], json_type=False)
            assert (told.status, told.body) == (before.status, before.body), (method, accept)
    assert one.get(one.path).status == 404 and one.enter().status == 200  # which has not used the link up
    theirs = Opened(setup, settings=ServerConfig(port=0, ollama_port=6060))
    assert theirs.get("/", BROWSER).body == theirs.get(theirs.path, BROWSER).body == b"Ollama is running"
    for path in ("/", "/dashboard/facts", "/dashboard/app.js"):
        without = plain.call("GET", path, headers=[HOST, BROWSER])
        assert without.status == 404, path


def test_without_a_session_there_are_the_pages_files_and_nothing_else(setup: Any) -> None:
    one = Opened(setup)
    for name in (*DATA, "events", "nothing", "index.html", "closed.html", "..%2Frows.py", "__init__.py"):
        reply = one.get(f"/dashboard/{name}", ("cookie", "edge_router_6060=x"))
        known = name in (*DATA, "events")
        assert reply.status == (401 if known else 404), name
        assert not known or "`edge-router dashboard` prints a link" in reply.error["message"]
    for name, body in POSTS.items():
        assert one.post(name, body, ("x-none", "")).status == 401
    for name in files():
        assert one.get(f"/dashboard/{name}").status == 200, name
    assert one.saved == []


def test_pages_from_elsewhere_get_nothing_also_where_the_user_allowed_them(opened: Any) -> None:
    one = opened(settings=ServerConfig(port=0, allowed_origins=("http://localhost:3000", "*")))
    assert one.data("decisions", ("origin", "http://127.0.0.1:6060")).status == 200
    for headers in (
        [("origin", "http://localhost:3000")],
        [("origin", "http://127.0.0.1:3000")],
        [("origin", "https://evil.example")],
        [("sec-fetch-site", "same-site")],
        [("sec-fetch-site", "cross-site")],
    ):
        reply = one.data("decisions", *headers)
        assert reply.status == 403, headers
        assert one.post("threshold", {"threshold": 0.4}, one.cookie, *headers).status == 403, headers
    assert one.saved == []


def test_each_of_its_paths_stands_behind_the_same_guard(opened: Any) -> None:
    one = opened()
    paths = [route.path.replace("{name}", "app.js") for route in one.app.routes]
    own = ["/", *(path for path in paths if path.startswith("/dashboard"))]
    assert len(own) == 9
    for path in own:
        for headers in ([("host", "evil.example")], [HOST, ("origin", "https://evil.example")]):
            given = [*headers, BROWSER, one.cookie]
            assert one.setup.call("GET", path, headers=given, app=one.app).status == 403, path


def test_the_page_asks_for_no_key_and_a_callers_key_does_not_open_it(setup: Any) -> None:
    key = "sk-er-" + "k" * 40
    config = {"callers.anna.key_hash": hash_of(key)}
    one = Opened(setup, api_key="owner's key, which is long", config=config)
    for given in (key, "owner's key, which is long"):
        bearer = ("authorization", f"Bearer {given}")
        assert one.get("/dashboard/facts", bearer).status == 401
        assert one.get("/", BROWSER, bearer).status == 401
        assert one.get("/v1/models", bearer).status == 200
    assert one.enter().status == 200 and one.data("facts").status == 200
    assert one.get("/v1/models", one.cookie).status == 401  # and the session opens nothing else


def test_what_a_page_may_do_is_said_and_nothing_in_it_needs_more(opened: Any) -> None:
    one = opened()
    for path in ("/", "/dashboard/app.js", "/dashboard/style.css"):
        reply = one.get(path, BROWSER, one.cookie)
        policy = reply.header("content-security-policy")
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy and "http" not in policy and "frame-ancestors 'none'" in policy
        assert (
            reply.header("referrer-policy") == "no-referrer" and reply.header("cache-control") == "no-store"
        )
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        code = re.sub(r"//.*", "", text) if file.suffix == ".js" else text
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", code
        ), file
        assert file.suffix == ".svg" or not re.search(r"https?://(?!www\.w3\.org)", code), file
        if file.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)|javascript:", text), file
            loaded = set(re.findall(r'(?:src|href)="/dashboard/([^"]+)"', text))
            assert loaded <= files(), file


def test_the_files_are_in_the_wheel() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["edge_router.server.dashboard"]
    packed = {file for pattern in patterns for file in FOLDER.parent.glob(pattern)}
    assert packed == set(FOLDER.iterdir())
    assert {file.name for file in packed} == files() | {"index.html", "closed.html"}


def test_facts_traffic_and_decisions_of_what_was_answered(opened: Any) -> None:
    priced = {"strong.model": "big", "strong.price_in": 2.0, "strong.price_out": 8.0, "router.name": "length"}
    one = opened(ledger=True, config={**priced, "response_cache.mode": "memory"})
    for text in ("hi", "hard", "hard"):
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], "temperature": 0}
        assert one.setup.call(body=body, headers=[HOST], app=one.app).status == 200
    facts, traffic = one.data("facts").json(), one.data("traffic").json()
    rows = one.data("decisions").json()["decisions"]
    assert [(row["tier"], row["reason"]) for row in rows] == [
        ("strong", "cached"),
        ("strong", "score"),
        ("weak", "score"),
    ]
    assert rows[1]["score"] == 0.875 and rows[1]["why"].startswith("score 0.875 reaches the threshold")
    assert not any("prompt" in row for row in rows)
    assert (traffic["answers"], traffic["here"], traffic["away"], traffic["again"]) == (3, 2, 1, 1)
    assert traffic["prices"] == {"price_in": 2.0, "price_out": 8.0, "source": "your settings"}
    assert traffic["cost"] > 0 and traffic["saved"] > 0 and traffic["fixed_by"] is None
    assert facts["cache"]["mode"] == "memory" and facts["cache"]["lookups"]["hit"] == 1
    assert facts["strong"] == "big" and facts["weak"]["loaded"] and facts["memory"]["resident"] > 0
    assert one.data("traffic?days=0").json()["answers"] == 0
    for days in ("x", "-1", "nan", "1e9", "inf"):
        assert one.data(f"traffic?days={days}").status == 400, days


def test_without_a_ledger_that_is_said(opened: Any) -> None:
    one = opened()
    assert "ledger.enabled" in one.data("traffic").json()["off"]
    assert one.data("decisions").json() == {"decisions": []}


def test_prompts_are_shown_only_while_the_ledger_stores_them(opened: Any, paths: Paths) -> None:
    Ledger(paths.ledger, store_prompts=True).record(
        Record(Decision("weak", Reason.FORCED), "small", prompt=PROMPT_TEXT + "x" * PROMPT)
    )
    assert PROMPT_TEXT not in one_body(opened(ledger=True))
    shown = json.loads(one_body(opened(ledger=True, config={"ledger.store_prompts": True})))["decisions"]
    assert shown[0]["prompt"].startswith(PROMPT_TEXT) and len(shown[0]["prompt"]) == PROMPT


def one_body(one: Opened) -> str:
    return one.data("decisions").body.decode()


def test_a_decision_is_explained_and_neither_answered_nor_remembered(opened: Any) -> None:
    one = opened(ledger=True, config={"strong.model": "big"})
    told = one.post("explain", {"prompt": "a hard one"}).json()
    assert (told["model"], told["reason"], told["score"]) == ("strong", "score", 0.875)
    assert told["why"].startswith("score 0.875 reaches") and told["router"] == "word" and told["ms"] >= 0
    private = one.post("explain", {"prompt": "a hard one", "private": True}).json()
    assert (private["model"], private["reason"]) == ("weak", "private")
    for wrong in (
        {},
        {"prompt": " "},
        {"prompt": 3},
        {"prompt": "x" * 100_001},
        {"prompt": "x", "private": 1},
    ):
        assert one.post("explain", wrong).status == 400, str(wrong)[:40]
    assert one.setup.weak.calls == one.setup.strong.calls == []
    assert one.data("decisions").json() == {"decisions": []}


def test_a_threshold_is_saved_where_settings_are_and_nowhere_else(opened: Any) -> None:
    one = opened()
    assert one.post("threshold", {"threshold": 0.42}).json() == {
        "file": "/there/config.toml",
        "notes": ["A note."],
        "threshold": 0.42,
    }
    assert one.saved == [{"router.threshold": 0.42}]
    for wrong in (None, "0.4", True, -0.1, 1.1, [0.4]):
        assert one.post("threshold", {"threshold": wrong}).status == 400, wrong
    own = opened(config={"router.threshold": 0.2})
    assert "counts before the file's" in own.post("threshold", {"threshold": 0.42}).json()["notes"][0]

    def fails(values: Mapping[str, object]) -> SavedSettings:
        raise ConfigError("router.threshold", 0.42, "may not be", "there")

    reply = opened(saves=fails).post("threshold", {"threshold": 0.42})
    assert reply.status == 500 and "router.threshold" in reply.error["message"]
    for fields in ({"saves": None}, {"config": {"router.strong_share": 0.3}}):
        kept = opened(ledger=True, **fields)
        why = kept.data("traffic").json()["fixed_by"]
        reply = kept.post("threshold", {"threshold": 0.42})
        assert why and reply.status == 409 and reply.error["message"] == why and kept.saved == []


def test_a_row_is_json_whatever_a_router_gives() -> None:
    decision = Decision("strong", Reason.SCORE, float("nan"), 0.5, "odd")
    timings = Timings(score_ms=float("inf"))
    row = row_of(Record(decision, "<b>", Usage(1, 2), timings, prompt="secret"), prompts=False)
    assert row["score"] is None and row["score_ms"] is None
    assert "secret" not in json.dumps(row, allow_nan=False)


def test_a_page_that_does_not_read_costs_no_more_than_its_last_decisions() -> None:
    async def work() -> list[list[Record]]:
        feed = RecordFeed()
        nothing = await feed.take(0.0)
        await asyncio.to_thread(
            lambda: [feed.put(Record(Decision("weak", Reason.FORCED), str(n))) for n in range(1000)]
        )
        return [nothing, await feed.take(30), await feed.take(0.0)]

    nothing, found, after = asyncio.run(work())
    assert nothing == after == []
    assert [record.model for record in found] == [str(n) for n in range(1000 - MOST_UNREAD, 1000)]


def test_scripted_engines_are_asked_by_nothing_of_it(opened: Any) -> None:
    one = opened(weak=ScriptedEngine(model_id="small"))
    for name in DATA:
        assert one.data(name).status == 200
    assert one.setup.weak.calls == []
