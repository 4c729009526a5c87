"""Starting a program that asks this server: whether one answers, a server of its own, and the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from types import FrameType
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from edge_router.cli.launch.shells import for_batch_file
from edge_router.cli.terminal import logs, output
from edge_router.errors import NoServer, ServerKeyRefused
from edge_router.parsing import strict_json

if TYPE_CHECKING:
    from edge_router.api.client import Controller

WAIT_S = 10.0  # a server that is there answers at once, on the busiest machine in seconds
_MOST_BYTES = 1 << 20

Contexts = Mapping[str, int | None]  # a model's name to the tokens that it takes, where that is said


class NobodyThere(NoServer):
    """Nothing listens there at all."""


def models_at(url: str, key: str | None, variable: str, client: str) -> Contexts:
    """What the server there answers to. Raises `NobodyThere`, `NoServer`, `ServerKeyRefused`.

    `variable`, where the key was looked for, and `client`, what is to be started, are for the errors.
    """
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=WAIT_S)  # which knows no proxies
    headers = {"Accept": "application/json"} | ({} if key is None else {"X-Api-Key": key})
    try:
        connection.request("GET", "/v1/models", headers=headers)
        reply = connection.getresponse()
        status, body = reply.status, reply.read(_MOST_BYTES)
    except ConnectionRefusedError as error:
        raise NobodyThere(url, "nobody listens there", client) from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoServer(url, reason, client) from error
    finally:
        connection.close()
    if status == 401:
        raise ServerKeyRefused(url, variable, is_set=key is not None, client=client)
    return _contexts(body, NoServer(url, f"another program does, HTTP {status}", client))


def _contexts(body: bytes, foreign: NoServer) -> Contexts:
    try:
        listed = strict_json.parse_object(body).get("data")
    except strict_json.NotJson as error:
        raise foreign from error
    models = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    if not any(item.get("owned_by") == "edge_router" for item in models):
        raise foreign
    lengths = {str(item.get("id")): item.get("context_length") for item in models}
    return {name: length if isinstance(length, int) else None for name, length in lengths.items()}


@contextmanager
def serving(controller: Controller, key: str | None) -> Iterator[str]:
    """A server in a thread of this process, which ends with the block; gives its address.

    Raises `Busy` where a model is in the midst of a long prompt then: the process has to be left as it is.
    """
    from edge_router.server.serve import run

    url: Future[str] = Future()
    stop, closed = threading.Event(), [True]
    failed: list[BaseException] = []  # once it was serving

    def serve() -> None:
        try:
            closed[0] = run(controller, api_key=key, on_ready=url.set_result, stop=stop)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            if url.done():
                failed.append(error)
            else:
                url.set_exception(error)

    thread = threading.Thread(target=serve, name="edge_router serve", daemon=True)
    thread.start()
    try:
        address = url.result()
    except KeyboardInterrupt:
        output.leave(output.INTERRUPTED)  # what loads a model cannot be told
    try:
        yield address
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
    if not closed[0]:
        raise Busy


class Busy(Exception):
    """What the model's thread still computes is for nobody, and may take a minute."""


def _replace(program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    output.finish()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the program would, too
        signal.signal(number, signal.SIG_DFL)
    os.execve(program, [program, *arguments], dict(environ))  # noqa: S606 - no shell is wanted


def become(program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """This process becomes that program; on Windows, which has no such thing, the other one's exit code."""
    if os.name == "nt":
        return run(program, arguments, environ)
    _replace(program, arguments, environ)


def run(program: str, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The program's exit code, as a shell has it. Ctrl-C is the program's own matter while it runs."""
    batch = os.name == "nt" and program.lower().endswith((".cmd", ".bat"))
    command = for_batch_file(program, arguments) if batch else [program, *arguments]
    output.finish()
    logs.silence()  # the terminal is the program's
    with subprocess.Popen(command, env=dict(environ)) as child, _left_to(child):
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _left_to(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Signals that end a program are the child's: Ctrl-C reaches it by itself, others are handed on.

    A handler that does nothing, and not SIG_IGN, which children of the child would inherit.
    """

    def ignore(number: int, frame: FrameType | None) -> None:
        return None

    def hand_on(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    handlers: dict[int, Callable[[int, FrameType | None], None]]
    handlers = {signal.SIGINT: ignore, signal.SIGTERM: hand_on}
    if sys.platform != "win32":
        handlers[signal.SIGHUP] = hand_on
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
