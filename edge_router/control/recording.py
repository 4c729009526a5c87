"""What is written down of each answer: in the metrics, and as a row of the ledger."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from edge_router.chat.events import Event, TextDelta, ToolCallStart, Usage
from edge_router.chat.request import ChatRequest
from edge_router.config.sections import LedgerConfig
from edge_router.control.answer import Answer, Clock
from edge_router.control.egress import Egress
from edge_router.defects import Defects
from edge_router.engines.remote.kept_question import written
from edge_router.errors import EdgeRouterError, InvalidData, StorageError
from edge_router.ledger import Ledger, Record, message_of
from edge_router.metrics.counters import Metrics
from edge_router.records import changed
from edge_router.system.paths import Paths
from edge_router.types import Decision

_logger = logging.getLogger(__name__)


class AnswerTranscript:
    """What an answer says, while it is read."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._called = False

    def through(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, TextDelta):
                self._pieces.append(event.text)
            elif isinstance(event, ToolCallStart):
                self._called = True
            yield event

    @property
    def text(self) -> str | None:
        """None where there is nothing that could be bettered: a call of a tool has been acted upon."""
        return None if self._called else "".join(self._pieces).strip() or None


class Recorder:
    """Safe to use from several threads. An answer is never lost for what writes it down."""

    def __init__(
        self,
        settings: LedgerConfig,
        paths: Paths,
        metrics: Metrics,
        defects: Defects,
        egress: Egress,
    ) -> None:
        self._metrics, self._defects, self._egress = metrics, defects, egress
        self._keeps_questions = settings.store_prompts and settings.upgrade != "off"
        self._stores_prompts, self._closed = settings.enabled and settings.store_prompts, False
        self.ledger = Ledger(paths.ledger, store_prompts=settings.store_prompts) if settings.enabled else None
        self._watchers: tuple[Callable[[Record], None], ...] = ()
        self._watching = threading.Lock()

    def watch(self, told: Callable[[Record], None]) -> Callable[[], None]:
        """`told` is called with each record from now on, in the thread that answers, until what comes back is
        called; it must not wait. The record holds its prompt only where the ledger keeps it, as it does.
        """
        with self._watching:
            self._watchers += (told,)

        def stop() -> None:
            with self._watching:
                self._watchers = tuple(each for each in self._watchers if each is not told)

        return stop

    def failed(
        self,
        request: ChatRequest,
        decision: Decision,
        error: EdgeRouterError,
        clock: Clock,
        *,
        cause: EdgeRouterError | None = None,
        spent: Usage | None = None,
    ) -> None:
        """No model could begin to answer."""
        self.record(
            Record(
                decision,
                "",
                None,
                clock.timings(),
                _name(error),
                _name(cause),
                request.messages[-1].text,
                spent=spent,
                cause_message=_message(cause, request),
            )
        )

    def listening(self, decision: Decision) -> AnswerTranscript | None:
        """What hears an answer that the strong model may better later; None for all others."""
        return AnswerTranscript() if decision.would_escalate and self._keeps_questions else None

    def finished(
        self, answer: Answer, error: EdgeRouterError | None, heard: AnswerTranscript | None = None
    ) -> int | None:
        """An answer has ended, with `error` where it ended badly: the id of its row, where there is one."""
        number = self.record(
            Record(
                answer.decision,
                answer.model,
                answer.usage,
                answer.timings,
                _name(error),
                _name(answer.fallback_cause),
                answer.request.messages[-1].text,
                spent=answer.spent,
                cause_message=_message(answer.fallback_cause, answer.request),
            )
        )
        if number is not None and error is None and heard is not None:
            with self._defects.spare("ledger"):
                self._keep(number, answer.request, heard)
        return number

    def _keep(self, number: int, request: ChatRequest, heard: AnswerTranscript) -> None:
        question = written(self._egress.kept(request))
        if self.ledger is not None and question is not None and heard.text is not None:
            try:
                self.ledger.upgrades.keep(number, question, self._egress.masked(heard.text))
            except (StorageError, InvalidData) as problem:
                _logger.warning("an answer is not kept to be bettered: %s", problem)
            if self._closed:
                self.ledger.close()

    def rate(self, number: int, rating: Literal[1, -1]) -> Record | None:
        """None where there is no such row. Raises `StorageError`, `InvalidData`."""
        return None if self.ledger is None else self.ledger.rate(number, rating)

    def close(self) -> None:
        """An answer that ends after this is written down all the same."""
        self._closed = True
        if self.ledger is not None:
            self.ledger.close()

    def record(self, record: Record) -> int | None:
        """The id of its row, where there is one. Nobody is shown a prompt that is not kept."""
        number: int | None = None
        prompt, record = record.prompt, changed(record, prompt=None)
        if prompt is not None and self._stores_prompts:
            with self._defects.spare("ledger"):
                record = replace(record, prompt=self._egress.masked(prompt))
        with self._defects.spare("metrics"):
            self._metrics.record(record)
        for told in self._watchers:
            with self._defects.spare("watcher"):
                told(record)
        if self.ledger is not None:
            with self._defects.spare("ledger"):
                number = self.ledger.record(record)
                if self._closed:  # which has opened it again
                    self.ledger.close()
        return number


def _name(error: EdgeRouterError | None) -> str | None:
    return type(error).__name__ if error is not None else None


def _message(error: EdgeRouterError | None, request: ChatRequest) -> str | None:
    if error is None:
        return None
    return message_of(error, [message.text for message in request.messages])
