"""What a request says of the response cache, in headers."""

from __future__ import annotations

import pytest

from edge_router.chat.request import ResponseCacheWish
from edge_router.errors import InvalidRequest
from edge_router.response_cache.wish import header_of, wish_of

ANEW, NOTHING = ResponseCacheWish(read=False), ResponseCacheWish(read=False, write=False)


def test_headers() -> None:
    for headers, expected in (
        ({}, ResponseCacheWish()),
        ({"Cache-Control": "no-cache"}, ANEW),
        (
            {"cache-control": "max-age=0, no-store, must-revalidate"},
            ResponseCacheWish(False, False, max_age_s=0),
        ),
        ({"cache-control": "use"}, ResponseCacheWish()),  # no word of HTTP's, and so nobody's wish
        ({"cache-control": "only-if-cached, max-age=x"}, ResponseCacheWish()),
        ({"X-Edge-Router-Cache": "use, max-age=60"}, ResponseCacheWish(use=True, max_age_s=60)),
        ({"x-edge-router-cache": "NO-STORE"}, NOTHING),
        ({"x-edge-router-cache": ""}, ResponseCacheWish()),
        ({"x-edge-router-cache": "use", "cache-control": "no-cache"}, ResponseCacheWish(False, use=True)),
        ({"x-edge-router-cache": "max-age=9", "cache-control": "max-age=5"}, ResponseCacheWish(max_age_s=5)),
    ):
        assert wish_of(headers.items()) == expected, headers


def test_a_slip_is_no_silence() -> None:
    for name, value in (
        ("x-edge-router-cache", "nostore"),
        ("x-edge-router-cache", "off"),
        ("x-edge-router-cache", "max-age=-1"),
        ("x-edge-router-cach\u00e9-cache", "no-store"),
        ("x-edge-router-response-cache", "no-store"),
    ):
        with pytest.raises(InvalidRequest):
            wish_of([(name, value)])


def test_what_the_next_one_is_told() -> None:
    assert header_of(ResponseCacheWish(use=True, max_age_s=5)) == {}
    assert header_of(ANEW) == {"Cache-Control": "no-cache"}
    assert header_of(NOTHING) == header_of(ResponseCacheWish(write=False)) == {"Cache-Control": "no-store"}
