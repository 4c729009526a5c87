"""Who may call at all: Host, Origin and key, before any handler and on every path."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from edge_router import ScriptedEngine, ScriptedRouter
from edge_router.config.sections import ServerConfig
from edge_router.config.settings import Config
from edge_router.engines.base import Restarts
from edge_router.server.security import host_name, known_hosts, plain_path

CHAT = {"model": "weak", "messages": [{"role": "user", "content": "hi"}]}
LOCAL = ("host", "127.0.0.1:6060")
EVIL = ("origin", "https://evil.example")


def every_route(app: Any) -> Iterator[tuple[str, str]]:
    """Method and path of all there is, and of what there is not."""
    for route in app.routes:
        assert isinstance(route, Route)
        path = route.path.replace("{model:path}", "small")
        for method in route.methods or ():
            yield method, path
    for path in ("/", "/nothing/here", "/v1", "/v1/models/", "/health/", "//health", "/docs"):
        yield "GET", path
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "POST"):
        yield method, "/v1/models"


def refused(setup: Any, headers: list[tuple[str, str]], status: int) -> None:
    app = setup.app()
    routes = set(every_route(app))
    assert {("POST", "/v1/chat/completions"), ("GET", "/health"), ("GET", "/v1/models/small")} <= routes
    for method, path in sorted(routes):
        reply = setup.call(method, path, CHAT if method == "POST" else None, headers=headers, app=app)
        own = 422 if status == 400 and path == "/v1/systemone" else status  # that protocol's word for it
        assert reply.status == own, (method, path)
        if path.startswith("/api/"):
            assert isinstance(reply.json()["error"], str)
        elif path.startswith("/v1/messages"):
            assert reply.json()["type"] == "error"
        elif path == "/v1/systemone":
            assert set(reply.json()) == {"detail"}
        elif not path.startswith("/v1/responses"):
            assert reply.error["type"] in ("invalid_request_error", "permission_error")
        assert reply.header("access-control-allow-origin") is None
    assert setup.weak.calls == setup.strong.calls == []


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["localhost", "localhost"],
        ["localhost", "evil.example"],
        ["localhost:"],
        ["localhost:x"],
        ["localhost:1:2"],
        ["localhost:123456"],
        ["localhost "],
        ["local host"],
        ["localhost,evil.example"],
        ["user@localhost"],
        ["localhost/"],
        ["http://localhost"],
        ["[::1"],
        ["::1"],
        ["[::1]x"],
        ["[::1%25lo]"],
        ["\xe9"],
        ["localhost\n"],
        [":6060"],
        ["."],
    ],
)
def test_a_malformed_host_is_refused_everywhere(setup: Callable[..., Any], hosts: list[str]) -> None:
    refused(setup(), [("host", host) for host in hosts], 400)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:6060",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "localhost.",
        "127.0.0.2",
        "2130706433",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "192.168.0.7:6060",
    ],
)
def test_another_name_is_refused_everywhere(setup: Callable[..., Any], host: str) -> None:
    refused(setup(), [("host", host)], 403 if host != "localhost." else 400)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:6060", "localhost:6060"],
)
def test_the_loopback_names_with_any_port(setup: Callable[..., Any], host: str) -> None:
    assert setup().call("GET", "/health", headers=[("host", host)]).json() == {"status": "ok"}


def test_health_tells_of_a_weak_model_whose_process_has_ended(setup: Callable[..., Any]) -> None:
    """And not why, for anybody may ask."""

    class Model(ScriptedEngine):
        restarts = Restarts("running")

    weak = Model()
    api = setup(weak=weak)
    for restarts, told in (
        (Restarts("running"), {"status": "ok"}),
        (
            Restarts("starting", 0, "a secret"),
            {"status": "degraded", "weak_model": {"state": "starting", "restarts": 0}},
        ),
        (
            Restarts("pausing", 2, "a secret"),
            {"status": "degraded", "weak_model": {"state": "pausing", "restarts": 2}},
        ),
        (
            Restarts("running", 3, "a secret"),
            {"status": "ok", "weak_model": {"state": "running", "restarts": 3}},
        ),
    ):
        weak.restarts = restarts
        assert api.call("GET", "/health").json() == told


def test_names_that_the_user_adds(setup: Callable[..., Any]) -> None:
    added = setup(settings=ServerConfig(allowed_hosts=("Box.local", "fe80::1", "[fe80::2]", "other:80")))
    for host in ("box.local", "BOX.LOCAL:6060", "[fe80::1]", "[fe80::2]:1", "other:99"):
        assert added.call("GET", "/health", headers=[("host", host)]).status == 200
    refused(added, [("host", "box")], 403)


def test_the_bound_address_is_a_name_but_everywhere_is_none() -> None:
    assert "192.168.0.7" in known_hosts("192.168.0.7", ())
    assert (
        known_hosts("0.0.0.0", ()) == known_hosts("::", ()) == known_hosts("", ()) == known_hosts("::1", ())
    )


@given(st.text())
def test_a_host_is_a_plain_name_or_nothing(value: str) -> None:
    name = host_name(value)
    assert name is None or (name.isascii() and not set(name) & set(" /@,#?\\\n\t\0"))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://localhost:3000",
        "http://127.0.0.1",
        "http://127.0.0.1:60600",
        "http://127.0.0.1:6060.evil.example",
        "file://",
        "chrome-extension://abc",
        "ftp://127.0.0.1:6060",
    ],
)
def test_a_foreign_page_is_refused_everywhere(setup: Callable[..., Any], origin: str) -> None:
    refused(setup(), [LOCAL, ("origin", origin)], 403)
    elsewhere = ServerConfig(allowed_origins=("https://app.example",))
    refused(setup(settings=elsewhere), [LOCAL, ("origin", origin)], 403)


def test_two_origins_are_refused_everywhere(setup: Callable[..., Any]) -> None:
    own = ("origin", "http://127.0.0.1:6060")
    refused(setup(), [LOCAL, own, own], 403)


def test_a_preflight_of_a_foreign_page_is_refused(setup: Callable[..., Any]) -> None:
    refused(setup(), [LOCAL, EVIL, ("access-control-request-method", "POST")], 403)


def test_its_own_pages_may_call(setup: Callable[..., Any]) -> None:
    reply = setup().call(body=CHAT, headers=[LOCAL, ("origin", "http://127.0.0.1:6060")])
    assert reply.status == 200
    assert reply.header("access-control-allow-origin") is None


ALLOWED = ServerConfig(allowed_origins=("https://App.example/", "tauri://localhost"))


@pytest.mark.parametrize("origin", ["https://app.example", "tauri://localhost"])
def test_an_allowed_page_may_call_and_read(setup: Callable[..., Any], origin: str) -> None:
    allowed = setup(settings=ALLOWED, api_key="k")
    page = [LOCAL, ("origin", origin)]
    preflight = allowed.call(
        "OPTIONS",
        "/v1/chat/completions",
        headers=[
            *page,
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization, content-type, x-stainless-os"),
            ("access-control-request-private-network", "true"),
        ],
    )
    assert preflight.status == 204
    assert preflight.header("access-control-allow-origin") == origin
    assert "POST" in (preflight.header("access-control-allow-methods") or "")
    assert "x-stainless-os" in (preflight.header("access-control-allow-headers") or "")
    assert preflight.header("access-control-allow-private-network") == "true"
    for headers, status in (([*page, ("authorization", "Bearer k")], 200), (page, 401)):
        reply = allowed.call(body=CHAT, headers=headers)
        assert reply.status == status
        assert reply.header("access-control-allow-origin") == origin
        assert "x-edge-router-score" in (reply.header("access-control-expose-headers") or "")
        assert reply.header("vary") == "Origin"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("app://obsidian.md", "app://obsidian.md"),
        ("tauri://localhost", "tauri://localhost"),
        ("vscode-webview://1a2b3c", "vscode-webview://*"),
        ("chrome-extension://abc", "chrome-extension://*"),
        ("safari-web-extension://0A1B-2C", "safari-web-extension://*"),
        ("file://", "file://"),
        ("null", "null"),
        ("https://tauri.localhost", "https://tauri.localhost"),
        ("http://localhost:3000", "http://localhost:3000"),
    ],
)
def test_a_desktop_shell_is_told_the_setting_that_lets_it_in(
    setup: Callable[..., Any], origin: str, allowed: str
) -> None:
    page = [LOCAL, ("origin", origin)]
    before = ServerConfig(allowed_origins=("https://other.example",))
    for settings, setting in ((ServerConfig(), allowed), (before, f"https://other.example,{allowed}")):
        reply = setup(settings=settings).call(body=CHAT, headers=page)
        assert reply.status == 403
        assert f"`edge-router serve --set server.allowed_origins={setting}`" in reply.error["message"]
        told = Config().replace(**{"server.allowed_origins": setting}).server
        assert setup(settings=told).call(body=CHAT, headers=page).status == 200


@pytest.mark.parametrize(
    "origin",
    ["x`id`://a", "app://$(id)", "app://a;b", "app://" + "a" * 5000, "app://é", "app", "://a", "a b://c"],
)
def test_a_strange_origin_is_not_repeated(setup: Callable[..., Any], origin: str) -> None:
    reply = setup().call(body=CHAT, headers=[LOCAL, ("origin", origin.encode().decode("latin-1"))])
    assert reply.status == 403
    assert "allowed_origins" not in reply.error["message"] and len(reply.body) < 400


@pytest.mark.parametrize(
    "origin", ["vscode-webview-evil://x", "vscode-webview:x", "null", "https://vscode-webview"]
)
def test_a_whole_scheme_is_that_scheme(setup: Callable[..., Any], origin: str) -> None:
    webviews = setup(settings=ServerConfig(allowed_origins=("vscode-webview://*",)))
    refused(webviews, [LOCAL, ("origin", origin)], 403)


@pytest.mark.parametrize("path", ["//v1//models", "/v1/models/", "///v1/models//", "/v1//models/small/"])
def test_slashes_too_many_are_none(setup: Callable[..., Any], path: str) -> None:
    assert setup().call("GET", path).status == 200
    assert setup(api_key="k").call("GET", path).status == 401


@pytest.mark.parametrize("path", ["//v1/chat/completions", "/v1/chat/completions/", "/v1//completions"])
def test_slashes_too_many_of_a_post(setup: Callable[..., Any], path: str) -> None:
    body = CHAT if "chat" in path else {"model": "weak", "prompt": "hi"}
    assert setup().call(path=path, body=body).status == 200


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", "http://localhost:6060/v1"),
        ("127.0.0.1:7071", "http://127.0.0.1:7071/v1"),
        ("[::1]", "http://[::1]:6060/v1"),
        ("[::1]:9", "http://[::1]:9/v1"),
    ],
)
def test_nothing_here_says_where_something_is(setup: Callable[..., Any], host: str, address: str) -> None:
    for path in ("/", "/chat/completions", "/v2/models"):
        reply = setup().call("GET", path, headers=[("host", host)])
        assert reply.status == 404 and reply.error["message"].endswith(f"base_url ends in /v1: {address}.")
    below = setup().call("GET", "/v1/nothing", headers=[("host", host)])
    assert below.status == 404 and "base_url" not in below.error["message"]


LONG = "x" * 3_000_000


@pytest.mark.parametrize(
    "body",
    [
        CHAT | {"model": LONG},
        CHAT | {"model": f"router-{LONG}"},
        CHAT | {"model": f"router-word-{LONG}"},
        CHAT | {"model": f"router-{LONG}-0.5"},
        CHAT | {"model": "router-word-1" + "1" * 3_000_000},
        CHAT | {"messages": [{"role": LONG, "content": "hi"}]},
        CHAT | {"messages": [{"role": "user", "content": [{"type": LONG}]}]},
        CHAT | {"stream_options": {LONG: 1}},
        CHAT | {"logit_bias": {LONG: 1}},
        CHAT | {LONG: "\ud800"},
    ],
    ids=range(10),
)
def test_what_a_client_sends_is_not_repeated_at_length(
    setup: Callable[..., Any], caplog: pytest.LogCaptureFixture, body: dict[str, Any]
) -> None:
    with caplog.at_level(logging.DEBUG):
        reply = setup().call(body=json.dumps(body).encode())
    assert reply.status in (400, 404) and len(reply.body) < 3000
    assert len(caplog.text) < 5000


@pytest.mark.parametrize("path", ["/", "/v1/", "/v1/models/"])
def test_nor_is_a_long_path(setup: Callable[..., Any], caplog: pytest.LogCaptureFixture, path: str) -> None:
    with caplog.at_level(logging.DEBUG):
        reply = setup().call("GET", path + "x" * 15_000)
    assert reply.status == 404 and len(reply.body) < 1000
    host = setup().call("GET", "/", headers=[("host", "x" * 15_000)])
    assert host.status == 403 and len(host.body) < 1000
    assert len(caplog.text) < 3000


def test_every_page_may_call_where_the_user_says_so_but_not_null(setup: Callable[..., Any]) -> None:
    everyone = ServerConfig(allowed_origins=("*",))
    reply = setup(settings=everyone).call(body=CHAT, headers=[LOCAL, EVIL])
    assert (reply.status, reply.header("access-control-allow-origin")) == (200, EVIL[1])
    refused(setup(settings=everyone), [LOCAL, ("origin", "null")], 403)


def test_options_without_a_page_is_no_preflight(setup: Callable[..., Any]) -> None:
    reply = setup().call("OPTIONS", "/v1/models", headers=[LOCAL, ("access-control-request-method", "GET")])
    assert reply.status == 405 and reply.error["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "given",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "sécret")],
        [("authorization", "Basic c2VjcmV0")],
        [("authorization", "Bearer s\xe9cre")],
        [("authorization", "Bearer secret-s\xc3\xa9x")],
        [("authorization", "Bearer secret-s\xc3\xa9"), ("authorization", "Bearer secret-s\xc3\xa9")],
        [("authorization", "secret-s\xc3\xa9")],
        [("x-api-key", "wrong")],
        [("x-api-key", "")],
        [("x-api-key", "Bearer secret-s\xc3\xa9")],
        [("x-api-key", "secret-s\xc3\xa9"), ("x-api-key", "secret-s\xc3\xa9")],
        [("authorization", "Bearer wrong"), ("x-api-key", "wrong")],
        [("api-key", "secret-s\xc3\xa9")],
    ],
)
def test_the_key_is_asked_for_everywhere_but_at_health(
    setup: Callable[..., Any], given: list[tuple[str, str]]
) -> None:
    locked = setup(api_key="secret-sé")
    headers = [LOCAL, *given]
    app = locked.app()
    for method, path in every_route(app):
        reply = locked.call(method, path, headers=headers, app=app)
        if plain_path(path) == "/health":
            assert reply.status in (200, 405)
            assert len(reply.body) <= 200
        else:
            assert reply.status == 401, (method, path)
            assert b"The API key is missing or wrong." in reply.body
            assert reply.header("www-authenticate") == "Bearer"
            assert b"secret" not in reply.body
    assert locked.weak.calls == []


@pytest.mark.parametrize(
    "given",
    [
        [("authorization", "Bearer secret-s\xc3\xa9")],
        [("authorization", "bearer  secret-s\xc3\xa9 ")],
        [("x-api-key", "secret-s\xc3\xa9")],
        [("authorization", "Bearer of-something-else"), ("x-api-key", "secret-s\xc3\xa9")],
        [("authorization", "Bearer secret-s\xc3\xa9"), ("x-api-key", "of-something-else")],
    ],
)
def test_the_right_key(setup: Callable[..., Any], given: list[tuple[str, str]]) -> None:
    reply = setup(api_key="secret-sé").call(body=CHAT, headers=[LOCAL, *given])
    assert reply.status == 200


def test_an_empty_key_is_none(setup: Callable[..., Any]) -> None:
    assert setup(api_key="").call("GET", "/v1/models").status == 200


def test_every_reply_is_dressed(setup: Callable[..., Any]) -> None:
    app = setup().app()
    for method, path in every_route(app):
        reply = setup().call(method, path, app=app)
        assert reply.header("x-content-type-options") == "nosniff"
        assert reply.header("cross-origin-resource-policy") == "same-origin"


def test_a_mistake_of_ours_shows_nothing_of_itself(
    setup: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(text: str) -> float:
        raise AssertionError("private detail")

    one = setup(api_key="key-of-the-server", router=ScriptedRouter(broken, name="broken"))
    body = CHAT | {"model": "router-broken"}
    headers = [LOCAL, ("authorization", "Bearer key-of-the-server")]
    with caplog.at_level(logging.DEBUG):
        reply = one.call(body=body, headers=headers)
    assert reply.status == 500
    assert reply.error["code"] == "internal_error"
    assert b"private detail" not in reply.body
    assert reply.header("x-content-type-options") == "nosniff"
    assert "private detail" in caplog.text and "key-of-the-server" not in caplog.text


def test_log_lines_cannot_be_forged(setup: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        setup().call("GET", "/v1/models/x\nPOST forged\x1b[31mé")
    (record,) = [record for record in caplog.records if record.name == "edge_router.server"]
    line = record.getMessage()
    assert line.isascii() and line.isprintable() and line.endswith(" 404")


def test_websockets_are_refused(setup: Callable[..., Any]) -> None:
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        told.append(message)

    asyncio.run(setup().app()({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert told == [{"type": "websocket.close", "code": 1008}]


def test_lifespan_passes_through(setup: Callable[..., Any]) -> None:
    told: list[Any] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        told.append(message["type"])

    asyncio.run(setup().app()({"type": "lifespan", "app": None, "state": {}}, receive, send))
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
