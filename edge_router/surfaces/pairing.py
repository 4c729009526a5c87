"""Calls of tools and their results in one conversation: each result is that of a call before it."""

from __future__ import annotations

from dataclasses import field

from edge_router.errors import InvalidRequest
from edge_router.parsing import strict_json
from edge_router.parsing.fields import shown
from edge_router.records import dataclass


@dataclass(slots=True)
class Pairing:
    """Hears of calls and results as they stand there.

    A call whose arguments are no JSON, as a model that was cut short leaves them, is taken once a result
    tells the model so: agents go on that way.
    """

    _names: dict[str, str] = field(default_factory=dict)  # of the tools, by the calls' ids
    _waiting: dict[str, str] = field(default_factory=dict)  # the same for those without a result
    _made_up: set[str] = field(default_factory=set)  # ids that their calls came without
    _broken: dict[str, str] = field(default_factory=dict)  # and where arguments stand that are no JSON

    def call(
        self, id: str, name: str, arguments: str = "", where: str = "", *, made_up: bool = False
    ) -> None:
        """`where`: the field in which the arguments stand; of what may be any text nothing is told.

        `made_up`: the call came without an id.
        """
        self._names[id] = self._waiting[id] = name
        if made_up:
            self._made_up.add(id)
        if not _is_json(arguments):
            self._broken[id] = where

    def knows(self, id: str) -> bool:
        return id in self._names

    def waits(self, id: str) -> bool:
        return id in self._waiting

    def result(self, id: str, where: str, *, name: str | None = None, of: str = "") -> tuple[str, str]:
        """Id and tool of the call that it answers: the one of that id, which stands in `where`, or the first
        that waits, of the tool `name` if there is one. `of` is where the result stands.

        Raises `InvalidRequest`.
        """
        waiting = (one for one, tool in self._waiting.items() if name in (None, "", tool))
        if id and id not in self._names:
            id = next((one for one in waiting if one in self._made_up), id)
        if id and id not in self._names:
            raise InvalidRequest(where, f"answers the call {shown(id)!r}, which no message before it makes")
        found = id or next(waiting, "")
        if not found:
            tool = f" of {shown(name)!r}" if name else ""
            raise InvalidRequest(of, f"is the result of a call, and no call{tool} before it waits for one")
        self._waiting.pop(found, None)
        self._broken.pop(found, None)
        return found, self._names[found]

    def end(self) -> None:
        """Raises `InvalidRequest`."""
        for where in self._broken.values():
            raise InvalidRequest(where, "is not JSON, and no result of the call tells the model so")


def _is_json(text: str) -> bool:
    """Nothing at all is what some endpoints write for no arguments."""
    try:
        if text.strip():
            strict_json.parse(text)
    except strict_json.NotJson:
        return False
    return True
