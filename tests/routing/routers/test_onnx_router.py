from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_router.catalog import RouterCard
from edge_router.chat.message import Message
from edge_router.errors import InvalidRouter
from edge_router.routing.routers.graph import METADATA_KEY
from edge_router.routing.routers.onnx import OnnxRouter

MakeRouter = Callable[..., RouterCard]
TEXTS = ["what is easy ?", "why is the hard . prove ?", "", "a " * 3000, "x" * 100_000, "unknown words"]


def test_scores_are_in_range_and_differ(make_router: MakeRouter) -> None:
    router = OnnxRouter(make_router())
    scores = router.score_texts(TEXTS)
    assert all(0 <= score <= 1 for score in scores)
    assert len(set(scores)) >= 4
    assert (router.name, router.default_threshold, router.provider) == ("tiny", 0.4, "CPUExecutionProvider")


def test_a_single_turn_scores_as_its_text(make_router: MakeRouter) -> None:
    router = OnnxRouter(make_router())
    assert [router.score([Message("user", text)]) for text in TEXTS] == router.score_texts(TEXTS)


def test_the_same_score_from_several_threads_and_among_other_texts(make_router: MakeRouter) -> None:
    router = OnnxRouter(make_router(surface=("log_stem_length",)))
    alone = [router.score_texts([text])[0] for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda i: router.score_texts(TEXTS), range(32)))
    assert all(scores == alone for scores in many)


def test_surface_features_reach_the_score(make_router: MakeRouter) -> None:
    router = OnnxRouter(make_router(surface=("questions",)))
    # The tokenizer knows no "¿", so only the feature tells these two apart.
    with_mark, without = router.score_texts(["what is ?", "what is ¿"])
    assert with_mark > without


def test_embeddings_have_length_one(make_router: MakeRouter) -> None:
    found = OnnxRouter(make_router()).embed_texts(TEXTS)
    assert found.shape == (len(TEXTS), 16)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1)


def rewrite(card: RouterCard, change: Callable[[object], None]) -> RouterCard:
    import onnx

    file = Path(str(card.directory)) / card.graph
    model = onnx.load(str(file))
    change(model)
    onnx.save(model, str(file))
    return card


def set_metadata(value: str | None) -> Callable[[object], None]:
    def change(model: object) -> None:
        del model.metadata_props[:]  # type: ignore[attr-defined]
        if value is not None:
            model.metadata_props.add(key=METADATA_KEY, value=value)  # type: ignore[attr-defined]

    return change


GOOD = {"format": 1, "max_tokens": 16, "tail_tokens": 4, "without_options": False, "surface": []}


def test_a_graph_without_our_metadata_is_fed_as_its_card_says(make_router: MakeRouter) -> None:
    router = OnnxRouter(rewrite(make_router(), set_metadata(None)))
    assert 0 <= router.score_texts(["what is easy ?"])[0] <= 1


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("nonsense", "cannot be read"),
        (json.dumps({"format": 1}), "cannot be read"),
        (json.dumps({**GOOD, "format": 2}), "format 2, this version reads format 1"),
        (json.dumps({**GOOD, "surface": ["shoe_size"]}), "'shoe_size', which does not exist"),
        (json.dumps({**GOOD, "surface": ["lines"]}), "no input 'surface'"),
        (json.dumps({**GOOD, "max_tokens": 3}), "3 tokens, 4 of them from the end"),
    ],
)
def test_metadata_that_cannot_be_followed(make_router: MakeRouter, metadata: str, reason: str) -> None:
    with pytest.raises(InvalidRouter, match=reason):
        OnnxRouter(rewrite(make_router(), set_metadata(metadata)))


def graph_of(inputs: dict[str, str], output: str, op: str = "Identity") -> bytes:
    """A little graph with other inputs than a router's."""
    import onnx

    helper, kinds = onnx.helper, onnx.TensorProto
    infos = [helper.make_tensor_value_info(n, getattr(kinds, k), ["b", "s"]) for n, k in inputs.items()]
    first = next(iter(inputs))
    nodes = [helper.make_node("Cast", [first], ["cast"], to=kinds.FLOAT)]
    nodes.append(helper.make_node("ReduceMean", ["cast"], [output], axes=[1], keepdims=0))
    infos_out = [helper.make_tensor_value_info(output, kinds.FLOAT, ["b"])]
    graph = helper.make_graph(nodes, "g", infos, infos_out)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


@pytest.mark.parametrize(
    ("inputs", "output", "reason"),
    [
        ({"tokens": "INT64"}, "score", "its inputs are tokens: tensor.int64.; a router's are input_ids"),
        ({"input_ids": "FLOAT", "attention_mask": "INT64"}, "score", "input_ids: tensor.float"),
        ({"input_ids": "INT64", "attention_mask": "INT64"}, "logits", "its outputs are logits"),
        ({"input_ids": "INT64", "attention_mask": "INT64"}, "score", "not one number in 0..1"),
    ],
)
def test_a_graph_that_is_no_router(
    make_router: MakeRouter, inputs: dict[str, str], output: str, reason: str
) -> None:
    card = make_router()
    (Path(str(card.directory)) / card.graph).write_bytes(graph_of(inputs, output))
    with pytest.raises(InvalidRouter, match=reason) as caught:
        OnnxRouter(card)
    assert caught.value.where.endswith("router.onnx")


def test_a_router_without_an_embedding_still_scores(make_router: MakeRouter) -> None:
    def drop(model: object) -> None:
        del model.graph.output[1:]  # type: ignore[attr-defined]

    router = OnnxRouter(rewrite(make_router(), drop))
    assert router.score_texts(["a"])
    with pytest.raises(InvalidRouter, match="no output 'embedding'"):
        router.embed_texts(["a"])


@pytest.mark.parametrize("name", ["router.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_damaged_files_are_named(make_router: MakeRouter, name: str, damage: str) -> None:
    card = make_router()
    file = Path(str(card.directory)) / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"\x08\x01garbage")
    with pytest.raises(InvalidRouter) as caught:
        OnnxRouter(card)
    assert caught.value.where == str(file)


def test_the_card_says_the_name(make_router: MakeRouter) -> None:
    card = replace(make_router(), name="other", default_threshold=0.9)
    router = OnnxRouter(card)
    assert (router.name, router.default_threshold) == ("other", 0.9)


class TestSecondStage:
    """A router whose graph goes on from another one's encoder."""

    @pytest.fixture
    def pair(self, make_router: MakeRouter) -> tuple[RouterCard, RouterCard]:
        """A whole router, and one of its own second layer that goes on from what that one gives."""
        from edge_router.compile.training.card import write_card

        whole = make_router("whole", surface=("questions",))
        write_card(whole)
        return whole, make_router("upper", surface=("questions",), below=2, encoder="whole")

    def test_it_needs_no_tokenizer_and_scores_like_any(self, pair: tuple[RouterCard, RouterCard]) -> None:
        router = OnnxRouter(pair[1])
        scores = router.score_texts(TEXTS)
        assert all(0 <= score <= 1 for score in scores)
        assert router.score([Message("user", TEXTS[1])]) == scores[1]
        # No layer of its own: it is the other router with another head.
        assert router.embed_texts(TEXTS[:2]) == pytest.approx(OnnxRouter(pair[0]).embed_texts(TEXTS[:2]))

    def test_an_encoder_that_is_not_here(self, pair: tuple[RouterCard, RouterCard]) -> None:
        with pytest.raises(InvalidRouter, match="no encoder 'gone' is here"):
            OnnxRouter(replace(pair[1], encoder="gone"))

    def test_an_encoder_that_is_no_encoder(self, pair: tuple[RouterCard, RouterCard]) -> None:
        from edge_router.compile.training.card import write_card

        write_card(pair[1])
        with pytest.raises(InvalidRouter, match="no encoder 'upper' is here"):
            OnnxRouter(replace(pair[1], encoder="upper"))

    def test_an_encoder_that_gives_something_else(self, pair: tuple[RouterCard, RouterCard]) -> None:
        def drop(model: object) -> None:
            del model.graph.output[2:]  # type: ignore[attr-defined]

        rewrite(pair[0], drop)
        with pytest.raises(InvalidRouter, match=r"its inputs are hidden: .*; its encoder gives embedding"):
            OnnxRouter(pair[1])

    def test_an_encoder_that_cuts_texts_otherwise(self, pair: tuple[RouterCard, RouterCard]) -> None:
        rewrite(pair[0], set_metadata(json.dumps(GOOD)))
        with pytest.raises(InvalidRouter, match="it is for texts cut otherwise than whole cuts them"):
            OnnxRouter(pair[1])
