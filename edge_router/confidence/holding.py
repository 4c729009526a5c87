"""Holding an answer's beginning back until it is known whether the weak model is sure of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from edge_router.chat.request import ChatRequest
from edge_router.confidence.gate import Gate
from edge_router.errors import LowConfidence
from edge_router.types import Delta


class Holding:
    """One answer's. `chance` is what was found, once the first delta is out."""

    def __init__(self, gate: Gate, bound: float, request: ChatRequest) -> None:
        self._gate, self._bound = gate, bound
        self._alone = not request.logprobs
        signals = gate.signals(alone=self._alone)
        self.request = replace(request, logprobs=request.logprobs or signals.tokens > 0, signals=signals)
        self.chance: float | None = None

    def sure(self, deltas: Iterator[Delta]) -> Iterator[Delta]:
        """`deltas` as the reader asked for them. Raises `LowConfidence` instead of the first one.

        An engine that shows neither its state nor log probabilities is believed.
        """
        held: list[Delta] = []
        state: tuple[float, ...] = ()
        logprobs: list[float] = []
        try:
            for delta in deltas:
                state = state or delta.state
                logprobs += [entry.logprob for entry in delta.logprobs]
                held.append(delta)
                unseen = bool(delta.text) and not logprobs
                if unseen or len(logprobs) >= self._gate.tokens or delta.finish_reason is not None:
                    break
            self.chance = self._gate.chance(state, logprobs)
            if self.chance is not None and self.chance < self._bound:
                raise LowConfidence(self.chance, self._bound, len(logprobs))
            for delta in held:
                yield from self._shown(delta)
            for delta in deltas:
                yield from self._shown(delta)
        finally:
            if isinstance(deltas, Generator):
                deltas.close()

    def _shown(self, delta: Delta) -> Iterator[Delta]:
        if delta.state or (self._alone and delta.logprobs):
            delta = replace(delta, state=(), logprobs=() if self._alone else delta.logprobs)
        if delta != Delta():
            yield delta
