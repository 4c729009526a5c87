"""Calls of a library that may never come back: each in a thread that is left behind once nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from edge_router.telemetry import load_huggingface_hub

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


def hang_up() -> None:
    """Closes huggingface_hub's connections, so that whoever still waits for one ends; it makes new ones."""
    load_huggingface_hub("utils").close_session()
