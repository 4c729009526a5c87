"""Bodies: JSON objects in UTF-8, of a bounded size, or a clear refusal. Never a 500."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import each

from edge_router.errors import InvalidRequest
from edge_router.server.http.body import parse_object
from edge_router.server.http.limits import ServerLimits

CHAT: dict[str, Any] = {"model": "weak", "messages": [{"role": "user", "content": "hi"}]}
MAX_BODY = ServerLimits().body_bytes
LOCAL = ("host", "localhost")
JSON = ("content-type", "application/json")
FORM = ("content-type", "application/x-www-form-urlencoded")


@each(
    "body, message",
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b'{"a": 1,}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"nothing", "not JSON"),
        (b"[]", "JSON object"),
        (b'"text"', "JSON object"),
        (b"null", "JSON object"),
        (b'{"temperature": NaN}', "temperature: must be a finite number"),
        (b'{"temperature": Infinity}', "Infinity is not JSON"),
        (b'{"temperature": -Infinity}', "-Infinity is not JSON"),
        (b'{"temperature": 1e999}', "too large"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "5000 digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"tools": ' + b"[" * 80 + b"]" * 80 + b"}", "nested too deeply"),
        (b'{"user": "a", "tools": ' + b"[" * 200 + b"]" * 200 + b"}", "tools: is nested too deeply"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (json.dumps({"a": "b"}).encode("utf-16"), "not UTF-8"),
        (b'{"user": "\\ud800"}', "surrogate"),
        (b'{"a": 1}{"b": 2}', "not JSON"),
    ],
)
@each("path", ["/v1/chat/completions", "/v1/completions"])
def test_what_is_no_json_object(setup: Callable[..., Any], path: str, body: bytes, message: str) -> None:
    one = setup()
    reply = one.call(path=path, body=body)
    assert reply.status == 400
    assert message in reply.error["message"]
    assert one.weak.calls == []


def test_a_byte_order_mark_does_no_harm(setup: Callable[..., Any]) -> None:
    assert setup().call(body=b"\xef\xbb\xbf" + json.dumps(CHAT).encode()).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "http://localhost")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-mode", "no-cors")],
        [("content-type", "text/plain")],
        [FORM, ("origin", "http://localhost")],
        [FORM, ("sec-fetch-site", "cross-site")],
        [FORM, ("referer", "http://elsewhere.example/")],
        [FORM, FORM],
        [("content-type", "multipart/form-data; boundary=x")],
        [("content-type", "application/jsonp")],
        [("content-type", "text/plain; application/json")],
        [("content-type", "text/plain, application/json")],
        [("content-type", "")],
        [JSON, ("content-type", "text/plain")],
        [JSON, ("content-encoding", "br")],
        [JSON, ("content-encoding", "gzip, gzip")],
        [JSON, ("content-encoding", "gzip"), ("content-encoding", "gzip")],
    ],
)
def test_other_types(setup: Callable[..., Any], headers: list[tuple[str, str]]) -> None:
    one = setup()
    for path in ("/v1/chat/completions", "/v1/completions"):
        reply = one.call(path=path, body=CHAT, headers=[LOCAL, *headers], json_type=False)
        assert reply.status == 415
        assert reply.error["code"] == "unsupported_media_type"
    assert one.weak.calls == []


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json ;x=y"]
)
def test_json_by_its_other_spellings(setup: Callable[..., Any], kind: str) -> None:
    headers = [LOCAL, ("content-type", kind), ("content-encoding", "identity")]
    assert setup().call(body=CHAT, headers=headers, json_type=False).status == 200


def test_json_as_curl_sends_it_and_what_a_form_writes(setup: Callable[..., Any]) -> None:
    """An old browser's form brings no Origin; whatever its fields hold, it cannot write JSON."""
    one = setup()
    for path in ("/api/chat", "/api/generate", "/v1/chat/completions"):
        body = {"prompt": "hi"} if path == "/api/generate" else CHAT
        assert one.call(path=path, body=body, headers=[LOCAL, FORM], json_type=False).status == 200, path
        form = urlencode({json.dumps(body): ""}).encode()
        assert one.call(path=path, body=form, headers=[LOCAL, FORM], json_type=False).status == 400, path
    assert len(one.weak.calls) == 3


def test_a_large_body_is_read(setup: Callable[..., Any]) -> None:
    one = setup()
    text = "long " * 10_000
    assert one.call(body={"model": "weak", "messages": [{"role": "user", "content": text}]}).status == 200
    assert one.weak.calls[0].messages[0].text == text


@pytest.mark.parametrize(
    "many",
    [
        b'{"tools": [' + b"[]," * 300_000 + b"[]]}",
        b'{"tools": [' + b"1," * 300_000 + b"1]}",
        b'{"tools": [' + b'"",' * 300_000 + b'""]}',
        b'{"tools": [' + b'"\\"",' * 300_000 + b'""]}',
        b'{"a": {' + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}}",
        b"[" * 300_000,
    ],
    ids=range(6),
)
def test_values_too_many_are_not_read(setup: Callable[..., Any], many: bytes) -> None:
    one = setup()
    reply = one.call(body=many)
    assert reply.status == 413 and "100000 values" in reply.error["message"]
    packed = one.call(body=gzip.compress(many), headers=[LOCAL, ("content-encoding", "gzip")])
    assert packed.status == 413


@pytest.mark.parametrize("text", ["a, [b], {c: 1}, " * 60_000, '", [ {\\ \n' * 60_000, ",é[" * 200_000])
def test_commas_in_a_text_are_no_values(setup: Callable[..., Any], text: str) -> None:
    one = setup()
    body = {"model": "weak", "messages": [{"role": "user", "content": text}]}
    assert one.call(body=body).status == 200
    assert one.weak.calls[0].messages[0].text == text


@pytest.mark.parametrize("declared", [[], ["10"], ["0"], ["-5"], ["x"]])
def test_bytes_are_counted_whatever_the_header_says(setup: Callable[..., Any], declared: list[str]) -> None:
    one = setup()
    piece = b" " * (1024 * 1024)
    pieces = [piece] * (MAX_BODY // len(piece)) + [b" "]
    reply = one.call(body=pieces, headers=[LOCAL, *(("content-length", value) for value in declared)])
    assert reply.status == 413
    assert reply.error["code"] == "request_too_large"
    exactly = one.call(body=pieces[:-1])
    assert exactly.status == 400 and "not JSON" in exactly.error["message"]


@pytest.mark.parametrize("declared", [str(MAX_BODY + 1), "9" * 12, "9" * 5000])
def test_a_body_declared_too_large_is_not_even_read(setup: Callable[..., Any], declared: str) -> None:
    reply = setup().call(body=[b"{"], headers=[LOCAL, ("content-length", declared)])
    assert reply.status == 413


@each("value", [-2, 2**63, True, "5", 1.5, 10**90, [], {}])
@each("name", ["max_tokens", "max_completion_tokens", "top_k", "n"])
def test_numbers_out_of_range(setup: Callable[..., Any], name: str, value: object) -> None:
    reply = setup().call(body=CHAT | {name: value})
    assert reply.status == 400
    assert reply.error["param"] == name


@pytest.mark.parametrize(
    "name", ["base_url", "api_base", "api_key", "organization", "headers", "extra_headers"]
)
def test_requests_do_not_choose_the_strong_models_place(setup: Callable[..., Any], name: str) -> None:
    one = setup()
    reply = one.call(body=CHAT | {"model": "strong", name: "http://evil.example"})
    assert reply.status == 400
    assert reply.error["param"] == name
    assert one.strong.calls == []


@each("path, question", [("/v1/chat/completions", CHAT["messages"]), ("/v1/completions", "hi")])
@each(
    "value",
    [b"[" * 3000 + b"]" * 3000, b"[" * 90 + b"]" * 90, b"1e999", b"-1e999", b"1" * 4000, b'"\\ud83d"'],
)
@each("name", ["stop", "tools", "response_format", "metadata", "extra_body", "unknown"])
def test_broken_data_is_told_as_such(
    setup: Callable[..., Any], name: str, value: bytes, path: str, question: object
) -> None:
    one = setup()
    asked = {"prompt" if "chat" not in path else "messages": question, "model": "strong", name: "HERE"}
    reply = one.call(path=path, body=json.dumps(asked).encode().replace(b'"HERE"', value))
    assert reply.status == 400 and len(reply.error["message"]) < 300
    assert one.weak.calls == one.strong.calls == []


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"private": true, "messages": [], "private": false}', "private"),
        (b'{"metadata": {"a": 1, "a": 1}}', "a"),
        (b'{"messages": [{"role": "user", "role": "system"}]}', "role"),
    ],
)
def test_a_field_that_stands_there_twice(body: bytes, name: str) -> None:
    with pytest.raises(InvalidRequest, match="twice") as caught:
        parse_object(body)
    assert caught.value.param == name


@given(st.binary(max_size=60))
def test_bytes_are_an_object_or_refused(data: bytes) -> None:
    try:
        assert isinstance(parse_object(data), dict)
    except InvalidRequest as error:
        assert error.param is None


NAMES = [
    *("messages", "model", "temperature", "top_p", "top_k", "seed", "n", "stop", "logit_bias", "max_tokens"),
    *(
        "logprobs",
        "top_logprobs",
        "stream",
        "stream_options",
        "private",
        "prompt",
        "best_of",
        "echo",
        "suffix",
    ),
    *("tools", "tool_choice", "response_format", "user", "repetition_penalty", "max_completion_tokens"),
    *("metadata", "extra_body", "extra_headers", "functions", "unknown", "privat"),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([2**63, 10**90, 1e308, "", "weak", "strong", "auto", "router-word-0.3", "\ud83d"])
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=4)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "5", "include_usage"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
bodies = st.builds(
    lambda fields, base: base | fields,
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
    st.sampled_from([{}, CHAT, CHAT | {"stream": True}, {"model": "strong", "prompt": "hi"}]),
)


@pytest.fixture(scope="module")
def shared() -> Iterator[dict[str, Any]]:
    """One app for all examples: hypothesis would make hundreds."""
    yield {}


@given(body=bodies, path=st.sampled_from(["/v1/chat/completions", "/v1/completions"]))
def test_no_body_breaks_the_server(
    setup: Callable[..., Any], shared: dict[str, Any], body: dict[str, Any], path: str
) -> None:
    one = shared.setdefault("setup", setup())
    app = shared.setdefault("app", one.app())
    reply = one.call(path=path, body=json.dumps(body).encode(), app=app)
    assert reply.status in (200, 400, 404), reply.body
    if reply.status != 200:
        assert reply.error["message"]
    elif body.get("stream"):
        assert reply.body.startswith(b"data: {") and reply.body.endswith(b"data: [DONE]\n\n")
        assert b'{"error"' not in reply.body
    else:
        assert reply.json()["choices"]
