"""What the environment says of proxies and certificates, read in this one place and held to be usable.

The HTTP libraries read the same variables, but for every address at once and with errors of their own making:
a SOCKS proxy that no request would use stops them all. Here it is one address at a time.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from edge_router.records import dataclass

_PORTS = {"http": 80, "https": 443}
_PROXIES = ("http", "https", "socks5", "socks5h")


class BadNetworkSetting(Exception):
    """A variable that can't be followed. The text names it, says why and what to do, without passwords."""

    def __init__(self, variable: str, reason: str) -> None:
        self.variable, self.reason = variable, reason
        super().__init__(f"{variable} {reason}")


@dataclass(frozen=True, slots=True)
class Proxy:
    """`variable` is where it was named."""

    url: str = field(repr=False)  # with its password
    variable: str

    @property
    def shown(self) -> str:
        """Without user and password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @property
    def secrets(self) -> tuple[str, ...]:
        password = urlsplit(self.url).password or ""
        return tuple(dict.fromkeys(text for text in (password, unquote(password)) if text))


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine, so that a proxy would be another one."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and (address.is_loopback or address.is_unspecified)


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy by which `url` is to be reached; None: directly. Raises `BadNetworkSetting`."""
    environ = os.environ if environ is None else environ
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if is_loopback(host):
        return None
    named = _named(environ)
    found = named.get(parts.scheme) or named.get("all")
    if found is None or _is_excepted(parts, environ):
        return None
    return _usable(found)


def certificate_setting(environ: Mapping[str, str] | None = None) -> str | None:
    """The variable that replaces the system's certificates, if one does. Raises `BadNetworkSetting`."""
    environ = os.environ if environ is None else environ
    if file := environ.get("SSL_CERT_FILE"):
        _check_certificates(Path(file))
        return "SSL_CERT_FILE"
    if folder := environ.get("SSL_CERT_DIR"):
        # Several may be named; OpenSSL takes those that are there.
        if not any(Path(part).is_dir() for part in folder.split(os.pathsep)):
            raise BadNetworkSetting("SSL_CERT_DIR", f"names {folder}, which is no folder: {_UNSET}")
        return "SSL_CERT_DIR"
    return None


def problems(environ: Mapping[str, str] | None = None) -> Iterator[BadNetworkSetting]:
    """Every variable that cannot be followed, whether or not an address of ours needs it."""
    environ = os.environ if environ is None else environ
    nothing = environ.get("no_proxy", environ.get("NO_PROXY", "")).strip() == "*"
    for proxy in () if nothing else dict.fromkeys(_named(environ).values()):
        try:
            _usable(proxy)
        except BadNetworkSetting as problem:
            yield problem
    try:
        certificate_setting(environ)
    except BadNetworkSetting as problem:
        yield problem


_UNSET = "mend it or unset it"


def _named(environ: Mapping[str, str]) -> dict[str, Proxy]:
    """Scheme, or "all", to the proxy; the system's own settings where the environment names none."""
    found: dict[str, Proxy] = {}
    for scheme in ("http", "https", "all"):
        for variable in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            if variable == "HTTP_PROXY" and "REQUEST_METHOD" in environ:
                continue  # in a CGI program it is a header of whoever asks
            value = environ.get(variable)
            if value is None:
                continue
            if value.strip():
                found[scheme] = _proxy(value, variable)
            break
    if not found and environ is os.environ and sys.platform in ("win32", "darwin"):
        from urllib.request import getproxies

        system = getproxies()
        found = {
            name: _proxy(value, "the system's proxy") for name, value in system.items() if name in _PORTS
        }
    return found


def _proxy(value: str, variable: str) -> Proxy:
    value = value.strip()
    return Proxy(value if "://" in value else f"http://{value}", variable)


def _usable(proxy: Proxy) -> Proxy:
    try:
        parts = urlsplit(proxy.url)
        port_fits = parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        raise BadNetworkSetting(proxy.variable, f"is not an address: {_UNSET}") from None
    scheme = parts.scheme.lower()
    if scheme.startswith("socks") and scheme not in _PROXIES:
        raise BadNetworkSetting(
            proxy.variable,
            f"names a proxy of the kind {scheme}://, which is not spoken here: write socks5://",
        )
    if scheme not in _PROXIES:
        raise BadNetworkSetting(
            proxy.variable, f"names a proxy of the kind {scheme}://: write http://, https:// or socks5://"
        )
    if not parts.hostname or not port_fits or re.search(r"\s", proxy.url):
        raise BadNetworkSetting(proxy.variable, f"is not an address: {_UNSET}")
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise BadNetworkSetting(
            proxy.variable,
            "names a SOCKS proxy, which needs a package: python -m pip install socksio (or unset it)",
        )
    return proxy


def _is_excepted(parts: SplitResult, environ: Mapping[str, str]) -> bool:
    """What NO_PROXY says; without one, what the system says."""
    host = (parts.hostname or "").lower().rstrip(".")
    port = parts.port or _PORTS.get(parts.scheme)
    listed = environ.get("no_proxy", environ.get("NO_PROXY"))
    if listed is not None:
        entries = re.split(r"[,;\s]+", listed.strip().lower())
        return any(_excepts(entry, parts.scheme, host, port) for entry in entries if entry)
    if environ is os.environ and sys.platform in ("win32", "darwin"):
        from urllib.request import proxy_bypass

        return bool(proxy_bypass(host))
    return False


def _excepts(entry: str, scheme: str, host: str, port: int | None) -> bool:
    """The forms that curl, Go and Python know: *, name, .name, *.name, name:port, address, network, [v6]."""
    if entry == "*":
        return True
    kind, separator, rest = entry.partition("://")
    if separator:
        if kind not in ("all", scheme):
            return False
        entry = rest.rstrip("/")
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass
    place, separator, digits = entry.rpartition(":")
    if separator and digits.isdigit() and (":" not in place or place.endswith("]")):
        return int(digits) == port and _excepts(place, scheme, host, port)
    if address is not None:
        return _address(entry.strip("[]")) == address
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Also in the short forms that the system takes: 127.1."""
    text = text.partition("%")[0]
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    if not re.fullmatch(r"[0-9a-fx.]+", text):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _check_certificates(file: Path) -> None:
    name = "SSL_CERT_FILE"
    if file.is_dir():
        raise BadNetworkSetting(
            name, f"names {file}, which is a folder: name a file, or set SSL_CERT_DIR to it"
        )
    if not file.is_file():
        raise BadNetworkSetting(name, f"names {file}, which is not there: {_UNSET}")
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise BadNetworkSetting(
            name, f"names {file}, which holds no certificates ({reason}): {_UNSET}"
        ) from None
