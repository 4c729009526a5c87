"""Asking an endpoint for its models: whether it can be reached, and takes the key. Costs no tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from edge_router.config.sections import StrongConfig
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.failures import Translator
from edge_router.engines.remote.keys import Key, NoKey
from edge_router.engines.remote.question_client import ask
from edge_router.engines.remote.secrecy import LogFilter
from edge_router.engines.remote.transport import http_library, open_client
from edge_router.errors import StrongError, StrongTimeout, StrongUnreachable
from edge_router.records import dataclass
from edge_router.system.network import BadNetworkSetting, proxy_for

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
    reply = await ask(client, place, "/models", authorization=authorization)
    return Probe(reply.status, _names(reply.facts))


def _names(said: Mapping[str, Any] | None) -> frozenset[str] | None:
    try:
        return None if said is None else frozenset(e["id"] for e in said["data"] if isinstance(e["id"], str))
    except (KeyError, TypeError):
        return None
