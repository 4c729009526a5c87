"""Texts to vectors: what a router's encoder makes of a text before its head scores it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_router.catalog import RouterCard, encoder_card
from edge_router.errors import EdgeRouterError, InvalidRequest, InvalidRouter, UnknownModel
from edge_router.records import dataclass
from edge_router.routing.routers import graph_cards
from edge_router.routing.routers.graph import (
    IDS,
    MASK,
    check_tokens,
    describe,
    open_graph,
    outputs,
    session_options,
)
from edge_router.routing.routers.providers import CPU, named
from edge_router.routing.routers.tokens import open_tokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding

OUTPUT = "embedding"
WINDOWS = 64  # of one text: half a second, and as many tokens as most embedding models read
_CHARACTERS_PER_TOKEN = 8


@dataclass(frozen=True, slots=True)
class EmbeddedTexts:
    """`vectors`: float32 [texts, dimension], each of length 1. `tokens`: how many were read for them."""

    vectors: npt.NDArray[np.float32]
    tokens: int


class Embedder:
    """One encoder. May be used by several threads at once; a text's vector depends on no other text.

    It reads `window` tokens at once. A longer text is read window by window, and its vector is their mean,
    weighted by their tokens; what is behind `WINDOWS` of them is left out.

    Raises `InvalidRouter` for files that hold no encoder.
    """

    def __init__(self, card: RouterCard, *, threads: int = 1) -> None:
        where, cpu = str(card.directory / card.graph), named(CPU)
        self._session = open_graph(card.directory / card.graph, session_options(threads, cpu), cpu)
        check_tokens(self._session, where)
        if OUTPUT not in outputs(self._session):
            raise InvalidRouter(where, f"it has no output {OUTPUT!r}")
        cut = describe(self._session, where).cut
        self.name, self.window = card.name, cut.max_tokens if cut else card.max_tokens
        self._tokenizer: Any = open_tokenizer(card.directory / card.tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.window)
        self.dimension = self.embed(("",)).vectors.shape[1]

    def embed(self, texts: Sequence[str], *, truncate: bool = True) -> EmbeddedTexts:
        """Raises `InvalidRequest` for a text that is too long, unless it may be truncated."""
        vectors, tokens = [], 0
        for index, text in enumerate(texts):
            windows = self._windows(text)
            if len(windows) > WINDOWS and not truncate:
                reason = f"is longer than {self.name} reads: {WINDOWS} times {self.window} tokens"
                raise InvalidRequest(f"input[{index}]", reason)
            vector, count = self._vector(windows[:WINDOWS])
            vectors.append(vector)
            tokens += count
        return EmbeddedTexts(np.array(vectors, np.float32), tokens)

    def _windows(self, text: str) -> list[Encoding]:
        """Those that it is read in, and one more where it is too long."""
        shown = text[: (WINDOWS + 1) * self.window * _CHARACTERS_PER_TOKEN]
        # Half of a surrogate pair, which a JSON body may hold, is no text to the tokenizer.
        first = self._tokenizer.encode(shown.encode("utf-8", "replace").decode("utf-8"))
        return [first, *first.overflowing]

    def _vector(self, windows: Sequence[Encoding]) -> tuple[npt.NDArray[np.float32], int]:
        # One by one: the graph quantizes a batch with one scale, so a vector would depend on its neighbours.
        counts = [len(window.ids) for window in windows]
        vector = sum(self._run(window.ids) * count for window, count in zip(windows, counts, strict=True))
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32), sum(counts)

    def _run(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        fed = np.array([ids], np.int64)
        (found,) = self._session.run([OUTPUT], {IDS: fed, MASK: np.ones_like(fed)})
        return np.asarray(found[0], np.float32)


class Embedders:
    """The encoders by the names of their routers, each opened when it is first asked.

    `own`: the folder of the user's routers; None is `Paths.routers`.
    """

    def __init__(self, own: Path | None = None, *, threads: int = 1) -> None:
        self._own, self._threads = own, threads
        self._lock = threading.Lock()
        self._open: dict[str, Embedder] = {}

    def names(self) -> tuple[str, ...]:
        """Of those that have one of their own; a router that goes on from another's has none."""
        cards = graph_cards(self._own)
        return tuple(name for name in cards if _begins_with_text(cards.get(name)))

    def get(self, name: str) -> Embedder:
        """Raises `UnknownModel`, `InvalidRouter`."""
        with self._lock:
            if name not in self._open:
                self._open[name] = Embedder(self._card(name), threads=self._threads)
            return self._open[name]

    def embed(self, texts: Sequence[str], model: str, *, truncate: bool = True) -> EmbeddedTexts:
        """Raises `UnknownModel`, `InvalidRouter`, and what `Embedder.embed` does."""
        return self.get(model).embed(texts, truncate=truncate)

    def close(self) -> None:
        """Gives the memory back; the next question opens them again."""
        with self._lock:
            self._open.clear()

    def _card(self, name: str) -> RouterCard:
        cards = graph_cards(self._own)
        if name not in cards:
            raise UnknownModel(name, self.names())
        card = cards.get(name)()
        return encoder_card(card) or card


def _begins_with_text(card: Callable[[], RouterCard]) -> bool:
    try:
        return not card().encoder and card().kind == "score"
    except EdgeRouterError:  # a broken card of the user's: who asks for it by name is told
        return False
