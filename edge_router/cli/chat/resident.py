"""`edge-router chat` asking the server that runs: found, proven to be ours and set the same, and heard.

Only where the server's settings allow it (`server.resident`); it leaves a file that only its user may read.
This imports next to nothing, for the answer is to be there in the time that other imports take.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import edge_router
from edge_router.cli.chat.quick import Typed
from edge_router.cli.terminal import output, piped
from edge_router.parsing import strict_json

try:  # what `socket` and `hashlib` are made of, without the tables and libraries that those load
    from _blake2 import blake2b
    from _socket import socket as Socket
except ImportError:  # another Python
    from hashlib import blake2b
    from socket import socket as Socket  # type: ignore[assignment]

FILE, SOCKET = "runtime.json", "chat.socket"
FAMILY = 1  # AF_UNIX, and AF_INET below, on every system that we run on
INTERNET = 2
LONGEST = 64_000_000  # bytes of a line
_NAP_S, _PATIENCE_S = 0.1, 2.0
_SERVERS = ("EDGE_ROUTER_SERVER_", "EDGE_ROUTER_API_KEY")  # by which no answer goes
_REFUSED = ("0", "false", "no", "off")
# Another server, or none.
_ELSEWHERE = ("config", "settings", "debug", "offline", "device", "threads", "keep", "resume")


class Gone(Exception):
    """Nobody is there, or nobody that proves to be the server."""


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a server leaves word of itself; found without a look at the settings."""
    if home := environ.get("EDGE_ROUTER_HOME"):
        return Path(home).expanduser().absolute() / "resident"
    at = "Library/Caches" if sys.platform == "darwin" else ".cache"
    name = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(environ.get(name) or Path.home() / at) / "edge_router" / "resident"


def proof(token: str, *parts: object) -> str:
    """What only who has read the file can say of `parts`."""
    return blake2b(json.dumps(parts).encode(), key=bytes.fromhex(token), digest_size=32).hexdigest()


def settings(variables: list[str], file: str, environ: Mapping[str, str] = os.environ) -> list[object]:
    """What an answer would go by: the program, its configuration file and its variables."""
    ours = {name for name in environ if name.startswith("EDGE_ROUTER_") and not name.startswith(_SERVERS)}
    return [
        edge_router.__version__,
        __file__,
        stamp(file),
        [[name, environ.get(name)] for name in sorted({*variables, *ours})],
    ]


def stamp(file: str) -> list[object]:
    try:
        found = Path(file).stat()
    except OSError:
        return [file]
    return [file, found.st_mtime_ns, found.st_size]


class LineConnection:
    """A connection: a JSON value to a line. Raises `Gone` where it ends."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._read = connection, bytearray()

    def send(self, value: object) -> None:
        """Waits for as long as the other end reads nothing."""
        rest = memoryview(json.dumps(value).encode() + b"\n")
        while rest:
            try:
                rest = rest[self._connection.send(rest) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise Gone from error

    def receive(self, patience: float | None = _PATIENCE_S) -> Any:
        """The next value; None: however long it takes, in naps, for Windows hears Ctrl-C in none longer."""
        waited = 0.0
        while (end := self._read.find(b"\n")) < 0:
            if len(self._read) > LONGEST:
                raise Gone
            try:
                arrived = self._connection.recv(65_536)
            except TimeoutError:
                waited += _NAP_S
                if patience is not None and waited >= patience:
                    raise Gone from None
                continue
            except OSError as error:
                raise Gone from error
            if not arrived:
                raise Gone
            self._read += arrived
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        try:
            return strict_json.parse(line)
        except ValueError as error:
            raise Gone from error

    def close(self) -> None:
        self._connection.close()


def ask(typed: Typed) -> int | None:
    """The exit code, once the answer has been shown; None where this process has to answer itself."""
    refused = os.environ.get("EDGE_ROUTER_SERVER_RESIDENT", "").lower() in _REFUSED
    if refused or any(typed.fields.get(name) or typed.options.get(name) for name in _ELSEWHERE):
        return None
    try:
        line = _connected(typed.fields.get("model"))
    except (Gone, OSError, ValueError, KeyError, TypeError):  # or a file that is none of ours
        return None
    try:
        question = piped.readable(" ".join(typed.fields["prompt"]))
        text = piped.joined(question, piped.piped_input(given=True))
        typed.fields["prompt"] = (text,)  # what was piped in can be read once
        return _shown(_told(line, {"fields": typed.fields, "quiet": bool(typed.options.get("quiet"))}))
    finally:
        line.close()


def _connected(model: object) -> LineConnection:
    where = folder()
    told = read(where)
    token = str(told["token"])
    connection = Socket(FAMILY if told["address"] is None else INTERNET, 1)
    try:
        connection.settimeout(_NAP_S)
        if told["address"] is None:
            connection.connect(str(where / SOCKET))
        else:
            connection.connect(tuple(told["address"]))
        line, nonce = LineConnection(connection), os.urandom(16).hex()
        line.send({"nonce": nonce})
        answered = line.receive()
        if answered["proof"] != proof(token, "server", nonce):
            raise Gone
        own = settings(told["variables"], told["config"])
        line.send({"proof": proof(token, "chat", answered["nonce"], own), "model": model})
        if line.receive() is not True:
            raise Gone
    except BaseException:
        connection.close()
        raise
    return line


def read(where: Path) -> Any:
    """What a server has left there. Raises `Gone` where others might have."""
    number = os.open(where / FILE, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would keep us waiting
    with os.fdopen(number, encoding="utf-8") as file:
        if not stat.S_ISREG((itself := os.fstat(number)).st_mode):
            raise Gone
        if hasattr(os, "getuid"):
            for found in (where.stat(), itself):
                if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
                    raise Gone
        return strict_json.parse(file.read())


def _told(line: LineConnection, asked: object) -> Iterator[list[Any]]:
    """Asks, and gives what is told of the answer. Raises `Gone`, too, where the server left meanwhile."""
    line.send(asked)
    while True:
        told = line.receive(None)
        yield told
        if told[0] == "end":
            return


def _shown(told: Iterator[list[Any]]) -> int | None:
    """None where the server went before it said anything."""
    written, said = "", False
    try:
        for kind, *what in told:
            said = True
            if kind == "write":
                output.write(what[0])
                written = what[0] or written
            elif kind == "murmur":
                output.murmur(what[0])
            elif kind == "say":
                output.say(what[0], style=what[1])
            elif kind == "part":
                output.part()
            elif kind == "end":
                return int(what[0])
    except KeyboardInterrupt:
        _end_line(written)
        return output.INTERRUPTED
    except Gone:
        if not said:
            return None
    _end_line(written)
    output.say("error: the server that answered has ended; ask again", style="red")
    return 1


def _end_line(written: str) -> None:
    if written and not written.endswith("\n"):
        output.write("\n")
