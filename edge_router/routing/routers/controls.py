"""The controls: what a router must beat to have learnt anything."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from edge_router.chat.message import Message
from edge_router.routing.routers.text import conversation_text

_SHORT, _LONG = 8, 8192  # characters


class LengthRouter:
    """The longer, the harder: log2 of the number of characters, 8 -> 0 and 8192 -> 1 and linear between.

    So 256 characters score 0.5, and twice as many 0.1 more.
    """

    name = "length"
    default_threshold = 0.5

    def score(self, messages: Sequence[Message]) -> float:
        return self._score(conversation_text(messages))

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> float:
        span = math.log2(_LONG / _SHORT)
        return min(max(math.log2(max(len(text), _SHORT) / _SHORT) / span, 0.0), 1.0)


class RandomRouter:
    """A number drawn from a hash of the text: evenly spread over 0..1, and always the same for one text."""

    name = "random"
    default_threshold = 0.5

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed.to_bytes(8, "little", signed=True)

    def score(self, messages: Sequence[Message]) -> float:
        return self._score(conversation_text(messages))

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> float:
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=6, key=self._seed).digest()
        return int.from_bytes(digest, "little") / 2**48
