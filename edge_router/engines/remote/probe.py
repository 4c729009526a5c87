"""Asking an endpoint for its models: whether it can be reached, and takes the key. Costs no tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from edge_router import strict_json
from edge_router.config import StrongConfig
from edge_router.engines.keys import Key, NoKey
from edge_router.engines.remote.bounds import LARGEST_MESSAGE, check_message
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.failures import Translator
from edge_router.engines.remote.outcomes import Garbled
from edge_router.engines.remote.secrecy import LogFilter
from edge_router.engines.remote.transport import http_library, open_client
from edge_router.errors import StrongError, StrongTimeout, StrongUnreachable
from edge_router.network import BadNetworkSetting, proxy_for

LONGEST_S = 5.0


@dataclass(frozen=True, slots=True)
class Probe:
    """`status` is the HTTP status; `models` what the endpoint lists, None where it gave no list."""

    status: int
    models: frozenset[str] | None = None


def probe(settings: StrongConfig, key: Key | NoKey) -> Probe:
    """What `GET /models` answers. Raises a `StrongError` where nothing does, within `LONGEST_S`."""
    return asyncio.run(_probe(settings, key))


async def _probe(settings: StrongConfig, key: Key | NoKey) -> Probe:
    place, limit_s = Endpoint.parse(settings.base_url), min(settings.timeout_s, LONGEST_S)
    try:
        proxy = proxy_for(place.url)
        client = open_client(place, proxy)
    except BadNetworkSetting as problem:
        raise StrongUnreachable(place.url, str(problem)) from None
    held = key.value if isinstance(key, Key) else None
    secrets = (*place.secrets, *([held] if held else []), *(proxy.secrets if proxy else ()))
    translator = Translator(
        endpoint=place.url,
        secrets=secrets,
        key_source=key.source if isinstance(key, Key) else None,
        timeout_s=limit_s,
        connect_timeout_s=settings.connect_timeout_s,
        transport=http_library(),
        proxy=proxy,
    )
    logs = LogFilter(secrets)
    logs.start()
    try:
        async with asyncio.timeout(limit_s), client:
            return await _asked(client, place, place.authorization or (f"Bearer {held}" if held else None))
    except TimeoutError:
        raise StrongTimeout(place.url, limit_s) from None
    except translator.caught() as error:
        failure: StrongError = translator.failure(error, started=False).error
        raise failure from None
    finally:
        logs.stop()


async def _asked(client: Any, place: Endpoint, authorization: str | None) -> Probe:
    headers = {"Authorization": authorization} if authorization else {}
    url = f"{place.url.rstrip('/')}/models"
    async with client.stream("GET", url, params=dict(place.query), headers=headers) as response:
        if response.status_code != 200:
            return Probe(response.status_code)
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > LARGEST_MESSAGE:
                return Probe(200)
    return Probe(200, _names(bytes(body)))


def _names(body: bytes) -> frozenset[str] | None:
    try:
        check_message("a list", body)
        entries = strict_json.parse_object(body)["data"]
        return frozenset(entry["id"] for entry in entries if isinstance(entry["id"], str))
    except (Garbled, ValueError, KeyError, TypeError):
        return None
