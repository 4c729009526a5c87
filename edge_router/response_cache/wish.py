"""What one request wants of the response cache, in the words of HTTP's `Cache-Control` and one of ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from edge_router.chat.request import ResponseCacheWish
from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import shown

HEADER = "x-edge-router-cache"
_STANDARD = "cache-control"  # others stand in it, too, for whom it may be meant
ANY = ResponseCacheWish()
_KNOWN = "no-cache, no-store, max-age=SECONDS or use"


def wish(words: str, name: str, *, strict: bool = True) -> ResponseCacheWish:
    """`words` as they stand in a header: "no-store", "max-age=60, use". `strict`: raises `InvalidRequest` for
    what is not known, as who misspells `no-store` must not be answered as if he had said nothing."""
    found = ResponseCacheWish()
    for word in (word.strip().lower() for word in words.split(",")):
        directive, _, value = word.partition("=")
        if word == "no-cache":
            found = replace(found, read=False)
        elif word == "no-store":
            found = replace(found, read=False, write=False)
        elif word == "use" and strict:
            found = replace(found, use=True)
        elif directive == "max-age" and value.isdecimal() and len(value) < 12:
            found = replace(found, max_age_s=float(value))
        elif strict and word:
            raise InvalidRequest(name, f"knows {_KNOWN}, not {shown(word)}")
    return found


def wish_of(headers: Iterable[tuple[str, str]]) -> ResponseCacheWish:
    """What an HTTP request's headers say; of both the stricter. Raises `InvalidRequest`."""
    found = ANY
    for name, value in headers:
        name = name.lower()
        if name == HEADER:
            found = stricter(found, wish(value, name))
        elif name == _STANDARD:
            found = stricter(found, wish(value, name, strict=False))
        elif name.startswith("x-edge-router-") and "cache" in name:
            raise InvalidRequest(shown(name), f"is not known here; did you mean {HEADER}?")
    return found


def header_of(wish: ResponseCacheWish) -> dict[str, str]:
    """What an endpoint is told that may keep answers itself, such as another edge-router."""
    if not wish.write:
        return {"Cache-Control": "no-store"}
    return {} if wish.read else {"Cache-Control": "no-cache"}


def stricter(one: ResponseCacheWish, other: ResponseCacheWish) -> ResponseCacheWish:
    """What both allow."""
    if other is ANY or one is other:
        return one
    ages = [wish.max_age_s for wish in (one, other) if wish.max_age_s is not None]
    return ResponseCacheWish(
        one.read and other.read, one.write and other.write, one.use or other.use, min(ages, default=None)
    )
