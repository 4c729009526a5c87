"""What stands before every route: a local server is a target of every web page that its user opens.

A page can make the browser send requests here, and by rebinding its own name to 127.0.0.1 even read the
answers. So the Host header must be a name of this server, and an Origin must be this server's own or
one that the user allowed. Both are looked at before anything else, for paths that do not exist too.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_router.callers.keys import KeyRing
from edge_router.config.sections import ServerConfig
from edge_router.defects import Defects
from edge_router.errors import InternalError, clipped
from edge_router.server.doors import CALLER
from edge_router.server.errors import refusal, unexpected
from edge_router.server.http.exchange import BrokenOff
from edge_router.server.protocols import ID_HEADERS, REQUEST_ID, Protocols
from edge_router.surfaces.base import Failure

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
OPEN_PATHS = ("/health",)  # without a key
SHOWN_HEADERS = (
    "x-edge-router-model, x-edge-router-score, x-edge-router-threshold, x-edge-router-reason, "
    "x-edge-router-endpoint, x-edge-router-held, x-edge-router-held-tokens, x-edge-router-age, "
    "x-edge-router-fallback, x-edge-router-truncated, x-edge-router-would-escalate, x-request-id, "
    "request-id, x-typesafe-request-id, retry-after, "
    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
# With another name in each place.
CHANGING_SCHEMES = ("vscode-webview", "chrome-extension", "moz-extension", "safari-web-extension")
KEY_VARIABLE = ServerConfig().api_key_env
log = logging.getLogger("edge_router.server")

# Of each reply, whatever it says itself.
_IDS = tuple(name.encode() for name in ID_HEADERS)
_DRESS = ((b"x-content-type-options", b"nosniff"), (b"cross-origin-resource-policy", b"same-origin"))
_DRESSED = frozenset({*_IDS, *(name for name, _ in _DRESS)})

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[a-z0-9._:\[\]-]{0,100}", re.ASCII)
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::[0-9]{1,5})?", re.ASCII)


def host_name(value: str) -> str | None:
    """The name in a Host header, in lower case and without the port; None for anything malformed."""
    match = _HOST.fullmatch(value.lower())
    return match["name"] if match else None


def known_hosts(bound: str, added: Iterable[str]) -> frozenset[str]:
    """The names under which this server answers: the loopback ones, the bound address, the user's own."""
    names = {*LOOPBACK_NAMES}
    for value in (bound, *added):
        name = host_name(f"[{value}]" if value.count(":") > 1 and not value.startswith("[") else value)
        if name is not None and name not in ("0.0.0.0", "[::]"):  # noqa: S104 - "everywhere" is no name
            names.add(name)
    return frozenset(names)


def plain_path(path: str) -> str:
    """Slashes that clients double, or put behind, are none."""
    if "//" not in path and path[-1:] != "/" and path[:1] == "/":
        return path
    return "/" + "/".join(part for part in path.split("/") if part)


def _keys(headers: Headers) -> Iterator[str]:
    """The keys that a request brings: OpenAI's clients send them one way, Anthropic's both."""
    bearers, plain = headers.getlist("authorization"), headers.getlist("x-api-key")
    if len(bearers) == 1:
        scheme, _, key = bearers[0].partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip(" ")
    if len(plain) == 1:
        yield plain[0].strip(" ")


def _plain_origin(origin: str) -> str:
    scheme, mark, rest = origin.lower().partition("://")
    return scheme + mark + rest.rstrip("/") if mark else scheme


class SecurityMiddleware:
    """The outermost layer of the app: Host, Origin and key first; no exception leaves it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: frozenset[str],
        origins: Iterable[str],
        keys: KeyRing,
        protocols: Protocols,
        defects: Defects,
        unlocked: Callable[[Scope], bool] = lambda scope: False,
    ) -> None:
        """`unlocked`: what has another lock than the keys."""
        self._app, self._hosts, self._listed = app, hosts, tuple(origins)
        self._origins = frozenset(map(_plain_origin, self._listed))
        self._keys, self._unlocked = keys, unlocked
        self._protocols, self._defects = protocols, defects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, status = Headers(scope=scope), 0
        number = f"req_{secrets.token_hex(16)}"
        scope = {**scope, "path": plain_path(scope["path"]), REQUEST_ID: number}
        shown = clipped(scope["path"])

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                dress = (*((name, number.encode()) for name in _IDS), *_DRESS)
                theirs = [pair for pair in message.get("headers", ()) if pair[0] not in _DRESSED]
                message["headers"] = [*theirs, *dress]
                if self._origins:
                    self._allow(MutableHeaders(scope=message), headers)
            await send(message)

        refused = self._refusal(headers)
        answer = None if refused else self._preflight(scope, headers)
        refused = refused or (None if answer else self._unauthorized(scope, headers))
        answer = self._protocols.failed(scope, refused) if refused else answer
        try:
            await (answer or self._app)(scope, receive, dressed)
        except BrokenOff:
            log.info("%s %s %a: its answer is broken off", number, scope["method"], shown)
            raise
        except ClientDisconnect:
            log.info("%s %s %a: the client has left", number, scope["method"], shown)
            return
        except Exception as error:
            self._defects.note(InternalError.of("server", error))
            if status:
                raise  # half an answer is out: the connection must not look as if it had ended well
            await self._protocols.failed(scope, unexpected())(scope, receive, dressed)
        log.info("%s %s %a %d", number, scope["method"], shown, status)

    def _refusal(self, headers: Headers) -> Failure | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None:
            return refusal(400, "The request needs one well-formed Host header.")
        if name not in self._hosts:
            name = clipped(name)
            advice = f"If {name} is yours, add it to server.allowed_hosts."
            return refusal(403, f"This server does not answer to the host {name}. {advice}")
        if origins and not (len(origins) == 1 and self._may_call(origins[0], hosts[0])):
            return refusal(403, self._foreign(origins))
        return None

    def _foreign(self, origins: list[str]) -> str:
        """What a page or a desktop program from elsewhere is told, with the setting that lets it in."""
        refused = "Pages and desktop programs from elsewhere may not call this server."
        origin = _plain_origin(origins[0])
        if len(origins) > 1 or not (origin == "null" or _ORIGIN.fullmatch(origin)):
            return f"{refused} Send one well-formed Origin, or none."
        scheme = origin.partition("://")[0]
        allowed = f"{scheme}://*" if scheme in CHANGING_SCHEMES else origin
        setting = ",".join((*self._listed, allowed))
        told = f"{refused} If you trust {allowed}, start it with"
        if origin == "null":
            told = f"{refused} Any web page can call itself null; if you want all of them to, set a key"
            told += f" ({KEY_VARIABLE}) and start it with"
        return f"{told} `edge-router serve --set server.allowed_origins={setting}`."

    def _may_call(self, origin: str, host: str) -> bool:
        own = origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
        return own or self._allows(origin)

    def _allows(self, origin: str) -> bool:
        origin = _plain_origin(origin)
        scheme, mark, _ = origin.partition("://")
        all_of_it = bool(mark) and f"{scheme}://*" in self._origins
        return origin in self._origins or all_of_it or ("*" in self._origins and origin != "null")

    def _preflight(self, scope: Scope, headers: Headers) -> Response | None:
        if scope["method"] != "OPTIONS" or not {"origin", "access-control-request-method"} <= {*headers}:
            return None
        allowed = {
            "access-control-allow-methods": "GET, POST, OPTIONS",
            "access-control-allow-headers": headers.get("access-control-request-headers", ""),
            "access-control-max-age": "600",
        }
        if headers.get("access-control-request-private-network") == "true":
            allowed["access-control-allow-private-network"] = "true"
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=allowed)

    def _unauthorized(self, scope: Scope, headers: Headers) -> Failure | None:
        """What is said to who has no key that is known; whose it is stands in `scope` otherwise."""
        if not self._keys.demanded or scope["path"] in OPEN_PATHS or self._unlocked(scope):
            return None
        known, scope[CALLER] = self._keys.find(key.encode("latin-1") for key in _keys(headers))
        if known:
            return None
        ways = "`Authorization: Bearer <key>` or `x-api-key: <key>`"
        message = f"The API key is missing or wrong. Send it as {ways}."
        return refusal(401, message, {"www-authenticate": "Bearer"})

    def _allow(self, reply: MutableHeaders, headers: Headers) -> None:
        reply.add_vary_header("Origin")
        origin = headers.get("origin")
        if origin is not None and self._allows(origin):
            reply["access-control-allow-origin"] = origin
            reply["access-control-expose-headers"] = SHOWN_HEADERS
