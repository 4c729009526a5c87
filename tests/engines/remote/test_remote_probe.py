"""Asking an endpoint for its models."""

import json

import pytest

from edge_router.config.sections import StrongConfig
from edge_router.engines.remote.keys import Key, NoKey
from edge_router.engines.remote.probe import Probe, probe
from edge_router.errors import StrongError, StrongRedirected, StrongTimeout, StrongUnreachable

SECRET = "sk-very-secret-0123456789"
OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n"


def asked(place, key=None, **settings):
    settings = {"base_url": place.url, "model": "m", "timeout_s": 20.0, **settings}
    return probe(StrongConfig(**settings), key or Key(SECRET, "here"))


def test_the_list_is_asked_for_with_the_key(endpoint):
    body = {"data": [{"id": "a"}, {"id": "b"}]}
    place = endpoint(lambda write, number: write(OK + json.dumps(body).encode()))
    assert asked(place) == Probe(200, frozenset({"a", "b"}))
    assert asked(place, NoKey()).status == 200
    assert asked(place, base_url=place.url.replace("http://", "http://me:pw@") + "/?v=1").status == 200
    first, second, third = place.heads
    assert first.startswith(b"GET /v1/models ") and f"Bearer {SECRET}".encode() in first
    assert b"authorization" not in second.lower()
    assert third.startswith(b"GET /v1/models?v=1 ") and b"basic bwu6chc=" in third.lower()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"data": 7}',
        b'{"data": [7]}',
        b'{"data": [{}]}',
        b"<html>",
        b'{"data": ' + b"[" * 9000,
    ],
)
def test_what_is_no_list_is_none(endpoint, body):
    assert asked(endpoint(lambda write, number: write(OK + body))) == Probe(200)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_refusal_is_a_status(endpoint, status):
    place = endpoint(lambda write, number: write(b"HTTP/1.1 %d No\r\nconnection: close\r\n\r\n" % status))
    assert asked(place) == Probe(status)


def endless(write, number):
    write(OK + b'{"data": [')
    while True:
        write(b"[]," * 20_000)


def silent(write, number):
    while True:
        write(b"")


def moved(write, number):
    write(
        b"HTTP/1.1 307 Moved\r\nlocation: http://localhost/%s\r\ncontent-length: 0\r\n\r\n" % SECRET.encode()
    )


def test_it_is_bounded(endpoint):
    place = endpoint(endless)
    assert asked(place) == Probe(200)
    assert place.sent < 24 * 2**20
    with pytest.raises(StrongTimeout):
        asked(endpoint(silent), timeout_s=0.2)


def test_it_follows_nowhere_and_tells_no_key(endpoint, refused_url):
    with pytest.raises(StrongRedirected) as caught:
        asked(endpoint(moved))
    assert SECRET not in str(caught.value)
    with pytest.raises(StrongUnreachable):
        probe(StrongConfig(base_url=refused_url, model="m"), NoKey())
    with pytest.raises(StrongError):
        asked(endpoint(lambda write, number: write(b"220 hello\r\n\r\n")))
