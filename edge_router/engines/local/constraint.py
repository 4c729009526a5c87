"""Answers held to a JSON schema, by llguidance where it is installed (the extra `grammar`)."""

from __future__ import annotations

import json
import threading
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.errors import InvalidRequest
from edge_router.types import Vocabulary

_PACKAGE = "llguidance"


def installed() -> bool:
    return find_spec(_PACKAGE) is not None


class Grammars:
    """Makes masks for one model. Safe to use from many threads."""

    def __init__(self) -> None:
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    def json(self, schema: object, vocabulary: Vocabulary) -> JsonMask:
        """Raises `InvalidRequest` for a schema that can't be followed, or without llguidance."""
        if not installed():
            raise InvalidRequest("response_format", "needs llguidance: pip install 'edge-router[grammar]'")
        from llguidance import LLMatcher

        # Without limits to white space a small model may write nothing else.
        dense: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=dense)
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = _tokenizer(vocabulary)  # takes 0.3 s
            tokenizer = self._tokenizer
        matcher = LLMatcher(tokenizer, grammar)
        if matcher.is_error():
            raise InvalidRequest("response_format", f"cannot be followed: {matcher.get_error()}")
        return JsonMask(matcher, vocabulary.size)


class JsonMask:
    """A `TokenMask`."""

    def __init__(self, matcher: Any, size: int) -> None:
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        self._matcher, self._size, self._fill = matcher, size, fill_next_token_bitmask
        self._bits = allocate_token_bitmask(1, size)

    def allowed(self) -> npt.NDArray[np.bool_]:
        self._fill(self._matcher, self._bits, 0)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._size]
        return bits.view(np.bool_)

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)


def _tokenizer(vocabulary: Vocabulary) -> Any:
    from llguidance import LLTokenizer

    text = vocabulary.tokenizer.read_text(encoding="utf-8")
    ends = sorted(token for token in vocabulary.end_tokens if token < vocabulary.size)
    return LLTokenizer(text, n_vocab=vocabulary.size, eos_token=ends)
