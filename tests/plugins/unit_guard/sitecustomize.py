"""Keeps unit tests what they are called, in pytest's process and in each Python that a test starts.

While the environment's UNIT_GUARD names a file, loading TVM, onnxruntime or wgpu and reaching for another
machine are refused, and each attempt is a line in that file: a test that swallows the refusal fails all the same.
Python imports a module of this name as it starts, wherever PYTHONPATH leads to one.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

VARIABLE = "UNIT_GUARD"
SENDING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
EVENTS = SENDING | {"import", "socket.getaddrinfo", "socket.gethostbyname"}
HEAVY = frozenset({"tvm", "tvm_ffi", "onnxruntime", "wgpu"})


def watch() -> None:
    """From now on; Python has no way to end it."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    file = os.environ.get(VARIABLE) if event in EVENTS else None
    if not file:
        return
    done = _import(arguments) if event == "import" else _reach(event, arguments)
    if done:
        with Path(file).open("a", encoding="utf-8") as attempts:
            attempts.write(f"{done}\n")
        raise ImportError(f"a unit test {done}")


def _import(arguments: tuple[object, ...]) -> str | None:
    name = str(arguments[0])
    if name.partition(".")[0] in HEAVY and name not in sys.modules:  # None stands there for what is missing
        return f"loads {name}"
    return None


def _reach(event: str, arguments: tuple[object, ...]) -> str | None:
    if event in SENDING:
        address = arguments[1]
        host = (
            address[0] if isinstance(address, tuple) else None
        )  # else a Unix socket, or one that is connected
        far = host is not None and not _is_here(host)
    else:
        host = arguments[0]
        far = host is not None and not (_is_number(host) or _is_here(host))
    return f"reaches for {_text(host)}" if far else None


def _is_here(host: object) -> bool:
    name = _text(host)
    if not _is_number(host):
        return name in ("", "localhost")
    address = ipaddress.ip_address(name)
    return address.is_loopback or address.is_unspecified


def _is_number(host: object) -> bool:
    try:
        ipaddress.ip_address(_text(host))
    except ValueError:
        return False
    return True


def _text(host: object) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)


if os.environ.get(VARIABLE):
    watch()
