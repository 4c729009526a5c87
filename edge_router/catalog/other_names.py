"""Cards by the names that other programs give these models: `qwen3:4b`, `llama3.2:3b-instruct-q4_K_M`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NOISE = re.compile(r"(?<![a-z])(?:instruct|it|chat|latest)(?![a-z])")
_FOUR_BITS = re.compile(r"[-:]q4[a-z0-9_]*$")  # what a card is by itself; another format is another file


def card_called(name: str, cards: Iterable[str]) -> str | None:
    """The one of `cards` (names) that `name` means in another program; None where none is, or several are.

    Only a name with a tag leaves out that its model was taught to chat: the bare one is another model's.
    """
    tagged = ":" in name
    wanted = _plain(_FOUR_BITS.sub("", name.casefold()), tagged)
    found = [card for card in cards if wanted and _plain(card.casefold(), tagged) == wanted]
    return found[0] if len(found) == 1 else None


def _plain(name: str, tagged: bool) -> str:
    return re.sub(r"[^a-z0-9]", "", _NOISE.sub(" ", name) if tagged else name)
