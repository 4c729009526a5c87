"""The server's socket: bound before minutes of loading, so that a busy port is known at once."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys

from edge_router.errors import ConfigError, PortInUse, UnsafeBind

PORT, OLLAMA_PORT = "server.port", "server.ollama_port"
BUSY = (errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", errno.EADDRINUSE))
EXCLUSIVE = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows: no other process may bind it as well


def bind(host: str, port: int, *, has_key: bool, setting: str = PORT) -> socket.socket:
    """A bound socket that does not listen yet. Port 0 takes a free one; `setting` is the key that says which.

    Raises `UnsafeBind` for an address that other machines reach while there is no key, `PortInUse`, and
    `ConfigError` for an address that this machine does not have or a port that it may not use.
    """
    family, address = _resolve(host, port)
    if not has_key and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        raise UnsafeBind(host)
    try:
        return _bound(family, address, reuse=False)
    except OSError as error:
        if error.errno not in BUSY or sys.platform == "win32":
            raise refused(error, host, port, setting) from error
    # Perhaps only the last connections of an earlier server linger. Two sockets that are both bound so could
    # share the port until one listens, hence this is not the first try.
    try:
        return _bound(family, address, reuse=True)
    except OSError as error:
        raise refused(error, host, port, setting) from error


def reached(url: str) -> str:
    """The address of a server that listens everywhere, as this machine reaches it; others as they are."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def url_of(listener: socket.socket) -> str:
    """The base address under which `listener` is reached, with its real port."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ready_to_listen(listener: socket.socket) -> None:
    """Let the next server have the port while this one's last connections linger."""
    if EXCLUSIVE is None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def refused(error: OSError, host: str, port: int, setting: str = PORT) -> PortInUse | ConfigError:
    denied = isinstance(error, PermissionError)
    # Windows, which has no ports for administrators, says "denied" of one that is held exclusively.
    if error.errno in BUSY or (denied and EXCLUSIVE is not None):
        return PortInUse(host, port, setting)
    if denied:
        return ConfigError(setting, port, "this user may not listen there; choose one above 1023")
    return ConfigError("server.host", host, f"cannot listen there: {error.strerror}")


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError("server.host", host, "no address of that name is known") from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), int(address[1]))


def _bound(family: socket.AddressFamily, address: tuple[str, int], *, reuse: bool) -> socket.socket:
    # asyncio sends small packets at once (TCP_NODELAY) only where a socket says that its protocol is TCP;
    # without, every reply waits 40 ms for the client to acknowledge its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if EXCLUSIVE is not None:
            listener.setsockopt(socket.SOL_SOCKET, EXCLUSIVE, 1)
        elif reuse:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and hasattr(socket, "IPV6_V6ONLY"):
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
