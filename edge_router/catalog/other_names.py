"""Cards by the names that other programs give these models: `qwen3:4b`, `llama3.2:3b-instruct-q4_K_M`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NOISE = re.compile(r"(?<![a-z])(?:instruct|it|chat|latest)(?![a-z])")
_FOUR_BITS = re.compile(r"[-:]q4[a-z0-9_]*$")  # what a card is by itself; another format is another file


def card_called(name: str, cards: Iterable[str]) -> str | None:
    """The one of `cards` (names) that `name` means in another program; None where none is, or several are."""
    wanted = _plain(_FOUR_BITS.sub("", name.casefold()))
    found = [card for card in cards if wanted and _plain(card.casefold()) == wanted]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _NOISE.sub(" ", name))
