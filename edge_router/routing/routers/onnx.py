"""A router that is an ONNX graph: text to token ids, one run of the graph (or of two), one score.

It runs on one thread: a second gains nothing on so small a graph and would take it from the weak model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from edge_router.catalog import RouterCard, encoder_card
from edge_router.chat.message import Message
from edge_router.errors import InvalidRouter
from edge_router.routing.routers import text as texts
from edge_router.routing.routers.graph import (
    IDS,
    MASK,
    SURFACE,
    check_score,
    check_tokens,
    describe,
    open_graph,
    outputs,
    session_options,
    state_of,
)
from edge_router.routing.routers.providers import CPU, Provider, named
from edge_router.routing.routers.tokens import Cut, TextTokens, open_tokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class OnnxRouter:
    """Raises `InvalidRouter` when the files are not a router, or not one that this version can feed, and
    `ProviderUnavailable` or `MissingExtra` for another provider than the CPU.

    `note`: why it does not run where it was asked to, if so.
    """

    note = ""

    def __init__(self, card: RouterCard, *, threads: int = 1, provider: Provider | None = None) -> None:
        self._card = card
        where = str(card.directory / card.graph)
        self._session = _open(card, threads, provider)
        described = describe(self._session, where)
        self._surface = described.surface
        check_score(self._session, where, has_surface=bool(self._surface))
        reader = encoder_card(card) or card
        self._encoder: InferenceSession | None = None
        if reader is card:
            check_tokens(self._session, where)
            cut = described.cut or Cut(card.max_tokens)
        else:
            self._encoder = _open(reader, threads, provider)
            self._state, self._reads = state_of(self._session, self._encoder, where)
            cut = describe(self._encoder, reader.name).cut or Cut(reader.max_tokens)
            if described.cut not in (None, cut):
                raise InvalidRouter(where, f"it is for texts cut otherwise than {reader.name} cuts them")
        self._tokens = TextTokens(open_tokenizer(reader.directory / reader.tokenizer), cut)
        probe = self.run(self.prepare("How many primes are there?"))
        if probe.shape != (1,) or not 0 <= float(probe[0]) <= 1:
            raise InvalidRouter(where, f"its score is {probe.tolist()}, not one number in 0..1")

    @property
    def name(self) -> str:
        return self._card.name

    @property
    def default_threshold(self) -> float:
        return self._card.default_threshold

    @property
    def typical_scores(self) -> tuple[float, ...]:
        return self._card.typical_scores

    @property
    def surface_names(self) -> tuple[str, ...]:
        """The surface features that it is fed, in their order."""
        return self._surface

    @cached_property
    def space(self) -> str:
        """By its graph: another network's vectors are in another space."""
        with (self._card.directory / self._card.graph).open("rb") as graph:
            return f"{self.name} {hashlib.sha256(graph.read()).hexdigest()}"

    @property
    def provider(self) -> str:
        """What really runs the graph, which is not always what was asked for."""
        return str(self._session.get_providers()[0])

    def score(self, messages: Sequence[Message]) -> float:
        return self._score(texts.conversation_text(messages))

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        # One by one: the graph quantizes a batch with one scale, so a score would depend on its neighbours.
        return [self._score(text) for text in texts]

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, hidden]: what adaptation learns from. Raises `InvalidRouter` without one."""
        if "embedding" not in outputs(self._session):
            raise InvalidRouter(str(self._card.directory / self._card.graph), "it has no output 'embedding'")
        return np.concatenate([self.run(self.prepare(text), "embedding") for text in texts])

    def _score(self, text: str) -> float:
        return min(max(float(self.run(self.prepare(text))[0]), 0.0), 1.0)

    def prepare(self, text: str) -> dict[str, np.ndarray]:
        """What is fed for one text: token ids, their mask, surface features."""
        ids = np.array([self._tokens.ids(text)], np.int64)
        feed = {IDS: ids, MASK: np.ones_like(ids)}
        if self._surface:
            feed[SURFACE] = np.array([texts.surface(text, self._surface)], np.float32)
        return feed

    def run(self, feed: dict[str, np.ndarray], output: str = "score") -> np.ndarray:
        if self._encoder is not None:
            (state,) = self._encoder.run([self._state], {name: feed[name] for name in (IDS, MASK)})
            feed = {self._state: state, **{name: feed[name] for name in self._reads if name in feed}}
        return cast(np.ndarray, self._session.run([output], feed)[0])


def _open(card: RouterCard, threads: int, provider: Provider | None) -> InferenceSession:
    """The int8 graph that ships, or for another provider than the CPU the same as float32."""
    provider = provider or named(CPU)
    options = session_options(threads, provider)
    if provider.name == CPU:
        return open_graph(card.directory / card.graph, options, provider)
    from edge_router.compile.router.float_graph import float32_graph

    return open_graph(float32_graph(card), options, provider)
