"""What goes wrong at a local server, as errors of a weak model: all in this one place."""

from __future__ import annotations

import re

from edge_router.engines.local_server import NAME
from edge_router.engines.local_server.servers import LocalServer
from edge_router.errors import (
    ContextOverflow,
    EdgeRouterError,
    EngineUnavailable,
    GenerationFailed,
    LocalServerDown,
    OutOfMemory,
    ServedModelMissing,
    StrongError,
    StrongFailed,
    StrongInterrupted,
    StrongRateLimited,
    StrongRedirected,
    StrongRefused,
    StrongTimeout,
    StrongUnauthorized,
    StrongUnreachable,
    UnsupportedRequest,
)

_MEMORY = re.compile(
    r"requires more .{0,20}memory|out of memory|out_?of_?((device|host)_?)?memory|\boom\b"
    r"|not enough (.{0,20}memory|resources)|insufficient (memory|system resources)"
    r"|failed to allocate|unable to allocate|cudamalloc|alloc\w* .{0,40}failed"
    r"|no available memory|bad_alloc"
)
_CONTEXT = re.compile(
    r"context (size|length|window)|maximum context|context_length|too long|longer than .{0,20}context"
    r"|exceeds? .{0,40}(context|max_model_len)|greater than the context|n_ctx|input length limit"
)
_MISSING = re.compile(r"model.{0,200}(not found|does not exist|n't exist|no such)|no such model|try pulling")
_LOADING = re.compile(r"loading model|model is (still )?(being )?load|is loading|starting up")
_COUNT = re.compile(
    r"(?:request|prompt|input|messages|first)\D{0,60}?(\d{2,9}) ?(?:input )?tokens?", re.IGNORECASE
)
_ROOM = re.compile(r"(?:context|limit)\D{0,40}?(\d{2,9})", re.IGNORECASE)
_GIB = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_AMOUNT = re.compile(r"([\d.]{1,9}) ([kmgt]ib)", re.IGNORECASE)


class StillLoading(EngineUnavailable):
    """It is there, and its model is not yet: to be asked again in a while."""


def refusal(
    server: LocalServer,
    model: str,
    status: int,
    said: str,
    *,
    prompt: int | None = None,
    window: int | None = None,
) -> EdgeRouterError:
    """What a server means by a status and its words; `prompt` and `window` are tokens, as they are known."""
    low = said.lower()
    if _MEMORY.search(low):
        amounts = [float(count) * _GIB[unit.lower()] for count, unit in _AMOUNT.findall(said)]
        needed, free = (int(amounts[0]), int(amounts[1])) if len(amounts) == 2 else (None, None)
        return OutOfMemory(server.title, said, needed, free)
    if status in (400, 413, 422, 500) and _CONTEXT.search(low):
        told, limit = _COUNT.search(said), _ROOM.search(said)
        room = window or (int(limit[1]) if limit else 0)
        return ContextOverflow(int(told[1]) if told else max(prompt or 0, room), room)
    if status == 503 and _LOADING.search(low):
        return StillLoading(NAME, said)
    if status == 404 or _MISSING.search(low):
        return ServedModelMissing(
            model, server.title, server.url, [each.name for each in server.here], server.kind
        )
    if status in (400, 422, 501):
        return UnsupportedRequest(None, f"{server.title} does not take it: {said}")
    return GenerationFailed(server.title, f"HTTP {status}: {said}" if status != 200 else said)


def ours(
    error: StrongError, server: LocalServer, model: str, *, prompt: int | None, window: int | None
) -> EdgeRouterError:
    """What the client of the strong engine raised, which knows no weak models."""
    url, title = server.url, server.title
    if isinstance(error, StrongUnreachable | StrongRedirected):
        return LocalServerDown(url, error.reason, server.kind)
    if isinstance(error, StrongRefused):
        found = refusal(server, model, error.status, error.message, prompt=prompt, window=window)
        return UnsupportedRequest(error.field, found.reason) if type(found) is UnsupportedRequest else found
    if isinstance(error, StrongFailed):
        return refusal(server, model, error.status, error.message, prompt=prompt, window=window)
    if isinstance(error, StrongTimeout):
        reason = f"no token came within {error.seconds:g} s, as weak.server_timeout_s says"
        return LocalServerDown(url, reason, server.kind)
    if isinstance(error, StrongUnauthorized):
        reason = f"it wants a key (HTTP {error.status}), see weak.api_key_env"
        return LocalServerDown(url, reason, server.kind)
    if isinstance(error, StrongRateLimited):
        return GenerationFailed(title, "it has too much to do (HTTP 429)")
    if isinstance(error, StrongInterrupted):
        memory = _MEMORY.search(error.reason.lower())
        return (
            OutOfMemory(title, error.reason)
            if memory
            else GenerationFailed(title, f"it broke off: {error.reason}")
        )
    return GenerationFailed(title, error.reason)
