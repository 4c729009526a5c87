"""Which questions are nearly the same: by their words first, then by how near their vectors are.

A router's vector says what a question is about, and little of which one it is: with `mf`, "What is the
capital of Spain?" is nearer to that of France (0.983) than "What's the capital of France?" is (0.974), and a
question with two words exchanged (0.988 at the median of 70) nearer than the same one with "Can you tell me"
before it (0.920). So two are compared only where they are made of the same telling words in the same order:
names, numbers, signs, negations, all but some forty that hold English sentences together, begin them, or are
only polite. What these change is left to the vector.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_router.chat.message import Message, Text
from edge_router.chat.request import ChatRequest
from edge_router.response_cache.store import Entry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LONGEST = 2_000  # characters of a question; of a longer one the vector tells too little
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['\u2019][^\W\d_]+)*|[^\w\s]")
_SILENT = frozenset(".,!?;:'\"\u2018\u2019\u201c\u201d\u2026()`")
# Nothing that may turn a meaning round: no negation, no preposition, no person, place, time, reason or way.
_HOLDING_TOGETHER = frozenset(
    {
        *(
            "a",
            "an",
            "the",
            "is",
            "are",
            "am",
            "be",
            "it",
            "it's",
            "this",
            "that",
            "that's",
            "there",
            "there's",
        ),
        *("there's", "what", "what's", "whats", "which", "please", "pls", "kindly", "thanks", "thank", "hi"),
        *("hello", "hey", "me", "you", "can", "could", "would", "will", "tell", "do", "does", "of", "just"),
    }
)


def telling_words(text: str) -> list[str]:
    """All that must be the same in another question, in its order."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'"))
    return [word for word in found if word not in _SILENT and word not in _HOLDING_TOGETHER]


def question_of(request: ChatRequest) -> str | None:
    """What was said last, if it is plain words that tell something; None where it may not be compared."""
    last = request.messages[-1]
    plain = all(type(part) is Text and not part.extra for part in last.parts)
    if last.role != "user" or not plain or request.raw_prompt is not None or request.suffix is not None:
        return None
    return last.text if len(last.text) <= LONGEST and telling_words(last.text) else None


def remainder(request: ChatRequest, text: str) -> ChatRequest:
    """What has to be the very same: all but the words that hold the last question together."""
    last = request.messages[-1]
    words = Message(last.role, "\0".join(telling_words(text)), last.name, last.extra)
    return replace(request, messages=(*request.messages[:-1], words))


def packed(vector: npt.NDArray[np.floating]) -> bytes:
    """As it is kept: float16, of length 1."""
    import numpy as np

    flat = np.asarray(vector, np.float32).ravel()
    return (flat / max(float(np.linalg.norm(flat)), 1e-12)).astype("<f2").tobytes()


def nearest(vector: bytes, entries: Sequence[Entry]) -> tuple[Entry, float] | None:
    """Of `entries` the one whose vector is nearest, and the cosine; None where none has one like it."""
    import numpy as np

    same = [each for each in entries if each.vector is not None and len(each.vector) == len(vector)]
    if not same:
        return None
    kept = np.frombuffer(b"".join(each.vector or b"" for each in same), "<f2").reshape(len(same), -1)
    cosines = kept.astype(np.float32) @ np.frombuffer(vector, "<f2").astype(np.float32)
    best = int(np.argmax(cosines))
    return same[best], min(float(cosines[best]), 1.0)
