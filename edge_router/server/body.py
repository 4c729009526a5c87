"""A request's body, read with limits: how many bytes, which type, and nothing but JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NoReturn, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

from edge_router.errors import InvalidRequest

MAX_BODY = 32 * 1024 * 1024  # bytes; images for the strong model travel in bodies
LARGE = 1024 * 1024  # bytes that are parsed beside the event loop, so that nobody's stream waits
CONTENT_LENGTH_DIGITS = 12
T = TypeVar("T")


async def read(request: Request, parse: Callable[[dict[str, object]], T], *, limit: int = MAX_BODY) -> T:
    """The body, a JSON object, through `parse`. Raises `InvalidRequest`, `HTTPException` 413 or 415."""
    _check_type(request)
    data = await _read(request, limit)
    if len(data) > LARGE:
        return await run_in_threadpool(lambda: parse(parse_object(data)))
    return parse(parse_object(data))


def parse_object(data: bytes) -> dict[str, object]:
    """Raises `InvalidRequest` for whatever is not one JSON object in UTF-8."""
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidRequest(None, f"the body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise InvalidRequest(None, "the body's JSON is nested too deeply") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(None, f"the body is not JSON: {error.msg} ({where})") from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise InvalidRequest(None, "the body holds a number that is too long") from error
    if not isinstance(value, dict):
        raise InvalidRequest(None, "the body must be a JSON object")
    return value


def _check_type(request: Request) -> None:
    types = request.headers.getlist("content-type")
    if len(types) != 1 or types[0].partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Send the body as JSON, with `Content-Type: application/json`.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "Send the body without a Content-Encoding.")


async def _read(request: Request, limit: int) -> bytes:
    too_large = HTTPException(413, f"The body is larger than {limit} bytes. Send less.")
    declared = request.headers.get("content-length", "0")
    if len(declared) > CONTENT_LENGTH_DIGITS or (declared.isdecimal() and int(declared) > limit):
        raise too_large
    data = bytearray()  # counted, since what Content-Length says need not be so
    async for piece in request.stream():
        data += piece
        if len(data) > limit:
            raise too_large
    return bytes(data)


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidRequest(None, f"{name} is not JSON")
