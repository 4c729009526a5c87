"""From text to the token ids that a router's encoder reads; the same for training and running."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_router.errors import InvalidRouter
from edge_router.records import dataclass
from edge_router.routing.routers import text as texts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CHARACTERS_PER_TOKEN = 8  # more than English or code has: what is sliced off would hardly have fitted


@dataclass(frozen=True, slots=True)
class Cut:
    """How a text that is too long is cut: its head and its tail, where a question says what it wants.

    Tokens are counted with the first ([CLS]) and the last ([SEP]). `without_options`: answer options to
    choose from are left out.
    """

    max_tokens: int
    tail_tokens: int = 0
    without_options: bool = False


def open_tokenizer(file: Traversable | Path) -> Tokenizer:
    """A tokenizer.json, read. Raises `InvalidRouter`."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRouter(str(file), f"cannot be read: {error.strerror}") from error
    except Exception as error:  # tokenizers raises Exception itself
        raise InvalidRouter(str(file), f"not a tokenizer.json: {error}") from error


class TextTokens:
    """A tokenizer with our own truncation: a page of 100,000 characters costs hardly more than a sentence."""

    def __init__(self, tokenizer: Tokenizer, cut: Cut) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self._cut = tokenizer, cut

    def ids(self, text: str) -> list[int]:
        """At most `cut.max_tokens` ids."""
        cut = self._cut
        shown = texts.shorten(text, texts.LONGEST)
        shown = texts.squeeze(texts.stem(shown) if cut.without_options else shown)
        head, tail = cut.max_tokens - cut.tail_tokens, cut.tail_tokens
        if len(shown) > cut.max_tokens * _CHARACTERS_PER_TOKEN:
            start = shown[: head * _CHARACTERS_PER_TOKEN]
            shown = f"{start} {shown[len(shown) - tail * _CHARACTERS_PER_TOKEN :]}" if tail else start
        # Half of a surrogate pair, which a JSON body may hold, is no text to the tokenizer.
        ids: list[int] = self._tokenizer.encode(shown.encode("utf-8", "replace").decode("utf-8")).ids
        if len(ids) <= cut.max_tokens:
            return ids
        return (
            [*ids[: cut.max_tokens - tail], *ids[len(ids) - tail :]] if tail else [*ids[: head - 1], ids[-1]]
        )
