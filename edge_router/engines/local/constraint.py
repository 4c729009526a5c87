"""Answers held to a JSON schema, by llguidance where it is installed (the extra `grammar`)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_router.errors import UnsupportedRequest
from edge_router.types import Vocabulary

_PACKAGE, _FIELD = "llguidance", "response_format"


def installed() -> bool:
    return find_spec(_PACKAGE) is not None


class Grammars:
    """Makes masks for one model. Safe to use from many threads."""

    def __init__(self) -> None:
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    def json(self, schema: object, vocabulary: Vocabulary) -> JsonMask:
        """Raises `UnsupportedRequest` for a schema that can't be followed, or without llguidance."""
        if not installed():
            raise UnsupportedRequest(_FIELD, "needs llguidance: pip install 'edge-router[grammar]'")
        from llguidance import LLMatcher

        # Without limits to white space a small model may write nothing else.
        dense: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        with _refusing("the schema"):
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=dense)
        with self._lock, _refusing("the model's tokenizer"):
            if self._tokenizer is None:
                self._tokenizer = _tokenizer(vocabulary)  # takes 0.3 s
            tokenizer = self._tokenizer
        with _refusing("the schema"):
            matcher = LLMatcher(tokenizer, grammar)
        if matcher.is_error():
            raise UnsupportedRequest(_FIELD, f"cannot be followed by the weak model: {matcher.get_error()}")
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


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """What llguidance raises about it is a limit of its own."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise UnsupportedRequest(_FIELD, f"llguidance cannot take {what}: {error}") from error


def _tokenizer(vocabulary: Vocabulary) -> Any:
    from llguidance import LLTokenizer

    text = vocabulary.tokenizer.read_text(encoding="utf-8")
    ends = sorted(token for token in vocabulary.end_tokens if token < vocabulary.size)
    return LLTokenizer(text, n_vocab=vocabulary.size, eos_token=ends)
