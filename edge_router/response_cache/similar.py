"""Which questions are nearly the same: by their words first, then by how near their vectors are.

A router's vector says what a question is about, and little of which one it is: with `mf`, "What is the
capital of Spain?" is nearer to that of France (0.983) than "What's the capital of France?" is (0.974), and a
question with two words exchanged (0.988 at the median of 70) nearer than the same one with "Can you tell me"
before it (0.920). So two are compared only where they are made of the same words and signs in the same order,
but for what is wrapped around them: greetings, politeness, "can you tell me", marks behind words, "the", and
small letters where capitals mean nothing. Nothing within is left out: "What is vitamin A?" is as near to
"What is a vitamin?" (0.972), and "Can dogs eat it?" to "Do dogs eat it?" (0.964).
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
# A factorial is no exclamation; what stands behind a word and before a space tells nothing.
_WORD = re.compile(
    r"\d+(?:[.,:]\d+)*!?"
    r"|[^\W\d_]+(?:'[^\W\d_]+)*"
    r"|(?P<silent>[.,!?;:\u2026](?=[.,!?;:\u2026\"]{0,9}(?:\s|\Z)))"
    r"|[^\w\s]|_"
)
_WANTED = (
    "tell|explain|write|translate|give|show|list|describe|summari[sz]e|help|make|create|name|find|convert"
)
_BEFORE = re.compile(
    r"(?i)\A\s*(?:"
    r"(?:hello|hi|hey)(?: there)?\s*[,!.:]"
    r"|(?:please|pls|kindly|just)\b[,:]?(?=\s)"
    rf"|(?:can|could|would|will) you(?: please| kindly| just)?(?= (?:{_WANTED})\b)"
    r"|tell me(?::|(?= (?:the|what|which|who|whose|where|when|why|how|if|whether)\b))"
    r"|what(?: is| are)(?= the\b)"  # which "tell me" may stand for, but not before "a joke"
    r")\s*"
)
_BEHIND = re.compile(
    r"(?i)(?:\s(?:please|pls|thanks)"
    r"|[,.!?]\s*(?:please|pls|thanks(?: a lot)?|thank you(?: very much)?))[\s.!?]*\Z"
)
_MOST_WRAPPINGS = 4  # one in another
_SHORTENED = re.compile(r"(?i)\b(what|who|where)'?s\b")
_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb", '\'\'"""""')
_LONGEST_SIGN = 4  # letters of what means something else in capitals: US, mW and MW
# Where nothing else is said, nobody knows what it is about.
_EMPTY = frozenset(
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
        *("what", "which", "please", "pls", "kindly", "thanks", "thank", "hi", "hello", "hey", "me", "you"),
        *("can", "could", "would", "will", "tell", "do", "does", "of", "just"),
    }
)


def telling_words(text: str) -> list[str]:
    """All that must be the same in another question, in its order: words, numbers and signs."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES)
    text = _SHORTENED.sub(r"\1 is", text)
    for _ in range(_MOST_WRAPPINGS):
        text = _BEHIND.sub("", _BEFORE.sub("", text)) or text
    found = (match for match in _WORD.finditer(text) if match["silent"] is None)
    return [word for word in map(_written, (match[0] for match in found)) if word != "the"]


def _written(word: str) -> str:
    """In small letters, if it means the same in those."""
    if word[1:].islower() or len(word) > _LONGEST_SIGN or word == "I":
        return word.lower()
    return word


def tells(text: str) -> bool:
    """Whether it says what it is about."""
    return any(word[0].isalnum() and word.lower() not in _EMPTY for word in telling_words(text))


def question_of(request: ChatRequest) -> str | None:
    """What was said last, if it is plain words that tell something; None where it may not be compared."""
    last = request.messages[-1]
    plain = all(type(part) is Text and not part.extra for part in last.parts)
    if last.role != "user" or not plain or request.raw_prompt is not None or request.suffix is not None:
        return None
    # How lines begin means something in code.
    short = len(last.text) <= LONGEST and "\n" not in last.text.strip()
    return last.text if short and tells(last.text) else None


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
