"""Answers of /v1/responses that may be asked for again: bounded, in memory, gone with the process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from edge_router.records import dataclass
from edge_router.surfaces.wire import dumps

Item = Mapping[str, object]
MOST_ENTRIES = 1000
MOST_BYTES = 64 * 1024 * 1024  # of JSON


@dataclass(slots=True, eq=False)
class Kept:
    """One answer: its body, the items that it was given, and the answer before it, whose items come first.

    `holders`: the store while the answer may be asked for, and each answer that goes on from it.
    """

    body: Item
    given: Sequence[Item]
    before: Kept | None
    size: int
    holders: int = 0

    @property
    def output(self) -> Sequence[Item]:
        items = self.body["output"]
        assert isinstance(items, Sequence)
        return items

    @property
    def history(self) -> list[Item]:
        """All items of the conversation up to here."""
        turns: list[Kept] = []
        turn: Kept | None = self
        while turn is not None:
            turns.append(turn)
            turn = turn.before
        return [item for turn in reversed(turns) for item in (*turn.given, *turn.output)]


class ResponseStore:
    """Answers by their ids. Those that nobody has asked for the longest go first. Safe from any thread."""

    def __init__(self, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES) -> None:
        self._most_entries, self._most_bytes = most_entries, most_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Kept] = OrderedDict()
        self._items: dict[str, Item] = {}  # what answers consist of, by their ids
        self._bytes = 0

    @property
    def bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, id: str, body: Item, given: Sequence[Item], before: Kept | None = None) -> None:
        """One that is larger than all of them may be together is not kept."""
        size = len(dumps(body)) + sum(len(dumps(item)) for item in given)
        if size > self._most_bytes:
            return
        with self._lock:
            self._entries[id] = kept = Kept(body, given, before, size)
            self._hold(kept)
            while len(self._entries) > self._most_entries or self._bytes > self._most_bytes:
                self._release(self._entries.popitem(last=False)[1])

    def get(self, id: str) -> Kept | None:
        with self._lock:
            kept = self._entries.get(id)
            if kept is not None:
                self._entries.move_to_end(id)
            return kept

    def item(self, id: str) -> Item | None:
        """An item of an answer that is here, or that one here goes on from."""
        with self._lock:
            return self._items.get(id)

    def remove(self, id: str) -> bool:
        """Whether it was here. What goes on from it keeps what it needs."""
        with self._lock:
            kept = self._entries.pop(id, None)
            if kept is not None:
                self._release(kept)
            return kept is not None

    def _hold(self, kept: Kept | None) -> None:
        """One more holder; the first one counts it, and holds what came before."""
        while kept is not None:
            kept.holders += 1
            if kept.holders > 1:
                return
            self._bytes += kept.size
            self._items |= {str(item["id"]): item for item in kept.output}
            kept = kept.before

    def _release(self, kept: Kept | None) -> None:
        while kept is not None:
            kept.holders -= 1
            if kept.holders:
                return
            self._bytes -= kept.size
            for item in kept.output:
                self._items.pop(str(item["id"]), None)
            kept = kept.before
