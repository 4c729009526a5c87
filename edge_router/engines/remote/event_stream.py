"""Server-sent events out of bytes as they come. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from edge_router.engines.remote.bounds import LARGEST_MESSAGE, SEEN, check_message, refuse_longer
from edge_router.engines.remote.outcomes import Garbled
from edge_router.parsing.strict_json import NotJson, parse_object

DONE = "[DONE]"
BOM = b"\xef\xbb\xbf"


class ServerEvent(str):
    """The data of one server-sent event; `name` is its type, where it has one."""

    name = ""


class EventDecoder:
    """The `data` of server-sent events.

    Splits at line feeds only: a text may hold U+2028, at which `str.splitlines`, and so httpx, would cut.
    Also reads what some servers make of the format: no empty lines between events, or objects alone.
    `by_line`: each line that is an object is an event, and is given on before the next one comes.
    """

    def __init__(self, *, by_line: bool = False) -> None:
        self._by_line = by_line
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._held = 0  # bytes of the event under way, in `_data`

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """Raises `Garbled`, also for an event that does not end."""
        self._rest += piece
        if b"\n" in piece:
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                event = self._line(line)
                if event is not None:
                    yield event
        if self._held + len(self._rest) > LARGEST_MESSAGE:
            refuse_longer("an event", LARGEST_MESSAGE)

    def rest(self) -> Iterator[ServerEvent]:
        """An event that is whole though the body ended without the empty line behind it."""
        rest, self._rest = bytes(self._rest), bytearray()
        for line in (rest, b""):
            event = self._line(line) if line or _is_whole(b"\n".join(self._data)) else None
            if event is not None:
                yield event

    def _line(self, line: bytes) -> ServerEvent | None:
        size, line = len(line) + 1, line.removesuffix(b"\r").removeprefix(BOM)
        if self._by_line and line.startswith(b"{"):
            return _event(line, b"")
        if line.startswith((b"data:", b"{", DONE.encode())):
            data = line.removeprefix(b"data:").removeprefix(b" ")
            whole = self._data and self._data[-1].endswith(b"}") and data.startswith((b"{", DONE.encode()))
            event = self._end_event() if whole else None
            self._data.append(data)
            self._held += size
            return event
        if line.startswith(b"event:"):
            self._name = line[6:].strip()
        return None if line else self._end_event()

    def _end_event(self) -> ServerEvent | None:
        data, name, self._data, self._name, self._held = self._data, self._name, [], b"", 0
        return _event(b"\n".join(data), name) if data else None


def _is_whole(data: bytes) -> bool:
    try:
        return data.strip() == DONE.encode() or bool(parse_object(data, null=True))
    except NotJson:
        return False


def _event(data: bytes, name: bytes) -> ServerEvent:
    if len(data) > SEEN:
        check_message("an event", data)
    try:
        event = ServerEvent(data.decode())
        event.name = name.decode().lower()
    except UnicodeDecodeError as error:
        raise Garbled("text that is not UTF-8") from error
    return event
