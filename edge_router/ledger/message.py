"""What an error says, without what the user wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 300  # characters
_RUN = 12  # characters in a row that also stand in a prompt are taken from it
_SHORT = 4  # a whole text that is shorter proves nothing
_SECRETS = re.compile(r"\b(?:sk|pk|ghp|gho|hf|gsk|xai|AIza)[-_]?[\w-]{12,}|Bearer \S+|//[^/\s@]+@")


def message_of(error: Exception, texts: Sequence[str]) -> str:
    """Clipped, with dots for what stands in one of `texts` and for what looks like a key."""
    message = _SECRETS.sub("...", " ".join(str(error).split()))[:LONGEST]
    written = [text for text in (" ".join(text.lower().split()) for text in texts) if len(text) >= _SHORT]
    lowered = message.lower()
    if len(lowered) != len(message):  # some letters become two
        message = lowered = lowered[:LONGEST]
    hidden = [False] * len(message)
    for start in range(len(message)):
        length = _copied(lowered, start, written)
        hidden[start : start + length] = [True] * length
    shown = "".join("\0" if hides else letter for letter, hides in zip(message, hidden, strict=True))
    return re.sub("\0+", "...", shown)


def _copied(message: str, start: int, written: Sequence[str]) -> int:
    """How many characters from `start` on are a text's."""
    piece = message[start : start + _RUN]
    if len(piece) == _RUN and any(piece in text for text in written):
        return _RUN
    short = (text for text in written if len(text) < _RUN)
    return max((len(text) for text in short if message.startswith(text, start)), default=0)
