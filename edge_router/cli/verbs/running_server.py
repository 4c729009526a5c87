"""The server that runs, or would with this configuration: what it tells anybody of its health."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

from edge_router.cli import runtime_file
from edge_router.config.settings import Config
from edge_router.parsing import strict_json
from edge_router.records import dataclass

_WAIT_S, _MOST_BYTES = 2.0, 100_000
_ANY = ("0.0.0.0", "::")  # noqa: S104 - not listened on here


@dataclass(frozen=True, slots=True)
class RunningServer:
    """`at` is its host and port."""

    at: str
    health: Mapping[str, Any]

    @property
    def endpoints(self) -> Mapping[str, Any]:
        """The state of each of several endpoints by its name; none before the first was asked."""
        found = self.health.get("endpoints")
        return found if isinstance(found, dict) else {}


def address(config: Config) -> str:
    host = "127.0.0.1" if config.server.host in _ANY else config.server.host
    return f"{host}:{config.server.port}"


def running(config: Config) -> RunningServer | None:
    """None where nothing answers there that has health to tell."""
    found = runtime_file.running()
    at = address(config) if found is None else found.url.rpartition("/")[2]
    health = asked(at, "/health")
    ours = health is not None and health.get("status") in ("ok", "degraded")
    return RunningServer(at, health) if health is not None and ours else None


def asked(at: str, path: str, key: str | None = None) -> Mapping[str, Any] | None:
    """The object that a server answers with; None for another answer, and where nothing answers."""
    host, _, port = at.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=_WAIT_S)  # which knows no proxies
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        told = strict_json.parse_object(answer.read(_MOST_BYTES))
    except (OSError, HTTPException, strict_json.NotJson):
        return None
    finally:
        connection.close()
    return told if answer.status == HTTPStatus.OK else None
