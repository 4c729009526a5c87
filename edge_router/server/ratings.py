"""Thumbs up or down for an answer, by the id in its body: what a router can later be adapted to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

from edge_router.api.client import Controller
from edge_router.errors import InvalidRequest
from edge_router.records import dataclass

KEPT = 1000  # answers that can still be rated
THUMBS: Mapping[object, Literal[1, -1]] = {"up": 1, "down": -1}


@dataclass(frozen=True, slots=True)
class Thumb:
    id: str
    rating: str


def parse_thumb(body: Mapping[str, object]) -> Thumb:
    """Raises `InvalidRequest`."""
    number, rating = body.get("id"), body.get("rating")
    if not isinstance(number, str) or not number:
        raise InvalidRequest("id", "must be the id of an answer")
    if not isinstance(rating, str) or rating not in THUMBS:
        raise InvalidRequest("rating", "must be up or down")
    return Thumb(number, rating)


class Ratings:
    """The last answers' ids and their rows in the ledger; ids are forgotten with the server.

    Safe to use from several threads.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller, self._lock = controller, threading.Lock()
        self._rows: OrderedDict[str, int] = OrderedDict()

    def ended(self, completion: str, row: int | None) -> None:
        """An answer has ended; `row` is None where it was not recorded."""
        if row is None:
            return
        with self._lock:
            self._rows[_bare(completion)] = row
            if len(self._rows) > KEPT:
                self._rows.popitem(last=False)

    def rate(self, thumb: Thumb) -> dict[str, object]:
        """The reply's body. Raises `InvalidRequest` for an answer that is not known here, `StorageError`."""
        row = self._rows.get(_bare(thumb.id))
        record = None if row is None else self._controller.rate(row, THUMBS[thumb.rating])
        if record is None:
            raise InvalidRequest(
                "id", f"no answer of that id is among the last {KEPT} that were recorded here"
            )
        return {
            "id": thumb.id,
            "object": "rating",
            "rating": thumb.rating,
            "model": record.model,
            "prompt_kept": record.prompt is not None,
        }


def _bare(completion: str) -> str:
    """Each protocol puts a word of its own before the same id."""
    return completion.replace("_", "-").rpartition("-")[2]
