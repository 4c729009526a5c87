"""Asking an endpoint for a few facts in JSON: small answers, in bounded time, which cost no tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_router.engines.remote.bounds import LARGEST_MESSAGE, check_message
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.outcomes import Garbled
from edge_router.parsing import strict_json
from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class EndpointReply:
    """`said` is None where the answer is no JSON object, or longer than any that is asked for here."""

    status: int
    said: Mapping[str, Any] | None

    @property
    def facts(self) -> Mapping[str, Any] | None:
        """None of a refusal."""
        return self.said if self.status == 200 else None


async def ask(
    client: Any,
    place: Endpoint,
    path: str,
    body: Mapping[str, object] | None = None,
    *,
    authorization: str | None = None,
) -> EndpointReply:
    """GET, or POST with a `body`. Raises what the HTTP library raises."""
    headers = {"Authorization": authorization} if authorization else {}
    sent = {"params": dict(place.query), "headers": headers} | ({} if body is None else {"json": body})
    url = f"{place.url.rstrip('/')}{path}"
    async with client.stream("GET" if body is None else "POST", url, **sent) as response:
        found = bytearray()
        async for piece in response.aiter_bytes():
            found += piece
            if len(found) > LARGEST_MESSAGE:
                return EndpointReply(response.status_code, None)
        return EndpointReply(response.status_code, _object(bytes(found)))


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        check_message("an answer", body)
        return strict_json.parse_object(body)
    except (Garbled, ValueError):
        return None
