"""Typed questions over HTTP: both protocols, long waits, multipart and packed bodies."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from table import each

from edge_router import Choice, Config, Controller, ScriptedEngine, YesNo
from edge_router.config.questions import NAME
from edge_router.errors import ConfigError, StrongFailed, WeightsUnavailable
from edge_router.questions.answer import YesNoAnswer
from edge_router.questions.bounds import Bounds
from edge_router.questions.inquiry import Inquiry
from edge_router.questions.question import Question
from edge_router.routing.thresholds.spending import Spending
from edge_router.server.http.exchange import BrokenOff
from edge_router.server.http.limits import ServerLimits
from edge_router.surfaces.decisions.encode import BLANK
from edge_router.system.paths import Paths

PNG = b"\x89PNG\r\n\x1a\n\0--x\r\n\xff"
SYSTEMONE = {
    "state": "My invoice is wrong.",
    "model": "jev-latest",
    "questions": {
        "b": {"type": "noul", "instructions": "Is it?"},
        "a": {"type": "score", "criteria": ["x", "y"]},
    },
}
DECISIONS = {
    "input": "My invoice is wrong.",
    "model": "auto",
    "questions": [{"type": "predicate", "instructions": "Is it?"}],
}
BODIES = {"/v1/systemone": SYSTEMONE, "/v1/decisions": DECISIONS}


def half(inquiry: Inquiry, question: Question) -> tuple[float, float]:
    return (0.25, 0.75)


def small(**fields: Any) -> ScriptedEngine:
    return ScriptedEngine(model_id="small", serves=(), **{"judge": half, **fields})


def test_both_protocols_answer(setup: Callable[..., Any]) -> None:
    one = setup(weak=small())
    reply = one.call(path="/v1/systemone", body=SYSTEMONE)
    assert reply.status == 200 and list(reply.json()["answers"]) == ["b", "a"]
    assert reply.json()["answers"]["b"] == {"type": "noul", "noul": 0.75}
    assert reply.header("x-typesafe-request-id") == reply.header("x-request-id") is not None
    assert (reply.header("x-edge-router-model"), reply.header("x-edge-router-reason")) == (
        "weak",
        "uncalibrated",
    )
    reply = one.call(path="/v1/decisions", body=DECISIONS)
    assert reply.json()["answers"] == [{"type": "predicate", "name": None, "probability": 0.75}]
    assert reply.json()["model"] == "small"


def test_only_typesafes_clients_may_name_any_model(setup: Callable[..., Any]) -> None:
    one = setup(weak=small())
    for name in ("jev-latest", "weak", "small", "router-word"):
        assert one.call(path="/v1/systemone", body={**SYSTEMONE, "model": name}).status == 200, name
    assert one.call(path="/v1/decisions", body={**DECISIONS, "model": "gpt-6-luna"}).status == 404


def test_models_are_listed_for_every_client(setup: Callable[..., Any]) -> None:
    body = setup().call("GET", "/v1/models").json()
    assert body["object"] == "list" and {each["id"] for each in body["data"]} >= {"auto", "weak"}
    for each_one in body["models"]:
        assert set(each_one) == {"name", "description", "release_date"}
        assert all(isinstance(value, str) and value for value in each_one.values())
    assert {each["name"] for each in body["models"]} >= {"auto", "weak"}


def test_errors_have_the_protocols_form(setup: Callable[..., Any]) -> None:
    one = setup(weak=small(), api_key="k")
    refused = one.call(path="/v1/systemone", body=SYSTEMONE)
    assert refused.status == 401 and isinstance(refused.json()["detail"], str)
    key = [("host", "localhost"), ("authorization", "Bearer k")]
    bad = one.call(path="/v1/systemone", body={**SYSTEMONE, "questions": {}}, headers=key)
    assert bad.status == 422 and bad.json()["detail"][0]["loc"] == ["body", "questions"]
    assert bad.header("x-typesafe-request-id")
    bad = one.call(path="/v1/decisions", body={**DECISIONS, "questions": []}, headers=key)
    assert bad.status == 400 and bad.error["param"] == "questions"
    for path in BODIES:
        nan = json.dumps(BODIES[path]).replace('"My invoice is wrong."', '[{"a": NaN}]').encode()
        bad = one.call(path=path, body=nan, headers=key)
        where = "state[0].a" if path == "/v1/systemone" else "input[0].a"
        assert where in json.dumps(bad.json()) or bad.json()["detail"][0]["loc"] == ["body", "state", 0, "a"]
        twice = b'{"questions": {"a": {"type": "choice", "criteria": {"x": null, "x": null}}}, "state": "s"}'
        assert one.call(path=path, body=twice, headers=key).status in (400, 422)


def test_a_state_that_is_too_long_is_refused_or_cut(setup: Callable[..., Any]) -> None:
    def one() -> Any:
        return setup(
            weak=small(context_window_size=2),
            strong=ScriptedEngine(judge=None, default=StrongFailed("x", 500, "no")),
        )

    refused = one().call(path="/v1/systemone", body={**SYSTEMONE, "model": "weak"})
    assert refused.status == 422 and "tokens" in refused.json()["detail"][0]["msg"]
    assert refused.json()["detail"][0]["loc"] == ["body", "state"]
    assert one().call(path="/v1/decisions", body={**DECISIONS, "model": "weak"}).error["code"] == (
        "context_length_exceeded"
    )
    cut = one().call(path="/v1/systemone", body={**SYSTEMONE, "truncation": "auto"})
    assert cut.json()["edge_router"]["truncated_tokens"] == 2
    assert cut.header("x-edge-router-truncated") == "2"


@each("path", list(BODIES))
def test_headers_and_blanks_keep_a_client_that_has_to_wait(setup: Callable[..., Any], path: str) -> None:
    gate = threading.Event()
    one = setup(weak=small(before_verdicts=[gate]), limits=ServerLimits(quiet_s=0.0, comment_s=0.01))
    told = asyncio.run(slow(one.app(), path, after=3, then=gate.set))
    assert told[0]["status"] == 200
    blanks = [message["body"] for message in told[1:-1]]
    assert len(blanks) >= 3 and set(blanks) == {BLANK}
    assert json.loads(b"".join(message["body"] for message in told[1:]))["usage"]["input_tokens"] > 0
    assert not told[-1].get("more_body")


@each("path", list(BODIES))
def test_an_error_behind_the_headers_breaks_the_reply_off(setup: Callable[..., Any], path: str) -> None:
    gate = threading.Event()
    steps = [gate, WeightsUnavailable("m", "no network")]
    one = setup(weak=small(before_verdicts=steps), limits=ServerLimits(quiet_s=0.0, comment_s=0.01))
    body = {**BODIES[path], "model": "weak"}
    told = asyncio.run(slow(one.app(), path, after=1, then=gate.set, body=body, broken=True))
    assert told[-1]["more_body"], "a client would take it for whole"
    assert b"no network" in told[-1]["body"]


async def slow(
    app: Any,
    path: str,
    *,
    after: int,
    then: Callable[[], None],
    body: Any = None,
    broken: bool = False,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> list[dict[str, Any]]:
    """What the app tells, which `then` lets go on once it has told `after` blanks; `broken`: off, at last."""
    told: list[dict[str, Any]] = []
    waiting = [
        {"type": "http.request", "body": json.dumps(body or BODIES[path]).encode(), "more_body": False}
    ]

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop()

    async def send(message: dict[str, Any]) -> None:
        told.append(message)
        if len(told) == after + 1:
            then()

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers],
        "server": ("127.0.0.1", 6060),
    }
    with pytest.raises(BrokenOff) if broken else nullcontext():
        await asyncio.wait_for(app(scope, receive, send), 30)
    return told


def test_a_client_whose_program_would_end_by_it_gets_no_headers_ahead(setup: Callable[..., Any]) -> None:
    gate = threading.Event()
    one = setup(weak=small(before_verdicts=[gate]), limits=ServerLimits(quiet_s=0.0, comment_s=0.01))
    threading.Timer(0.05, gate.set).start()
    headers = [(b"x-typesafe-runtime", b"node/20.20.2 (linux; x64)")]
    told = asyncio.run(slow(one.app(), "/v1/systemone", after=9, then=gate.set, headers=headers))
    assert [message["type"] for message in told] == ["http.response.start", "http.response.body"]
    assert told[1]["body"].startswith(b"{")


def parts(*named: tuple[str, str, bytes], boundary: str = "x") -> bytes:
    written = b""
    for name, kind, content in named:
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n'
        )
        written += head.encode() + content + b"\r\n"
    return written + f"--{boundary}--\r\n".encode()


ASSETS = {
    **SYSTEMONE,
    "state": "See <image:1>",
    "assets": {"<image:1>": {"type": "image", "part": "asset-0"}},
}
JSON = ("request", "application/json", json.dumps(ASSETS).encode())
IMAGE = ("asset-0", "image/png", PNG)


def multipart(
    one: Any,
    body: bytes,
    *headers: tuple[str, str],
    kind: str = "multipart/form-data; boundary=x",
    path: str = "/v1/systemone",
) -> Any:
    given = [("host", "localhost"), ("content-type", kind), *headers]
    return one.call(path=path, body=body, headers=given, json_type=False)


def test_images_come_beside_the_json_and_go_where_they_are_read(setup: Callable[..., Any]) -> None:
    big = ScriptedEngine(model_id="big", judge=half)
    one = setup(weak=small(), strong=big)
    reply = multipart(one, parts(JSON, IMAGE))
    assert reply.status == 200, reply.body
    assert (reply.json()["model"], reply.header("x-edge-router-reason")) == ("big", "needs_media")
    (inquiry,) = big.inquiries
    assert "data:image/png;base64," in str(inquiry.state)
    refused = multipart(one, parts((*JSON[:2], json.dumps({**ASSETS, "model": "weak"}).encode()), IMAGE))
    assert refused.status == 422 and "images" in refused.json()["detail"][0]["msg"]
    assert refused.json()["detail"][0]["loc"] == ["body", "state"]


@each(
    "body, status",
    [
        (parts(JSON), 422),  # the image is missing
        (parts(IMAGE), 422),
        (parts(JSON, JSON, IMAGE), 422),
        (parts(JSON, IMAGE, IMAGE), 422),
        (parts(("request", "text/plain", JSON[2]), IMAGE), 422),
        (parts(JSON, IMAGE)[:-6], 422),
        (parts(JSON, IMAGE, boundary="y"), 422),
        (b"", 422),
        (parts(JSON, *[(f"asset-{n}", "image/png", PNG) for n in range(65)]), 422),
        (b"--x\r\n\r\nno name\r\n--x--\r\n", 422),
        (parts(("request", "application/json", b"[]"), IMAGE), 422),
    ],
)
def test_a_body_of_parts_that_is_none_is_refused(setup: Callable[..., Any], body: bytes, status: int) -> None:
    one = setup(weak=small(), strong=ScriptedEngine(judge=half))
    reply = multipart(one, body)
    assert reply.status == status and reply.json()["detail"]
    assert not one.strong.inquiries


def test_no_page_and_no_other_path_sends_parts(setup: Callable[..., Any]) -> None:
    one = setup(weak=small())
    assert multipart(one, parts(JSON, IMAGE), ("referer", "http://evil.example/")).status == 415
    assert multipart(one, parts(JSON, IMAGE), kind="multipart/mixed; boundary=x").status == 415
    assert multipart(one, parts(JSON, IMAGE), kind="multipart/form-data").status == 415
    for path in ("/v1/decisions", "/v1/chat/completions"):
        assert multipart(one, parts(JSON, IMAGE), path=path).status == 415, path


def packed(data: bytes) -> bytes | None:
    """None where this Python cannot."""
    try:
        from backports.zstd import compress
    except ImportError:
        return None
    return bytes(compress(data))


def test_a_body_packed_with_zstd_is_read_where_that_can_be_unpacked(setup: Callable[..., Any]) -> None:
    one = setup(weak=small(), limits=replace(ServerLimits(), body_bytes=100_000))
    body = {**SYSTEMONE, "state": "word " * 1000}
    headers = [("host", "localhost"), ("content-encoding", "zstd")]

    def ask(data: bytes) -> Any:
        return one.call(path="/v1/systemone", body=data, headers=headers)

    data = packed(json.dumps(body).encode())
    if data is None:
        assert ask(b"\x28\xb5\x2f\xfd").status == 415
        return
    assert ask(data).status == 200
    bomb = packed(json.dumps({**SYSTEMONE, "state": "a" * 1_000_000}).encode())
    assert bomb is not None and ask(bomb).status == 413
    packed_parts = packed(parts(JSON))
    assert packed_parts is not None
    told = multipart(one, packed_parts, ("content-encoding", "zstd"))
    assert "names no part" in told.json()["detail"][0]["msg"]  # so it was unpacked, and taken apart
    for broken in (data[:-3], data + b"x", b"no zstd", b"", data + data):
        assert ask(broken).status == 422, broken[:9]


@pytest.mark.integration
def test_over_a_socket_an_error_behind_the_headers_ends_no_reply(serve: Callable[..., Any]) -> None:
    gate = threading.Event()
    steps = [gate, WeightsUnavailable("m", "no network")]
    served = serve(weak=small(before_verdicts=steps), limits=ServerLimits(quiet_s=0.0, comment_s=0.01))
    body = json.dumps({**SYSTEMONE, "model": "weak"}).encode()
    with socket.create_connection(("127.0.0.1", served.port), 30) as client:
        client.sendall(
            b"POST /v1/systemone HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        seen = client.recv(4096)
        gate.set()
        while piece := client.recv(4096):
            seen += piece
    assert seen.startswith(b"HTTP/1.1 200") and b"no network" in seen
    assert not seen.endswith(b"0\r\n\r\n")


@pytest.mark.integration
@pytest.mark.parametrize("protocol", ["decisions", "systemone"])
def test_what_is_unsure_goes_on_to_an_endpoint_of_either_protocol(
    serve: Callable[..., Any], protocol: str
) -> None:
    """Which is another of ours here; one question of two goes on, by no name of its caller's, at its price."""

    def unsure(inquiry: Inquiry, question: Question) -> tuple[float, ...]:
        return (0.5, 0.5) if question.name == "urgent" else (0.9, 0.05, 0.05)

    served = serve(weak=small(), api_key="k" * 20)
    settings = {
        "base_url": f"{served.url}/v1",
        "protocol": protocol,
        "model": "weak",
        "api_key_env": "ASKED_KEY",
        "price_in": 500_000,  # of a million
    }
    budget = {"strong.monthly_budget": 1000}
    config = Config().replace(**{f"questions.{name}": value for name, value in settings.items()}, **budget)
    asked = [YesNo("urgent", "Is it?", yes="now"), Choice("team", "Whose?", ("a", "b", "c"))]
    bounds = Bounds(yes_no=0.2, choice=0.2)
    with Controller(config, weak=small(judge=unsure), bounds=bounds) as controller:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ASKED_KEY", "k" * 20)
            urgent, team = controller.decide("Fix it now.", asked).given
        assert (urgent.decision.model, str(urgent.decision.reason)) == ("strong", "confidence")
        assert isinstance(urgent.answer, YesNoAnswer) and urgent.answer.probability == 0.75
        assert team.model == "small" and (urgent.decision.endpoint, team.decision.endpoint) == (NAME, None)
        spent = Spending.of(config, Paths.default())
        assert spent is not None and 0 < spent.spent < 10
        (inquiry,) = served.weak.inquiries
        assert [question.name for question in inquiry.questions] == ["q1"]
        assert controller.decide("Fix it.", asked, private=True).given[0].model == "small"
        kept = controller.decide("My key is ghp_" + "A1b2C3d4E5" * 3 + "f6G7h8", asked).given[0]
        assert kept.model == "small" and kept.decision.found and len(served.weak.inquiries) == 1
        served.stop()
        left = controller.decide("Fix it.", asked)
        assert str(left.given[0].decision.reason) == "strong_unavailable" and left.fallback_cause


@pytest.mark.integration
def test_an_endpoint_on_this_machine_is_asked_what_must_not_leave_it(serve: Callable[..., Any]) -> None:
    served = serve(weak=small())
    url = served.url.replace("127.0.0.1", "localhost")
    settings = {"base_url": f"{url}/v1", "model": "auto", "local": True}
    config = Config(offline=True).replace(**{f"questions.{name}": value for name, value in settings.items()})

    def unsure() -> ScriptedEngine:
        return small(judge=lambda inquiry, question: (0.5, 0.5))

    asked = [YesNo("urgent", "Is it?")]
    key = "My key is ghp_" + "A1b2C3d4E5" * 3 + "f6G7h8"
    with Controller(config, weak=unsure(), bounds=Bounds(yes_no=0.2)) as controller:
        for model, private in (("auto", True), ("auto", False), ("strong", True)):
            (urgent,) = controller.decide(key, asked, model=model, private=private).given
            assert (urgent.model, urgent.decision.endpoint) == ("auto", NAME), (model, private)
        assert [each.state[-1].text for each in served.weak.inquiries] == [key] * 3
    elsewhere = {"questions.base_url": "http://user:secret@192.0.2.1/v1"}
    with Controller(config.replace(**elsewhere), weak=unsure(), bounds=Bounds(yes_no=0.2)) as controller:
        answers = controller.decide(key, asked)
    assert isinstance(answers.fallback_cause, ConfigError) and answers.model == "small"
    assert "secret" not in str(answers.fallback_cause)
