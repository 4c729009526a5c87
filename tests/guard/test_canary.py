"""Canaries in every place of a request, and every byte that leaves this process watched for them."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_router import AsyncController, Config, Controller, ScriptedEngine, ScriptedRouter
from edge_router.config.sections import ServerConfig
from edge_router.errors import InternalError, Withheld
from edge_router.labelling.pairs import Labelling, LabelTask, label_tasks
from edge_router.server.app import create_app

KEY, CARD, MAIL = "sk-proj-" + "aB3" * 8, "4111 1111 1111 1111", "canary@example.org"
PLACE = "the project Bluebird"
WORDS = f"hard: {KEY}, {CARD}, {MAIL}, {PLACE}"
CODED = base64.b64encode(f"key of the build: {KEY}\n".encode()).decode()
CANARIES = [each.encode() for each in (KEY, CARD, MAIL, "Bluebird", CODED[:40])]
HIDDEN = {
    "guard.level": "strict",
    "guard.secrets": "redact",
    "guard.cards": "redact",
    "guard.ibans": "redact",
}
RULES = '[[rule]]\nname = "project"\nwords = "bluebird"\nthen = "redact"\n'
ASKED = [{"role": "system", "content": f"You are {MAIL}."}, {"role": "user", "content": WORDS}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "description": WORDS,
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "string", "enum": [KEY], "description": MAIL}},
            },
        },
    }
]
CALLED = [
    *ASKED,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": WORDS})}}
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"env": f"A=1\nK={KEY}", "coded": CODED})},
]
# Every protocol, with what it may hold in its own words.
CHATS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": ASKED, "user": MAIL, "metadata": {"who": MAIL}, "stop": [KEY]}),
    ("/v1/chat/completions", {"messages": ASKED, "stream": True, "logit_bias": {"5": 1}}),
    ("/v1/chat/completions", {"messages": CALLED, "tools": TOOLS}),
    (
        "/v1/chat/completions",
        {
            "messages": ASKED,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "x",
                    "schema": {"type": "object", "properties": {"a": {"const": KEY}}},
                },
            },
        },
    ),
    (
        "/v1/chat/completions",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": WORDS}, {"type": "text", "text": CODED}],
                }
            ]
        },
    ),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"hard: {KEY[:9]}\u200b{KEY[9:]}"}]}),
    ("/v1/completions", {"prompt": WORDS}),
    ("/v1/messages", {"messages": ASKED[1:], "system": f"You are {MAIL}.", "max_tokens": 9}),
    ("/v1/messages", {"messages": ASKED[1:], "max_tokens": 9, "stream": True, "metadata": {"user_id": MAIL}}),
    ("/v1/responses", {"input": ASKED, "instructions": MAIL}),
    ("/v1/responses", {"input": WORDS, "stream": True}),
    ("/api/chat", {"messages": ASKED, "stream": False}),
    ("/api/generate", {"prompt": WORDS, "system": MAIL}),
]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytearray]:
    """All that any socket of this process was given to send."""
    gathered = bytearray()

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(socket.socket, name)

        def send(self: socket.socket, data: Any, *more: Any) -> Any:
            for piece in data if name == "sendmsg" else (data,):
                gathered.extend(bytes(piece))
            return real(self, data, *more)

        return send

    names = [name for name in ("send", "sendall", "sendto", "sendmsg") if hasattr(socket.socket, name)]
    for name in names:
        monkeypatch.setattr(socket.socket, name, watched(name))
    yield gathered


def leaked(data: bytes | bytearray) -> list[bytes]:
    return [each for each in CANARIES if each in data]


@pytest.fixture
def controller(strong_server: Any, paths: Any) -> Iterator[Callable[..., Controller]]:
    made: list[Controller] = []

    def make(url: str = "ok", **settings: object) -> Controller:
        paths.rules.write_text(RULES)
        config = Config().replace(
            **{
                "strong.model": "big",
                "strong.base_url": strong_server.url(url),
                "ledger.store_prompts": True,
                **settings,
            }
        )
        weak = ScriptedEngine(default="weakly")
        made.append(Controller(config, weak=weak, router=ScriptedRouter(0.9)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def call(app: Any, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    """One request to the app itself, which takes no socket."""
    told: list[dict[str, Any]] = []
    waiting = [json.dumps(body).encode()]

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": waiting.pop(), "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "root_path": "",
        "asgi": {"version": "3.0"},
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"user-agent", MAIL.encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 6060),
    }
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 60))
    start, *rest = told
    return start["status"], b"".join(message.get("body", b"") for message in rest)


def test_what_stays_here_is_sent_to_nobody(
    controller: Callable[..., Controller], strong_server: Any, sent: bytearray
) -> None:
    app = create_app(AsyncController(controller()), ServerConfig(port=0))
    for path, body in CHATS:
        status, said = call(app, path, body)
        assert status == 200 and b"weakly" in said, (path, body, said)
        status, said = call(app, path, {**body, "model": "strong"})
        assert status == 403 and KEY.encode() not in said, (path, said)
    assert strong_server.requests() == []
    assert leaked(sent) == []


def test_what_is_hidden_reaches_nobody_and_comes_back(
    controller: Callable[..., Controller], strong_server: Any, paths: Any, sent: bytearray
) -> None:
    app = create_app(AsyncController(controller(**HIDDEN)), ServerConfig(port=0))
    for path, body in CHATS:
        status, said = call(app, path, body)
        assert status == 200 and b"strong: " in said, (path, said)
        told = json.dumps(strong_server.requests()[-1])
        assert "[SECRET_1]" in told and leaked(told.encode()) == [], (path, told)
        assert b"SECRET_" not in said and b"EMAIL_" not in said, (path, said)
        if not body.get("stream") and WORDS in (body.get("messages") or ASKED)[-1]["content"]:
            assert KEY.encode() in said and CARD.encode() in said, (path, said)
    assert len(strong_server.requests()) == len(CHATS)
    assert b"[EMAIL_1]" in sent and leaked(sent) == []
    for file in (paths.ledger, Path(f"{paths.ledger}-wal")):
        kept = file.read_bytes() if file.exists() else b""
        assert not [each for each in CANARIES[:3] if each in kept]


def test_labels_and_judges_are_asked_through_the_same_door(
    controller: Callable[..., Controller], strong_server: Any, sent: bytearray, tmp_path: Path
) -> None:
    how = Labelling("strong", tmp_path / "out.jsonl")
    label_tasks(controller(**HIDDEN), [LabelTask(WORDS)], how)
    asked = [json.dumps(each) for each in strong_server.requests()]
    assert len(asked) == 2 and all("[SECRET_1]" in each for each in asked)  # for an answer, and for a verdict
    with pytest.raises(Withheld):
        label_tasks(controller(), [LabelTask(WORDS)], Labelling("strong", tmp_path / "other.jsonl"))
    assert len(strong_server.requests()) == 2
    assert leaked(sent) == []


def test_what_fails_is_sent_no_other_way(
    controller: Callable[..., Controller], strong_server: Any, sent: bytearray
) -> None:
    """Each try of a request that is sent again, without a field that is not taken there, is the hidden one."""
    for url in ("flaky-2-500+ok", "refuse-user+ok", "cut-2", "401", "html"):
        with controller(url, **HIDDEN, **{"strong.max_retries": 2, "strong.timeout_s": 5.0}) as one:
            try:
                one.chat.completions.create(messages=ASKED, user=MAIL)
            except Exception as error:  # noqa: BLE001 - of whatever kind
                assert not leaked(repr(error).encode()), url
    assert len(strong_server.requests()) > 6
    assert leaked(sent) == []


def test_a_mistake_is_logged_without_it(paths: Any, caplog: pytest.LogCaptureFixture) -> None:
    weak = ScriptedEngine(ValueError(f"cannot read {WORDS}"))
    with (
        Controller(Config(), weak=weak, router=ScriptedRouter(0.1), paths=paths) as one,
        pytest.raises(InternalError),
    ):
        one.chat.completions.create(messages=ASKED)
    assert "cannot read hard: [SECRET_1], [CARD_1]" in caplog.text
    assert KEY not in caplog.text and CARD not in caplog.text
