"""Vectors of texts, from a router's encoder."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_router.catalog import RouterCard
from edge_router.errors import InvalidRequest, InvalidRouter, UnknownModel
from edge_router.routing.routers.embedding import WINDOWS, Embedder, Embedders

MakeRouter = Callable[..., RouterCard]
TEXTS = ("what is easy ?", "why is the hard . prove ?", "", "a " * 3000, "\ud800 half", "what is easy ?")
WORDS = 14  # of a window of 16 tokens
CARD = 'name = "{name}"\ngraph = "router.onnx"\ntokenizer = "tokenizer.json"\ndefault_threshold = 0.4\nmax_tokens = 16'
pytestmark = pytest.mark.integration


def test_each_text_has_a_vector_of_length_one_that_depends_on_no_other(make_router: MakeRouter) -> None:
    embedder = Embedder(make_router())
    with ThreadPoolExecutor(4) as pool:
        (found, *again) = pool.map(lambda _: embedder.embed(TEXTS), range(8))
    assert found.vectors.shape == (len(TEXTS), embedder.dimension) == (len(TEXTS), 16)
    assert found.vectors.dtype == np.float32
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1)
    for other in again:
        assert (other.vectors == found.vectors).all()
    for index, text in enumerate(TEXTS):
        assert (embedder.embed((text,)).vectors[0] == found.vectors[index]).all(), text[:20]
    assert embedder.embed(("what is easy ?",)).tokens == 6


def test_a_text_of_several_windows_has_their_mean(make_router: MakeRouter) -> None:
    embedder = Embedder(make_router())
    one, other = "easy " * WORDS, "prove " * WORDS
    whole = embedder.embed((one + other,))
    parts = embedder.embed((one, other)).vectors.sum(axis=0)
    assert whole.vectors[0] == pytest.approx(parts / np.linalg.norm(parts), abs=1e-6)
    assert whole.tokens == 2 * 16


def test_what_is_too_long_is_cut_or_refused_by_its_number(make_router: MakeRouter) -> None:
    embedder = Embedder(make_router())
    longest = "easy " * (WORDS * WINDOWS)
    longer = longest + "prove " * (WORDS * 40)
    cut = embedder.embed((longest, longer))
    assert (cut.vectors[0] == cut.vectors[1]).all()
    assert embedder.embed((longest,), truncate=False).tokens == 16 * WINDOWS
    with pytest.raises(InvalidRequest, match=r"input\[1\]: is longer than tiny reads: 64 times 16 tokens"):
        embedder.embed(("a", longer), truncate=False)


def test_a_graph_without_an_embedding_is_refused(make_router: MakeRouter) -> None:
    with pytest.raises(InvalidRouter, match="its inputs are hidden"):
        Embedder(make_router(below=1))


def test_names_of_routers_name_their_encoders(make_router: MakeRouter, tmp_path: Path) -> None:
    folder = Path(str(make_router("mine").directory))
    (folder / "card.toml").write_text(CARD.format(name="mine"), encoding="utf-8")
    (tmp_path / "routers" / "broken").mkdir()
    (tmp_path / "routers" / "broken" / "card.toml").write_text("name = ", encoding="utf-8")
    embedders = Embedders(tmp_path / "routers")
    assert embedders.names() == ("mf", "mine", "static")
    assert embedders.get("mine") is embedders.get("mine")
    assert embedders.embed(("easy",), "mine").vectors.shape == (1, 16)
    for name in ("auto", "nothing"):
        with pytest.raises(UnknownModel) as caught:
            embedders.embed(("easy",), name)
        assert caught.value.known == ("mf", "mine", "static"), name
    first = embedders.get("mine")
    embedders.close()
    assert embedders.get("mine") is not first


def test_the_shipped_encoders_tell_what_is_alike(make_router: MakeRouter) -> None:
    texts = ("How do I cook rice?", "What is the best way to boil rice?", "Who was the first pope?")
    embedders = Embedders()
    for name, dimension in (("mf", 384), ("static", 64), ("bert", 384)):
        alike, different, _ = (a @ b for a, b in _pairs(embedders.embed(texts, name).vectors))
        assert alike > different + 0.2, name
        assert embedders.get(name).dimension == dimension, name
    assert (embedders.embed(texts, "bert").vectors == embedders.embed(texts, "mf").vectors).all()


def _pairs(vectors: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(vectors[0], vectors[1]), (vectors[0], vectors[2]), (vectors[1], vectors[2])]
