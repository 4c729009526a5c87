"""Bodies of several parts: one of JSON, and files beside it.

Only from programs: a page can have a form sent without asking us first, but no part of type JSON in it, and
not without headers by which pages are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request

from edge_router.errors import InvalidRequest

MOST_PARTS = 65
_TYPE = re.compile(
    r'multipart/form-data\s*;\s*boundary=(?:"([^"\\]{1,70})"|([\w\'()+,./:=?-]{1,70}))\s*', re.I
)
_HEADER = re.compile(rb"([A-Za-z-]{1,40}):[ \t]*([^\r\n]{0,400})")
_NAMED = re.compile(rb'(?:^|;)\s*name="([^"]{1,100})"', re.I)


def boundary(request: Request) -> bytes | None:
    """What parts the body; None where it is none of parts. Raises `HTTPException` 415."""
    types = request.headers.getlist("content-type")
    if len(types) != 1 or not types[0].lower().startswith("multipart/"):
        return None
    found = _TYPE.fullmatch(types[0].strip())
    page = any(name in ("origin", "referer") or name.startswith("sec-fetch-") for name in request.headers)
    if found is None or page:
        raise HTTPException(415, "Send the body as JSON, with `Content-Type: application/json`.")
    return (found[1] or found[2]).encode("latin-1")


def split(data: bytearray, boundary: bytes, json_part: str) -> tuple[bytearray, Mapping[str, bytes]]:
    """The JSON's bytes, and the other parts' by their names. Raises `InvalidRequest`."""
    mark = b"--" + boundary
    if not data.startswith(mark):
        raise InvalidRequest(None, "the body does not begin with its boundary")
    if data.count(mark) > MOST_PARTS + 1:
        raise InvalidRequest(None, f"the body holds more than {MOST_PARTS} parts")
    *pieces, end = bytes(data[len(mark) :]).split(b"\r\n" + mark)
    if end.rstrip(b"\r\n") != b"--":
        raise InvalidRequest(None, "the body ends before its last boundary")
    found: dict[str, bytes] = {}
    whole: bytearray | None = None
    for piece in pieces:
        name, kind, content = _part(piece)
        if name in found or (name == json_part and whole is not None):
            raise InvalidRequest(name, "stands there twice")
        if name != json_part:
            found[name] = content
        elif kind == b"application/json":
            whole = bytearray(content)
        else:
            raise InvalidRequest(name, "must be of type application/json")
    if whole is None:
        raise InvalidRequest(json_part, "is missing: it is the part that holds the JSON")
    return whole, found


def _part(piece: bytes) -> tuple[str, bytes, bytes]:
    """Its name, its type and what it holds."""
    head, blank, content = piece.partition(b"\r\n\r\n")
    headers = {name.lower(): value for name, value in _HEADER.findall(head)}
    named = _NAMED.search(headers.get(b"content-disposition", b""))
    if not blank or named is None:
        raise InvalidRequest(None, "a part of the body has no name")
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return named[1].decode("latin-1"), kind, content
