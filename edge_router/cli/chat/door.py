"""Where `edge-router chat` comes in to a server that runs, if `server.resident` lets it: see `cli.resident`.

The answers are a speaker's, as in a process of their own; what it writes and says goes to the other end.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.chat.request import ReasoningOptions
from edge_router.cli.chat.question import ChatQuestion, fields_of
from edge_router.cli.chat.resident import SOCKET, Gone, LineConnection, proof, settings, stamp
from edge_router.cli.chat.speaker import Interrupted, Speaker
from edge_router.cli.options import Options
from edge_router.cli.runtime_file import RuntimeFile
from edge_router.cli.session import Installation, Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.failures import exit_code, worded
from edge_router.config.settings import Config, keys
from edge_router.system.paths import Paths

if TYPE_CHECKING:
    from edge_router.api.client import Controller

_logger = logging.getLogger(__name__)
_BACKLOG = 16
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_NETWORK = (*_PROXIES, *map(str.upper, _PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR")
_PLACES = ("HOME", "USERPROFILE", "APPDATA", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")


class ResidentDoor:
    """Made before the settings are read, so that a file that changes meanwhile is seen to have changed."""

    def __init__(self, session: Session) -> None:
        self._session, self._found = session, stamp(str(session.config_file))
        self._file = RuntimeFile()
        self._token, self._place = self._file.token, self._file.place
        self._listener: socket.socket | None = None
        self._open = set[LineConnection]()
        self._lock = threading.Lock()

    def open(self, controller: Controller, url: str) -> None:
        """Leave word of the server at `url`, and let chat in from now on, where the settings say so and are
        those that chat would have itself.
        """
        chats = controller.config.server.resident and self._is_for_chat(controller.config)
        try:
            self._file.prepare()
            self._file.write(url, self._for_chat() if chats else {})
        except OSError as error:
            where = f"{error.filename or self._place}: {error.strerror}"
            if chats:
                _logger.warning("chat answers by itself: %s", where)
            else:
                _logger.info("other programs do not find this server: %s", where)
            self.close()
            return
        if chats:
            _in_thread("edge_router door", self._listen, controller)

    def page(self, link: str) -> None:
        """Leave word of what opens the server's dashboard."""
        try:
            self._file.add({"dashboard": link})
        except OSError as error:
            _logger.info("edge-router dashboard has no link: %s", error.strerror)

    def _is_for_chat(self, config: Config) -> bool:
        """Whether chat would have the same settings; says so where it would not."""
        self._variables = _variables(config)
        self._settings = settings(self._variables, str(self._session.config_file))
        usual = self._session.config_file == self._session.paths.config_file
        if usual and self._settings[2] == self._found and _is_plain(config):
            return True
        _logger.warning("chat answers by itself: it would not have the settings of this server")
        return False

    def _for_chat(self) -> dict[str, object]:
        """What chat has to know, beside the token."""
        self._listener, address = self._bound()
        return {"address": address, "variables": self._variables, "config": self._found[0]}

    def close(self) -> None:
        """Nobody finds it or comes in any more, and who is in is left alone: his answer is cut off."""
        listener, self._listener = self._listener, None
        if self._file.remove() and listener is not None:
            with contextlib.suppress(OSError):
                (self._place / SOCKET).unlink(missing_ok=True)
        if listener is None:
            return
        with contextlib.suppress(OSError):  # what waits in accept hears of this, and not of the close
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        with self._lock:
            for line in self._open:
                line.close()

    @property
    def inside(self) -> int:
        """How many are answered, or on their way in, at this moment."""
        return len(self._open)

    def _bound(self) -> tuple[socket.socket, list[object] | None]:
        """A listener, and its address where that is a port."""
        path = str(self._place / SOCKET)
        if hasattr(socket, "AF_UNIX") and sys.platform != "win32":
            Path(path).unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            try:
                listener.bind(path)
            except OSError:  # a path of more than a hundred letters
                listener.close()
            else:
                listener.listen(_BACKLOG)
                return listener, None
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(_BACKLOG)
        return listener, list(listener.getsockname())

    def _listen(self, controller: Controller) -> None:
        listener = self._listener
        while listener is not None and self._listener is not None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            _in_thread("edge_router chat", self._serve, connection, controller)

    def _serve(self, connection: socket.socket, controller: Controller) -> None:
        connection.settimeout(0.1)
        line = LineConnection(connection)
        with self._lock:
            self._open.add(line)
        try:
            if self._is_known(line, controller):
                asked = line.receive(None)
                self._answer(line, controller, ChatQuestion(**asked["fields"]), quiet=bool(asked["quiet"]))
        except (Gone, KeyError, TypeError, AttributeError, ValueError):
            pass  # it has left, or is no chat of ours
        finally:
            with self._lock:
                self._open.discard(line)
            line.close()

    def _is_known(self, line: LineConnection, controller: Controller) -> bool:
        """Whether the other end proves to be this user's, with these settings, and asks for what is here."""
        nonce = secrets.token_hex(16)
        line.send({"proof": proof(self._token, "server", str(line.receive()["nonce"])), "nonce": nonce})
        told = line.receive()
        model = told["model"]
        known = hmac.compare_digest(str(told["proof"]), proof(self._token, "chat", nonce, self._settings))
        here = model is None or model.startswith("router-") or model in controller.model_names()
        line.send(known and here)
        return known and here

    def _answer(
        self, line: LineConnection, controller: Controller, asked: ChatQuestion, *, quiet: bool
    ) -> None:
        session = _Visit(Options(quiet=quiet), controller, self._session.paths, json=asked.json)
        wire, left = Wire(line), threading.Event()
        _in_thread("edge_router chat left", _watch, line, left)
        reasoning = ReasoningOptions(enabled=asked.thinking or None, shown=asked.thinking is not False)
        speaker = Speaker(
            session,
            controller.config,
            yes=False,
            fields=fields_of(asked),
            reasoning=reasoning,
            out=wire,
            left=left,
        )
        code = 0
        try:
            speaker.use(asked.model)
            speaker.once("".join(asked.prompt), asked.system)
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Interrupted:
            code = output.INTERRUPTED
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame of one answer, as cli.main is
            wire.say(f"error: {worded(error, session.options)}", style="red")
            code = exit_code(error)
        line.send(["end", code])


class Wire:
    """The two streams of `output`, at the other end."""

    def __init__(self, line: LineConnection) -> None:
        self._line = line

    def write(self, text: str) -> None:
        self._line.send(["write", text])

    def write_json(self, value: object) -> None:
        self.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")

    def say(self, text: str, *, style: str = "") -> None:
        self._line.send(["say", text, style])

    def murmur(self, text: str) -> None:
        self._line.send(["murmur", text])

    def part(self) -> None:
        self._line.send(["part"])


class _Visit(Session):
    """One question from outside: the controller that is there, and no ear for what modules log."""

    def __init__(self, options: Options, controller: Controller, paths: Paths, *, json: bool) -> None:
        Installation.__init__(self, options, paths)
        self.json, self._controller = json, controller

    def controller(self, config: Config) -> Controller:
        return self._controller


def _in_thread(name: str, work: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=work, args=arguments, name=name, daemon=True).start()


def _variables(config: Config) -> list[str]:
    """Names of those beside our own that an answer goes by: keys, the way to the network, where files are."""
    named = [
        config.get(key) for key in keys() if key.endswith("api_key_env") and not key.startswith("server.")
    ]
    named += [one.api_key_env for one in config.endpoints]
    return sorted({*map(str, filter(None, named)), *_NETWORK, *_PLACES})


def _watch(line: LineConnection, left: threading.Event) -> None:
    """Who closes the connection, or says one word more, wants no answer any more."""
    with contextlib.suppress(Gone):
        line.receive(None)
    left.set()


def _is_plain(config: Config) -> bool:
    """Whether chat, started beside it, would have the same settings but for those of the server."""
    plain = Config.load(None)
    relative = not Path(config.weak.model).is_absolute() and Path(config.weak.model).exists()
    return (
        not relative
        and all(config.get(key) == plain.get(key) for key in keys() if not key.startswith("server."))
        and (config.endpoints, config.callers) == (plain.endpoints, plain.callers)
    )
