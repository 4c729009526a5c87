"""Work in steps: between them it says what the next one takes, so that no thread is kept that only waits."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from edge_router.engines.base import Arriving
from edge_router.records import dataclass

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """What the next step takes: first that `source` is here or over, if there is one, then a thread.

    `light`: no thread, for it neither waits nor writes anything down, as long as its source is `here`.
    Without a source, what is not light may take long.
    """

    source: Arriving[Any] | None = None
    light: bool = False


LONG = Pause()
LIGHT = Pause(light=True)


def before_next(source: Arriving[Any]) -> Pause:
    """Between two events of an answer that arrives."""
    return LIGHT if source.here else Pause(source, light=True)


def done(steps: Generator[Pause, None, T]) -> T:
    """What they come to, for who may wait."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
