"""What a request holds that must not leave, by the user's settings, and the request without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from edge_router.chat.request import ChatRequest
from edge_router.config.sections import GuardConfig
from edge_router.guard.detectors import KINDS, Detector, MachineIdentity, detectors
from edge_router.guard.screening import Screening, Vault
from edge_router.records import dataclass

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


NOTHING = Inspection()


class Guard:
    """Safe to use from any number of threads."""

    def __init__(self, settings: GuardConfig, machine: MachineIdentity | None = None) -> None:
        done = actions(settings)
        self._local = frozenset(kind for kind in KINDS if done[kind] == LOCAL)
        self._known = detectors(machine or MachineIdentity.here())
        self._plain = Screening([each for each in self._known if done[each.kind] != ALLOW])

    def screening(self, more: Sequence[Detector] = (), *, everything: bool = False) -> Screening:
        """What looks for the kinds of the settings, or for every kind, and for `more`."""
        if not more and not everything:
            return self._plain
        return Screening([*(self._known if everything else self._plain.detectors), *more])

    def inspect(self, request: ChatRequest, screening: Screening) -> Inspection:
        found = screening.found(request)
        if not found:
            return NOTHING
        stays = Counter({key: count for key, count in found.items() if key[0] in self._local})
        if not stays:
            # What cannot be hidden stays, too.
            stays = screening.found(screening.hidden(request)[0])
        return Inspection(_words(found, screening), _words(stays, screening))

    def masked(self, text: str) -> str:
        """`text` with placeholders for good, to be kept."""
        return self._plain.masked(text, Vault())

    def kept(self, request: ChatRequest) -> ChatRequest:
        """`request` with placeholders for good."""
        return self._plain.hidden(request)[0]


def _words(found: Counter[tuple[str, str]], screening: Screening) -> tuple[str, ...]:
    nouns = {each.kind: each.noun for each in screening.detectors}
    words = Counter[str]()
    for (kind, what), count in found.items():
        words[nouns[kind] + (f" ({what})" if what else "")] += count
    return tuple(word if count == 1 else f"{word}, {count} times" for word, count in words.items())
