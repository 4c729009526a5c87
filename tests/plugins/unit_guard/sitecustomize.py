"""Keeps unit tests what they are called, in pytest's process and in each Python that a test starts.

While the environment's UNIT_GUARD names a file, loading TVM, onnxruntime or wgpu, looking up a name and binding or
connecting a socket, to this machine too, are refused, and each attempt is a line in that file: a test that swallows
the refusal fails all the same. Python imports a module of this name as it starts, wherever PYTHONPATH leads to one.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from types import FrameType

VARIABLE = "UNIT_GUARD"
ADDRESSED = frozenset({"socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg"})
EVENTS = ADDRESSED | {"import", "socket.getaddrinfo", "socket.gethostbyname"}
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
    if event not in ADDRESSED:
        host = arguments[0]
        return None if host is None or _is_number(host) else f"looks up {_text(host)}"
    address = arguments[1]
    if not isinstance(address, tuple) or _is_pair():  # a Unix socket, or one that is connected
        return None
    return f"opens a socket to {_text(address[0])}"


def _is_pair() -> bool:
    """Whether this is for `socket.socketpair`, which asyncio's loops take: on Windows a pair is made over TCP."""
    frame: FrameType | None = sys._getframe()
    while frame := frame and frame.f_back:
        if frame.f_globals.get("__name__") == "socket" and frame.f_code.co_name.endswith("socketpair"):
            return True
    return False


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
