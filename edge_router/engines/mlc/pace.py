"""How fast a process has answered, and from when on its silence can only mean that it will not go on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LEAST_S = 60.0  # of silence that is no wonder, whatever the speed was
_FIRST_S = 120.0  # ... and while no prompt was read yet, and kernels are still being loaded
_TIMES = 10  # as long as what took longest
_KEPT = 16  # times, of each kind
_UNKNOWN_S = 2.0  # then for each token of a prompt
_WARM_UP = 64  # tokens that could have been read while the first kernels were loaded
_LONGEST_LOOK_S = 5.0  # what took longer was no silence, but this machine asleep


class Stalled(Exception):
    """No word for `silent_s` seconds, where `likely_s` were to be expected."""

    def __init__(self, silent_s: float, likely_s: float) -> None:
        self.silent_s, self.likely_s = silent_s, likely_s
        super().__init__(f"no token for {silent_s:.0f} s, where {likely_s:.1g} s were likely")


class Pace:
    """Of one process, by the words that are heard from it, whomever they are for. Safe from several threads.

    No time passes while nobody waits. A prompt may take as long as the slowest before it, token for token.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._turns: list[PacedAnswer] = []
        self._heard, self._looked, self._silent_s = 0, 0.0, 0.0
        self._steps: deque[float] = deque(maxlen=_KEPT)  # seconds between tokens
        self._reading: deque[float] = deque(maxlen=_KEPT)  # seconds for each token of a prompt

    @contextmanager
    def turn(self, prompt_tokens: int, new_tokens: int | None = None) -> Iterator[PacedAnswer]:
        """An answer is waited for.

        Of the prompt's tokens `new_tokens` were not read before, as far as is known: the others may be kept,
        and then say nothing of how fast a prompt is read.
        """
        turn = PacedAnswer(self, prompt_tokens, prompt_tokens if new_tokens is None else new_tokens)
        with self._lock:
            if not self._turns:
                self._looked, self._silent_s = self._clock(), 0.0
            self._turns.append(turn)
        try:
            yield turn
        finally:
            with self._lock:
                self._turns.remove(turn)

    def look(self, heard: int, begun: PacedAnswer | None = None) -> None:
        """`heard` counts the process's words so far, the last of which began `begun`. Raises `Stalled`."""
        with self._lock:
            now = self._clock()
            self._silent_s += min(now - self._looked, _LONGEST_LOOK_S)
            self._looked = now
            unread = sum(turn.unread for turn in self._turns)
            if heard != self._heard:
                if heard < self._heard:  # from another process, which has to warm up again
                    self._reading.clear()
                    self._steps.clear()
                elif begun is not None:
                    self._reading.append(self._silent_s / (begun.new + _WARM_UP))
                elif not unread:  # else it may have waited for another's prompt, or that for it
                    self._steps.append(self._silent_s)
                self._heard, self._silent_s = heard, 0.0
                return
            if not self._reading:
                likely = unread * _UNKNOWN_S
                longest = _FIRST_S + likely
            else:
                likely = unread * max(self._reading) + max(self._steps, default=0.0)
                longest = max(LEAST_S, _TIMES * likely)
            if self._silent_s > longest:
                raise Stalled(self._silent_s, likely)


class PacedAnswer:
    """One answer's. `unread` tokens of its prompt have to be read before it begins; `new` of them surely."""

    def __init__(self, pace: Pace, unread: int, new: int) -> None:
        self._pace, self.unread, self.new = pace, unread, new

    def look(self, heard: int) -> None:
        """Nothing has come. Raises `Stalled`."""
        self._pace.look(heard)

    def came(self, heard: int) -> None:
        """Something has."""
        self._pace.look(heard, self if self.unread else None)
        self.unread = 0
