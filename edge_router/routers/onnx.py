"""A router that is an ONNX graph: text to token ids, one run of the graph, one score.

It runs on one thread: a second gains nothing on so small a graph and would take it from the weak model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edge_router.catalog import RouterCard
from edge_router.errors import InvalidRouter
from edge_router.routers import text as texts
from edge_router.routers.tokens import Cut, TextTokens
from edge_router.types import Message

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

METADATA_KEY = "edge_router.router"  # written by compile/router_onnx.py
_FORMAT = 1
_INPUTS = ("input_ids", "attention_mask")
_CPU = "CPUExecutionProvider"


class OnnxRouter:
    """Raises `InvalidRouter` when the files are not a router, or not one that this version can feed."""

    def __init__(self, card: RouterCard, *, threads: int = 1, provider: str = _CPU) -> None:
        self._card = card
        where = str(card.directory / card.graph)
        self._session = _session(card.directory / card.graph, where, threads, provider)
        settings = _settings(self._session, where)
        _check_signature(self._session, where, has_surface=bool(settings["surface"]))
        self._surface = tuple(cast("Sequence[str]", settings["surface"]))
        cut = Cut(
            max_tokens=cast(int, settings.get("max_tokens", card.max_tokens)),
            tail_tokens=cast(int, settings.get("tail_tokens", 0)),
            without_options=cast(bool, settings.get("without_options", False)),
        )
        self._tokens = TextTokens(_tokenizer(card.directory / card.tokenizer), cut)
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
    def surface_names(self) -> tuple[str, ...]:
        """The surface features that it is fed, in their order."""
        return self._surface

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
        if "embedding" not in {output.name for output in self._session.get_outputs()}:
            raise InvalidRouter(str(self._card.directory / self._card.graph), "it has no output 'embedding'")
        return np.concatenate([self.run(self.prepare(text), "embedding") for text in texts])

    def _score(self, text: str) -> float:
        return min(max(float(self.run(self.prepare(text))[0]), 0.0), 1.0)

    def prepare(self, text: str) -> dict[str, np.ndarray]:
        """What the graph is fed for one text: token ids, their mask, surface features."""
        ids = np.array([self._tokens.ids(text)], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        if self._surface:
            feed["surface"] = np.array([texts.surface(text, self._surface)], np.float32)
        return feed

    def run(self, feed: dict[str, np.ndarray], output: str = "score") -> np.ndarray:
        return cast(np.ndarray, self._session.run([output], feed)[0])


def _session(graph: Traversable | Path, where: str, threads: int, provider: str) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors: that `surface` may be left out is meant, not a warning
    providers = [provider] if provider == _CPU else [provider, _CPU]
    try:
        model = str(graph) if isinstance(graph, Path) else graph.read_bytes()
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except OSError as error:
        raise InvalidRouter(where, f"cannot be read: {error.strerror}") from error
    except (
        Exception
    ) as error:  # onnxruntime has a dozen classes of its own for a bad file, with no common base
        raise InvalidRouter(where, f"onnxruntime cannot load it: {error}") from error


def _settings(session: InferenceSession, where: str) -> Mapping[str, object]:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        return {"surface": []}
    try:
        settings = json.loads(text)
        surface, formed = settings["surface"], settings["format"]
        tokens = [settings["max_tokens"], settings["tail_tokens"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRouter(where, f"its metadata {METADATA_KEY!r} cannot be read: {error!r}") from error
    if formed != _FORMAT:
        raise InvalidRouter(where, f"it has format {formed}, this version reads format {_FORMAT}")
    unknown = sorted(set(surface) - set(texts.SURFACE_NAMES))
    if unknown:
        raise InvalidRouter(where, f"it asks for the surface feature {unknown[0]!r}, which does not exist")
    if not all(isinstance(n, int) for n in tokens) or not 0 <= tokens[1] <= tokens[0] - 2:
        raise InvalidRouter(where, f"it reads {tokens[0]} tokens, {tokens[1]} of them from the end")
    return cast("Mapping[str, object]", settings)


def _check_signature(session: InferenceSession, where: str, *, has_surface: bool) -> None:
    inputs = {i.name: i.type for i in session.get_inputs()}
    wanted = dict.fromkeys(_INPUTS, "tensor(int64)")
    if inputs != wanted:
        found = ", ".join(f"{name}: {kind}" for name, kind in inputs.items())
        raise InvalidRouter(
            where, f"its inputs are {found}; a router's are input_ids and attention_mask, int64"
        )
    outputs = {o.name: o.type for o in session.get_outputs()}
    if outputs.get("score") != "tensor(float)":
        raise InvalidRouter(where, f"its outputs are {', '.join(outputs)}; a router's is score, float32")
    optional = {i.name for i in session.get_overridable_initializers()}
    if has_surface and "surface" not in optional:
        raise InvalidRouter(where, "it names surface features but has no input 'surface'")


def _tokenizer(file: Traversable | Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRouter(str(file), f"cannot be read: {error.strerror}") from error
    except Exception as error:  # tokenizers raises Exception itself
        raise InvalidRouter(str(file), f"not a tokenizer.json: {error}") from error
