"""Where a weak model's server is: on this machine, or on a host that is trusted as if it were.

A name counts by what it resolves to. It is asked at the address that was looked at, never by its name again,
so that it cannot come to mean another machine in between.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from edge_router.engines.remote.endpoint import Endpoint
from edge_router.errors import ConfigError
from edge_router.records import dataclass
from edge_router.system.network import is_loopback

KEY, TRUSTED = "weak.base_url", "weak.trusted_hosts"
UNIX = "unix:"
_WITHIN = ("/v1", "/api")  # below these lie a server's protocols
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where servers listen, and where they are asked
_CLOUD = re.compile(r":(?:[^:/]*-)?cloud$")  # how Ollama marks what runs at its makers'

Resolve = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """`endpoints`: the ways to one server, each to be tried; their addresses end before /v1 or /api.

    `host` is how the user wrote it. Not `here`: a trusted host, to which nothing private is sent.
    """

    endpoints: tuple[Endpoint, ...]
    host: str
    here: bool = True


def locate(base_url: str, trusted: Collection[str] = (), *, resolve: Resolve | None = None) -> ServerPlace:
    """What a base_url stands for. `resolve` gives a name's addresses; `OSError` where it has none.

    Raises `ConfigError` for what is no address, and for one of another machine that nobody has named.
    """
    if base_url.startswith(UNIX):
        return _unix(base_url)
    endpoint = Endpoint.parse(base_url if "://" in base_url else f"http://{base_url}", KEY)
    endpoint = replace(endpoint, url=_root(endpoint.url))
    parts = urlsplit(endpoint.url)
    host = parts.hostname or ""
    name = f"{host}:{parts.port}" if parts.port else host
    if _is_address(host):
        addresses: Sequence[str] = (host,)
    else:
        addresses = _resolved(host, resolve or _addresses, base_url)
    if ways := _ways(endpoint, addresses):
        return ServerPlace(ways, name)
    if {host.lower(), name.lower()} & {each.lower() for each in trusted}:
        return ServerPlace((endpoint,), name, here=False)
    elsewhere = next((each for each in addresses if not is_loopback(each)), host)
    means = "" if elsewhere == host else f", which is {elsewhere}"
    reason = (
        f"is on {host}{means}, another machine, and the weak model answers on this one; if that one is as "
        f"good, name it: {TRUSTED}={host}"
    )
    raise ConfigError(KEY, base_url, reason)


def here(endpoint: Endpoint, *, resolve: Resolve | None = None) -> tuple[Endpoint, ...]:
    """The ways to a server on this machine, each to be tried; none to another, and to one without address."""
    host = urlsplit(endpoint.url).hostname or ""
    try:
        addresses = (host,) if _is_address(host) else _resolved(host, resolve or _addresses, endpoint.url)
    except ConfigError:
        return ()
    return _ways(endpoint, addresses)


def _ways(endpoint: Endpoint, addresses: Sequence[str]) -> tuple[Endpoint, ...]:
    parts = urlsplit(endpoint.url)
    host = parts.hostname or ""
    named = parts.scheme == "https" and not _is_address(host)  # a certificate is about a name: that is kept
    if not all(map(is_loopback, addresses)) or (named and host != "localhost"):
        return ()
    ways = (host,) if named else tuple(_ANY.get(each, each) for each in addresses)
    return tuple(replace(endpoint, url=_at(endpoint.url, way)) for way in ways)


def _unix(base_url: str) -> ServerPlace:
    path = "/" + base_url.removeprefix(UNIX).lstrip("/")
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError(KEY, base_url, "is a Unix socket, which this system has not")
    if path == "/":
        raise ConfigError(KEY, base_url, "must be unix: and the path of a socket")
    return ServerPlace((Endpoint("http://localhost", {}, None, (), socket=path),), path)


def _root(url: str) -> str:
    url = url.rstrip("/")
    return next((url.removesuffix(part) for part in _WITHIN if url.endswith(part)), url)


def _at(url: str, address: str) -> str:
    """`url` with another host."""
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return urlunsplit(parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host))


def _resolved(host: str, resolve: Resolve, base_url: str) -> Sequence[str]:
    """Those of IPv4 first, on which most servers listen. Raises `ConfigError`."""
    try:
        found = list(dict.fromkeys(resolve(host)))
    except (OSError, UnicodeError) as error:
        reason = f"names {host}, which has no address ({getattr(error, 'strerror', None) or error})"
        raise ConfigError(KEY, base_url, reason) from error
    if not found:
        raise ConfigError(KEY, base_url, f"names {host}, which has no address")
    return sorted(found, key=lambda address: ":" in address)


def _addresses(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _is_address(host: str) -> bool:
    """Digits: nobody is asked what they mean. Also in short forms, as 127.1 is one."""
    if ":" in host:
        return True
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def cloud_of(name: str, said: Mapping[str, Any]) -> str:
    """The host at which a model of Ollama's runs; "" where that is this server."""
    return str(said.get("remote_host") or "") or ("ollama.com" if _CLOUD.search(name) else "")
