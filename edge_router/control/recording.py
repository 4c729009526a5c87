"""What is written down of each answer: in the metrics, and as a row of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from edge_router.chat.events import Usage
from edge_router.chat.request import ChatRequest
from edge_router.config import LedgerConfig
from edge_router.control.answer import Answer, Clock
from edge_router.defects import Defects
from edge_router.errors import EdgeRouterError
from edge_router.ledger import Ledger, Record, message_of
from edge_router.metrics import Metrics
from edge_router.paths import Paths
from edge_router.types import Decision


class Recorder:
    """Safe to use from several threads. An answer is never lost for what writes it down."""

    def __init__(
        self,
        settings: LedgerConfig,
        paths: Paths,
        metrics: Metrics,
        defects: Defects,
        masked: Callable[[str], str],
    ) -> None:
        """`masked`: a text as it may be kept."""
        self._metrics, self._defects, self._masked = metrics, defects, masked
        self._stores_prompts, self._closed = settings.store_prompts, False
        self.ledger = Ledger(paths.ledger, store_prompts=settings.store_prompts) if settings.enabled else None

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

    def finished(self, answer: Answer, error: EdgeRouterError | None) -> int | None:
        """An answer has ended, with `error` where it ended badly: the id of its row, where there is one."""
        return self.record(
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

    def rate(self, number: int, rating: Literal[1, -1]) -> Record | None:
        """None where there is no such row. Raises `StorageError`, `InvalidData`."""
        return None if self.ledger is None else self.ledger.rate(number, rating)

    def close(self) -> None:
        """An answer that ends after this is written down all the same."""
        self._closed = True
        if self.ledger is not None:
            self.ledger.close()

    def record(self, record: Record) -> int | None:
        """The id of its row, where there is one."""
        number: int | None = None
        with self._defects.spare("metrics"):
            self._metrics.record(record)
        if self.ledger is not None:
            with self._defects.spare("ledger"):
                if record.prompt is not None and self._stores_prompts:
                    record = replace(record, prompt=self._masked(record.prompt))
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
