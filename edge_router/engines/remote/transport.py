"""The HTTP client beneath OpenAI's: one endpoint, its proxy, its certificates, and bounds to what it sends.

OpenAI's client was moved from httpx to httpx2; whichever it is built on is used here, through what both have.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from edge_router.engines.remote.bounds import LARGEST_ERROR
from edge_router.engines.remote.endpoint import Endpoint
from edge_router.engines.remote.outcomes import Garbled
from edge_router.system.network import BadNetworkSetting, Proxy, certificate_setting

ERROR_BODY_S = 3.0  # a refusal counts without its body, too
CONNECTIONS, KEPT = 1000, 100  # what OpenAI's client takes
_STEP = 64 * 2**10  # bytes that are inflated at once
_KEEPS_BODY = (307, 308)  # redirects after which the same is asked again
_PORTS = {"http": 80, "https": 443}


class Redirected(Exception):
    """The endpoint points elsewhere. `target` is where, without user, password and query."""

    def __init__(self, status: int, target: str) -> None:
        self.status, self.target = status, target
        super().__init__(f"HTTP {status} to {target}")


def http_library() -> ModuleType:
    """The package that OpenAI's client sends with."""
    import openai

    packages = (kind.__module__.partition(".")[0] for kind in openai.DefaultAsyncHttpxClient.__mro__)
    return sys.modules[next(package for package in packages if package != "openai")]


def open_client(place: Endpoint, proxy: Proxy | None) -> Any:
    """An `AsyncClient` of that package for `place` alone. Raises `BadNetworkSetting`.

    Redirects are followed where they keep method, body and origin; all others raise `Redirected`. Cookies are
    not kept. A body comes inflated, in small steps, and that of a refusal ends after `LARGEST_ERROR` bytes.
    """
    library = http_library()
    limits = library.Limits(max_connections=CONNECTIONS, max_keepalive_connections=KEPT)
    try:
        outer = library.AsyncHTTPTransport(
            verify=_trusted(library, place),
            trust_env=False,
            limits=limits,
            proxy=None if proxy is None else library.Proxy(proxy.url),
            uds=place.socket,
        )
    except (ImportError, ValueError, OSError, library.InvalidURL) as error:
        variable = "SSL_CERT_FILE or SSL_CERT_DIR" if proxy is None else proxy.variable
        raise BadNetworkSetting(variable, f"can't be followed ({type(error).__name__})") from None
    return library.AsyncClient(
        transport=_bounded(library, outer, place),
        follow_redirects=True,
        trust_env=False,
        headers={"Accept-Encoding": "identity"},
        timeout=None,
    )


def _trusted(library: ModuleType, place: Endpoint) -> Any:
    """Whose certificates are believed. An http address needs none, and so nobody's are read, nor believed."""
    if urlsplit(place.url).scheme != "https":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificate_setting()
    return library.create_ssl_context(trust_env=True)


def _bounded(library: ModuleType, outer: Any, place: Endpoint) -> Any:
    """`outer`, whose answers are looked at before anybody else sees them."""
    home = _origin(library.URL(place.url))

    class Body(library.AsyncByteStream):  # type: ignore[name-defined, misc]  # of either library
        def __init__(self, inner: Any, inflater: Inflater | None, limit: int | None) -> None:
            self._inner, self._inflater, self._limit = inner, inflater, limit

        async def __aiter__(self) -> AsyncIterator[bytes]:
            pieces = self._inner if self._inflater is None else self._inflater.pieces(self._inner)
            async for piece in pieces if self._limit is None else _beginning(pieces, self._limit):
                yield piece

        async def aclose(self) -> None:
            await self._inner.aclose()

    class Transport(library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        async def handle_async_request(self, request: Any) -> Any:
            if _origin(request.url) != home:  # as the library itself reads it, so there is no second reading
                raise Redirected(307, _shown(request.url))
            response = await outer.handle_async_request(request)
            try:
                _check_redirect(library, response, request, home)
                inflater = Inflater.of(response.headers.get("content-encoding", ""))
            except BaseException:
                await response.aclose()
                raise
            hidden = (b"set-cookie", b"content-encoding") if inflater else (b"set-cookie",)
            limit = LARGEST_ERROR if response.status_code >= 300 else None
            plain = inflater is None and limit is None
            return library.Response(
                status_code=response.status_code,
                headers=[(name, value) for name, value in response.headers.raw if name.lower() not in hidden],
                stream=response.stream if plain else Body(response.stream, inflater, limit),
                extensions=response.extensions,
            )

        async def aclose(self) -> None:
            await outer.aclose()

    return Transport()


class Inflater:
    """Undoes a compression that was not asked for, without ever holding more than a step of what it makes."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # the head tells gzip from zlib

    @classmethod
    def of(cls, coding: str) -> Inflater | None:
        """For a Content-Encoding; None where there is nothing to do. Raises `Garbled` for unknown ones."""
        coding = coding.strip().lower()
        if coding in ("", "identity"):
            return None
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise Garbled("a body in a compression that was not asked for")
        return cls()

    async def pieces(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Raises `Garbled`."""
        async for packed in body:
            for piece in self._steps(packed):
                yield piece
                await asyncio.sleep(0)  # a few bytes may become very many: others have their turn between

    def _steps(self, packed: bytes) -> Iterator[bytes]:
        while not self._stream.eof:
            try:
                piece = self._stream.decompress(packed, _STEP)
            except zlib.error as error:
                raise Garbled("a body that can't be inflated") from error
            packed = self._stream.unconsumed_tail
            if piece:
                yield piece
            if not packed and len(piece) < _STEP:
                return


async def _beginning(pieces: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """At most `limit` bytes, and only what comes in time: enough to quote from."""
    deadline = asyncio.get_running_loop().time() + ERROR_BODY_S
    iterator = aiter(pieces)
    while limit > 0:
        try:
            async with asyncio.timeout_at(deadline):
                piece = await anext(iterator, None)
        except TimeoutError:
            return
        if piece is None:
            return
        yield piece[:limit]
        limit -= len(piece)


def _check_redirect(
    library: ModuleType, response: Any, request: Any, home: tuple[str, str, int | None]
) -> None:
    """Raises `Redirected`: the prompt goes to the address that was configured, and to no other."""
    location = response.headers.get("location")
    if not 300 <= response.status_code < 400 or location is None:
        return
    try:
        target = request.url.join(location)
        stays = _origin(target) == home and not target.userinfo
    except (ValueError, library.InvalidURL):
        raise Redirected(response.status_code, "what is no address") from None
    if response.status_code not in _KEEPS_BODY or not stays:
        raise Redirected(response.status_code, _shown(target))


def _origin(url: Any) -> tuple[str, str, int | None]:
    """Scheme, host and port of the library's address."""
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme)


def _shown(url: Any) -> str:
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))
