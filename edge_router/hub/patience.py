"""Calls of a library that may never come back: each in a thread that is left behind once nobody waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from edge_router.errors import Cancelled

T = TypeVar("T")


def left_behind(task: Callable[[], T], *, name: str) -> Future[T]:
    """What `task` will return, from a thread for which Python does not wait when it ends."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(task())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            outcome.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome


class Lines:
    """What some threads have on the line of a session that the whole process shares.

    huggingface_hub has one session: closing it would end what the embedding program downloads with it, too.
    Whoever is `mine` is looked at by the hooks of `seen`; `hang_up` ends their calls and nobody else's.
    """

    def __init__(self) -> None:
        self._now: dict[int, Any] = {}  # by thread: nothing, a connection, or an answer that is being read
        self._over = False

    def mine(self) -> None:
        """To be called by a thread before it asks for anything."""
        self._now[threading.get_ident()] = None

    @property
    def is_mine(self) -> bool:
        return self.owns(threading.get_ident())

    def owns(self, thread: int | None) -> bool:
        return thread in self._now

    @contextmanager
    def seen(self, session: Any, look: Callable[[Any], None] = lambda response: None) -> Iterator[None]:
        """Inside, the session tells of the calls of these threads; `look` is called with each answer."""

        def asks(request: Any) -> None:
            if self.is_mine:
                if self._over:
                    raise Cancelled
                self.mine()
                request.extensions["trace"] = self._connected
                request.headers["Connection"] = "close"  # a connection is known where it is opened only

        def answers(response: Any) -> None:
            if self.is_mine:
                self._now[threading.get_ident()] = response
                look(response)

        hooks = session.event_hooks
        hooks["request"] = [*hooks["request"], asks]
        hooks["response"] = [*hooks["response"], answers]
        try:
            yield
        finally:
            hooks["request"] = [hook for hook in hooks["request"] if hook is not asks]
            hooks["response"] = [hook for hook in hooks["response"] if hook is not answers]

    def hang_up(self) -> None:
        """Whoever of them waits for a word of the other side hears that it hung up; none may ask again."""
        self._over = True
        for held in list(self._now.values()):
            answered = hasattr(held, "is_closed")
            if held is None or (answered and held.is_closed):  # its connection may serve another by now
                continue
            _shut(held.extensions.get("network_stream") if answered else held)

    def _connected(self, event: str, facts: Mapping[str, Any]) -> None:
        stream = facts.get("return_value")
        if event.endswith(".complete") and hasattr(stream, "get_extra_info"):
            self._now[threading.get_ident()] = stream
            if self._over:
                _shut(stream)


def _shut(stream: Any) -> None:
    with suppress(OSError, AttributeError, TypeError):  # closed already, or no connection of this kind
        socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)
