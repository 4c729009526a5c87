"""A vocabulary as llguidance takes it: a model's, and one of single bytes"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

from edge_router.prompts.tokenizer import TextTokenizer


class GrammarVocabulary:
    """A model's vocabulary as llguidance takes it. `known` is its tokenizer, once `prepare` has made it.

    Of the tokens that have no logits it knows nothing, whichever of the two are more.
    """

    known: Any

    def __init__(self, tokenizer: TextTokenizer, ends: Collection[int], size: int) -> None:
        self._tokenizer, self.size = tokenizer, size
        self.ends = frozenset(token for token in ends if token < size)
        self.bytes_of = tokenizer.token_bytes

    def prepare(self) -> None:
        """Takes its time. Raises `ValueError`."""
        from llguidance import LLTokenizer, TokenizerWrapper

        tokens = self._tokenizer.vocabulary(self.size)
        if not self.ends:
            tokens.append(b"")  # llguidance wants an end; no mask reaches so far
        source = _Source(tokens, min(self.ends, default=self.size), _weakly(self))
        wrapper = TokenizerWrapper(source)
        # Without llguidance's slices, which take twice the memory and make no mask of JSON faster.
        self.known = LLTokenizer(wrapper, eos_token=sorted(self.ends) or [self.size], slices=[])
        wrapper.tokens = source.tokens = ()  # it has a copy

    def cut(self, text: bytes) -> list[int] | None:
        """Tokens of `text`, which goes on an answer; None where there are none."""
        tokens = list(self.known.tokenize_bytes(text))
        return tokens if self._stand_for(tokens, text) else None

    def tokens(self, data: bytes) -> list[int]:
        """Of what llguidance knows must come."""
        text = data.decode("utf-8", "replace")
        tokens = self._tokenizer.continued(text)
        if self._stand_for(tokens, data) or not hasattr(self, "known"):
            return tokens
        return list(self.known.greedy_tokenize(text))

    def _stand_for(self, tokens: Sequence[int], data: bytes) -> bool:
        return max(tokens, default=0) < self.size and b"".join(map(self.bytes_of, tokens)) == data


class _Source:
    """What llguidance asks of a tokenizer that is not its own, which would take ten times the memory."""

    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(self, tokens: Sequence[bytes], end: int, tokenize: Callable[[bytes], list[int]]) -> None:
        self.tokens, self.eos_token_id, self._tokenize = tokens, end, tokenize

    def __call__(self, data: bytes) -> list[int]:
        return self._tokenize(data)


def _weakly(words: GrammarVocabulary) -> Callable[[bytes], list[int]]:
    """`words.tokens`; a circle through llguidance's objects would never be collected."""
    seen = weakref.ref(words)

    def tokens(data: bytes) -> list[int]:
        words = seen()
        return [] if words is None else words.tokens(data)

    return tokens


@cache
def byte_tokenizer() -> Any:
    """Of single bytes, and an end."""
    from llguidance import LLTokenizer, TokenizerWrapper

    source = _Source([*(bytes([byte]) for byte in range(256)), b""], 256, list)
    return LLTokenizer(TokenizerWrapper(source), eos_token=[256])
