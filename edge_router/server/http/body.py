"""A request's body, read with limits: bytes, seconds, which type, and nothing but JSON."""

from __future__ import annotations

import asyncio
import re
import threading
import zlib
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_router.errors import InvalidRequest
from edge_router.parsing import strict_json
from edge_router.parsing.fields import plain, shown
from edge_router.server.http import multipart, zstd
from edge_router.server.http.exchange import BODY
from edge_router.server.http.limits import ServerLimits
from edge_router.server.running import STOPPING, RunningAnswers
from edge_router.surfaces.base import FILES

SMALL = (
    8 * 1024
)  # bytes that are parsed on the event loop; more could take it 5 ms, and everybody's streams wait
CONTENT_LENGTH_DIGITS = 12
_HOLD = "body"  # in scope["state"]
_CURL = "application/x-www-form-urlencoded"
_PIECE = 256 * 1024
# To zlib: with gzip's header, or with zlib's own. Some clients' "deflate" has none at all.
_FORMATS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_BARE = -zlib.MAX_WBITS
_MARKS = (b",", b"[", b"{")  # before each value but the first
_TEXT_OR_NOT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[^"]{1,65536}', re.DOTALL)
T = TypeVar("T")


class Hold:
    """The bytes that one request's body takes, as long as it is under way."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self.bytes = bodies, 0

    @property
    def limits(self) -> ServerLimits:
        return self._bodies.limits

    def take(self, count: int) -> None:
        """`count` more. Raises `HTTPException`: 413 for too many of this body, 503 for too many of all."""
        most = self.limits.body_bytes
        if self.bytes + count > most:
            raise HTTPException(413, f"The body is larger than {most} bytes. Send less.")
        self._bodies.count(self.bytes, self.bytes + count)
        self.bytes += count

    def release(self) -> None:
        self._bodies.count(self.bytes, 0)
        self.bytes = 0


class Bodies:
    """The bodies of all requests under way: a layer of the app around whoever reads them."""

    def __init__(self, app: ASGIApp, *, limits: ServerLimits) -> None:
        self._app, self.limits = app, limits
        self._lock, self._bytes = threading.Lock(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hold = Hold(self)
        scope.setdefault("state", {})[_HOLD] = hold
        try:
            await self._app(scope, receive, send)
        finally:
            hold.release()

    def count(self, before: int, after: int) -> None:
        """A body has grown, or is gone."""
        small = self.limits.small_bytes
        more = max(after, small) - max(before, small)
        with self._lock:
            if more > 0 and self._bytes + more > self.limits.bodies_bytes:
                message = "Other requests' bodies fill the memory that is set aside for them. Try again."
                raise HTTPException(503, message, {"retry-after": "1"})
            self._bytes += more


async def read(
    request: Request,
    parse: Callable[[dict[str, object]], T],
    running: RunningAnswers,
    *,
    files_beside: str | None = None,
) -> T:
    """The body, a JSON object, through `parse`. `files_beside`: it may be a part of that name, beside files.

    Raises `InvalidRequest`, `HTTPException` 408, 413, 415 or 503.
    """
    boundary = None if files_beside is None else multipart.boundary(request)
    if boundary is None:
        _check_type(request)
    packed = _encoding(request)
    hold: Hold = request.scope["state"][_HOLD]
    data = await _read(request, hold, running)
    if packed is None and boundary is None and len(data) <= SMALL:
        return parse(parse_object(data))

    def work() -> T:
        whole = data if packed is None else _unpacked(data, packed, hold)
        files: dict[str, object] = {}
        if boundary is not None and files_beside is not None:
            whole, held = multipart.split(whole, boundary, files_beside)
            files = {FILES: held}
        _check_values(whole, hold.limits.body_values)
        return parse({**parse_object(whole), **files})

    return await run_in_threadpool(work)


def parse_object(data: bytes | bytearray) -> dict[str, object]:
    """Raises `InvalidRequest` for whatever is not one JSON object in UTF-8."""
    try:
        return strict_json.parse_object(data, once=True)
    except strict_json.StatedTwice as error:  # the one that is not heard may be what keeps the request here
        raise InvalidRequest(shown(error.name), "stands there twice") from error
    except strict_json.TooDeep as error:
        name = None if error.name is None else shown(error.name)
        raise InvalidRequest(name, "is nested too deeply" if name else f"the body is {error}") from error
    except strict_json.NotJson as error:
        _check_finite(data)
        raise InvalidRequest(None, f"the body is not JSON: {error}") from error


def _check_finite(data: bytes | bytearray) -> None:
    """Raises `InvalidRequest` that names the field, if a NaN is all that keeps `data` from being JSON."""
    try:
        found = strict_json.parse(data, nan=True)
    except strict_json.NotJson:
        return
    plain(found)


def _check_type(request: Request) -> None:
    """JSON; or nothing said, as many clients do, or what curl says of any data, as in Ollama's examples.

    A page can have both sent without asking us first, too. Its scripts bring an Origin then, and a form,
    which in an old browser brings none, has every brace of JSON escaped. One of type text/plain has not.
    """
    types = request.headers.getlist("content-type")
    said = types[0].partition(";")[0].strip().lower() if len(types) == 1 else "" if types else None
    if said == "application/json":
        return
    page = any(name in ("origin", "referer") or name.startswith("sec-fetch-") for name in request.headers)
    if page or said not in (None, _CURL):
        raise HTTPException(415, "Send the body as JSON, with `Content-Type: application/json`.")


def _encoding(request: Request) -> str | None:
    name = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if name in ("", "identity"):
        return None
    if name not in _FORMATS and not (name == zstd.NAME and zstd.is_here()):
        raise HTTPException(415, "Send the body packed with gzip or deflate, or without a Content-Encoding.")
    return name


async def _read(request: Request, hold: Hold, running: RunningAnswers) -> bytearray:
    limits, declared = hold.limits, request.headers.get("content-length", "0")
    if len(declared) > CONTENT_LENGTH_DIGITS or (declared.isdecimal() and int(declared) > limits.body_bytes):
        raise HTTPException(413, f"The body is larger than {limits.body_bytes} bytes. Send less.")
    whole: Callable[[], bytes | None] = request.scope.get("extensions", {}).get(BODY, lambda: None)
    if (here := whole()) is not None:  # as with most, which need no deadline
        hold.take(len(here))
        return bytearray(here)
    data = bytearray()  # counted, since what Content-Length says need not be so
    try:
        async with asyncio.timeout(limits.body_s) as deadline:
            with running.ended_by(lambda: deadline.reschedule(0)):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    piece, more = message.get("body", b""), message.get("more_body", False)
                    hold.take(len(piece))
                    data += piece
    except TimeoutError:
        if running.stopping:
            raise HTTPException(503, STOPPING) from None
        raise HTTPException(408, f"The body took more than {limits.body_s:g} s. Send it faster.") from None
    return data


def _unpacked(data: bytearray, encoding: str, hold: Hold) -> bytearray:
    """Counted as it grows: a small body may unpack to a thousand times its size."""
    if encoding == zstd.NAME:
        return zstd.unpacked(data, hold.take)
    forms = [_FORMATS[encoding], _BARE] if encoding == "deflate" else [_FORMATS[encoding]]
    for form in forms:
        try:
            return _inflated(data, form, hold)
        except zlib.error:
            continue
    raise InvalidRequest(None, f"the body is not whole and well-formed {encoding}")


def _inflated(data: bytearray, form: int, hold: Hold) -> bytearray:
    unpacked, stream = bytearray(), zlib.decompressobj(form)
    for start in range(0, len(data), _PIECE):
        rest, piece = bytes(data[start : start + _PIECE]), b""
        while rest or len(piece) == _PIECE:
            piece = stream.decompress(rest, _PIECE)
            hold.take(len(piece))
            unpacked += piece
            rest = stream.unconsumed_tail
            if stream.unused_data:
                raise zlib.error("something follows")
    if not stream.eof:
        raise zlib.error("it ends too early")
    return unpacked


def _check_values(data: bytearray, most: int) -> None:
    """Millions of tiny values take gigabytes once they are read, and their reader lets nobody else run.

    Raises `HTTPException` 413.
    """
    begins = range(0, len(data), _PIECE)
    at_most = sum(data.count(mark, begin, begin + _PIECE) for begin in begins for mark in _MARKS)
    if at_most <= most:  # also within texts
        return
    found = 0
    for match in _TEXT_OR_NOT.finditer(data):
        if match[0][:1] != b'"':
            found += sum(match[0].count(mark) for mark in _MARKS)
        if found > most:
            raise HTTPException(413, f"The body holds more than {most} values. Send fewer.")
