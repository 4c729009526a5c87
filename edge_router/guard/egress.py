"""What may leave this machine: one question, asked before a decision and once more where a request leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from edge_router.chat.request import ChatRequest
from edge_router.config import GuardConfig
from edge_router.errors import Withheld
from edge_router.guard.detectors import KINDS, NOUNS, Machine, detectors
from edge_router.guard.screening import Screening, Vault

ALLOW, REDACT, LOCAL = "allow", "redact", "local"
_STANDARD = {"secrets": LOCAL, "cards": LOCAL, "ibans": LOCAL}
LEVELS: Mapping[str, Mapping[str, str]] = {
    "off": {},
    "standard": _STANDARD,
    "strict": {**_STANDARD, **dict.fromkeys(("emails", "phones", "paths", "hosts"), REDACT)},
}


def actions(settings: GuardConfig) -> Mapping[str, str]:
    """What is done about each kind: its own setting, else the level's."""
    level = LEVELS[settings.level]
    return {kind: getattr(settings, kind) or level.get(kind, ALLOW) for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a request. `found` says it in words, without the thing itself: "a key or password
    (GitHub)". `stays`: because of those, or some of them, it must not leave."""

    found: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    hides: bool = False


class Guard:
    """Safe to use from any number of threads."""

    def __init__(self, settings: GuardConfig, machine: Machine | None = None) -> None:
        done = actions(settings)
        looked_for = [kind for kind in KINDS if done[kind] != ALLOW]
        here = machine or (Machine.here() if looked_for else Machine("", ()))
        self._local = frozenset(kind for kind in looked_for if done[kind] == LOCAL)
        self._screening = Screening([each for each in detectors(here) if each.kind in looked_for])

    def inspect(self, request: ChatRequest) -> Inspection:
        found = self._screening.found(request)
        if not found:
            return _CLEAN
        stays = Counter({key: count for key, count in found.items() if key[0] in self._local})
        if not stays:
            # What cannot be hidden stays, too.
            stays = self._screening.found(self._screening.hidden(request)[0])
        return Inspection(_words(found), _words(stays), hides=not stays)

    def released(self, request: ChatRequest) -> tuple[ChatRequest, Vault]:
        """`request` as it may leave, and what was taken out of it. Raises `Withheld` where it must not."""
        inspection = self.inspect(request)
        if inspection.stays:
            raise Withheld(inspection.stays)
        return self._screening.hidden(request) if inspection.hides else (request, Vault())

    def masked(self, text: str) -> str:
        """`text` with placeholders for good, to be kept."""
        return self._screening.masked(text, Vault())


_CLEAN = Inspection()


def _words(found: Counter[tuple[str, str]]) -> tuple[str, ...]:
    words = Counter[str]()
    for (kind, what), count in found.items():
        words[NOUNS[kind] + (f" ({what})" if what else "")] += count
    return tuple(word if count == 1 else f"{word}, {count} times" for word, count in words.items())
