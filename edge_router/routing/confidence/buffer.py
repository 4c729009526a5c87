"""Holding an answer's beginning back until it is known whether the weak model is sure of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from itertools import chain

from edge_router.chat.events import Event, HiddenState, ReasoningDelta, TextDelta
from edge_router.chat.request import ChatRequest
from edge_router.errors import LowConfidence
from edge_router.routing.confidence.gate import Gate


class ConfidenceBuffer:
    """One answer's. `chance` is what was found, once the first event is out."""

    def __init__(self, gate: Gate, bound: float, request: ChatRequest) -> None:
        self._gate, self._bound = gate, bound
        self._alone = not request.logprobs
        signals = gate.signals(alone=self._alone)
        self.request = replace(request, logprobs=request.logprobs or signals.tokens > 0, signals=signals)
        self.chance: float | None = None

    def sure(self, events: Iterator[Event]) -> Iterator[Event]:
        """`events` as the reader asked for them. Raises `LowConfidence` instead of the first one.

        An engine that shows neither its state nor log probabilities is believed.
        """
        held: list[Event] = []
        state: tuple[float, ...] = ()
        logprobs: list[float] = []
        try:
            for event in events:
                held.append(event)
                if isinstance(event, HiddenState):
                    state = state or event.values
                elif isinstance(event, TextDelta):
                    logprobs += [entry.logprob for entry in event.logprobs]
                    if (event.text and not logprobs) or len(logprobs) >= self._gate.tokens:
                        break
                elif not isinstance(event, ReasoningDelta):  # the end, or nothing that looks sure or unsure
                    break
            self.chance = self._gate.chance(state, logprobs)
            if self.chance is not None and self.chance < self._bound:
                raise LowConfidence(self.chance, self._bound, len(logprobs))
            for event in chain(held, events):
                shown = self._shown(event)
                if shown is not None:
                    yield shown
        finally:
            if isinstance(events, Generator):
                events.close()

    def _shown(self, event: Event) -> Event | None:
        if isinstance(event, HiddenState):
            return None
        if self._alone and isinstance(event, TextDelta) and event.logprobs:
            return TextDelta(event.text) if event.text else None
        return event
