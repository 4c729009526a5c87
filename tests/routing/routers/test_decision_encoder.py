"""Encoders of Laya's kind as routers: by a graph made here, and held to Laya's own code where that is."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.catalog import RouterCard
from edge_router.catalog.cards import parse_router_card
from edge_router.compile.training.card import write_card
from edge_router.compile.training.decision_encoder import main, quantize_weights, write_router
from edge_router.errors import InvalidRouter
from edge_router.routing.routers import loading, routers
from edge_router.routing.routers.decision import HARD
from edge_router.routing.routers.embedding import Embedders
from edge_router.routing.routers.encoder import MARKS, EncoderRouter
from edge_router.routing.routers.graph import IDS
from edge_router.routing.routers.loading import load
from edge_router.routing.routers.providers import PROVIDERS, Provider
from edge_router.system.telemetry import load_onnxruntime

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "score", "question", ":", "how", "hard", "is", "this"),
    *(
        "?",
        "level",
        "0",
        "1",
        "2",
        "3",
        "4",
        "very",
        "easy",
        "medium",
        "prove",
        "it",
        "a",
        "b",
        "head",
        "tail",
    ),
]
ROOM = 80
TEXTS = ["prove it", "how hard is this?", "", "a [MASK] b", "\ud800", "it is a b easy " * 5]
MakeCard = Callable[..., RouterCard]


def tokenizer_of(folder: Path) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.add_special_tokens(WORDS[:5])
    made.save(str(folder / "tokenizer.json"))
    return made


@pytest.fixture
def card(tmp_path: Path) -> RouterCard:
    """A graph that takes the highest of all ids for each level beyond the marks of those before."""
    from onnx import TensorProto, helper, save

    folder = tmp_path / "judge"
    folder.mkdir()
    tokenizer_of(folder)
    whole, flags = TensorProto.INT64, TensorProto.BOOL
    shapes = {
        "input_ids": (whole, ["n", "t"]),
        "attention_mask": (whole, ["n", "t"]),
        "marker_pos": (whole, ["n", "k"]),
        "marker_mask": (flags, ["n", "k"]),
        "qtype": (whole, ["n"]),
    }
    nodes = [
        helper.make_node("Cast", ["marker_pos"], ["places"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["attention_mask", "axis"], ["count"], keepdims=1),
        helper.make_node("Cast", ["count"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["places", "length"], ["share"]),
        helper.make_node("Mul", ["share", "times"], ["logits"]),
    ]
    axis = helper.make_tensor("axis", whole, [1], [1])
    times = helper.make_tensor("times", TensorProto.FLOAT, [1], [4.0])
    inputs = [helper.make_tensor_value_info(name, *each) for name, each in shapes.items()]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "k"])
    graph = helper.make_graph(nodes, "judge", inputs, [out], [axis, times])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(folder / "router.onnx"))
    special = ("[CLS]", "[SEP]", "[MASK]")
    made = RouterCard(
        "judge", folder, "router.onnx", "tokenizer.json", 0.5, ROOM, "", "", "", {}, kind="decision",
        temperature=2.0, special_tokens=special,
    )  # fmt: skip
    write_card(made)
    return made


pytestmark = pytest.mark.integration


def test_a_folder_with_a_card_is_a_router(card: RouterCard) -> None:
    folder = Path(str(card.directory))
    assert parse_router_card(folder) == card
    router: Any = routers(folder.parent).get("judge")(threads=1)
    assert router.name == "judge" and router.provider == "CPUExecutionProvider"
    scores = router.score_texts(TEXTS)
    assert all(0 <= score <= 1 for score in scores) and scores == router.score_texts(TEXTS)
    assert "judge" not in Embedders(folder.parent).names()


def test_what_is_fed(card: RouterCard) -> None:
    router = EncoderRouter(card)
    fed = router.prepare("prove it")
    words = [WORDS[at] for at in fed[IDS][0]]
    levels = [
        "level 0 : very easy",
        "level 1 : easy",
        "level 2 : medium",
        "level 3 : hard",
        "level 4 : very hard",
    ]
    expected = ["[CLS]", *["score", "question", ":", "how", "hard", "is", "this", "question", "?"], "[SEP]"]
    for level in levels:
        expected += ["[MASK]", *level.split()]
    assert words == [*expected, "[SEP]", "prove", "it", "[SEP]"]
    assert [words[at] for at in fed[MARKS][0]] == ["[MASK]"] * 5
    assert [each.label for each in HARD.levels] == [level.partition(": ")[2] for level in levels]
    assert int(router.prepare("a [MASK] b")[IDS][0].tolist().count(4)) == 5, "nobody writes a mark of his own"
    # As softmax has it, at the card's temperature.
    logits = fed[MARKS][0] / len(words) * 4.0
    weights = np.exp(logits / 2.0)
    found = router.probabilities("prove it")
    assert found == pytest.approx(weights / weights.sum(), abs=1e-6)
    assert router.score_texts(["prove it"])[0] == pytest.approx(np.dot(found, range(5)) / 4)


def test_of_what_is_too_long_head_and_tail_are_read(card: RouterCard) -> None:
    fed = EncoderRouter(card).prepare("head " + "a b " * 5000 + "tail")
    words = [WORDS[at] for at in fed[IDS][0]]
    assert len(words) == ROOM and "head" in words and words[-2:] == ["tail", "[SEP]"]


def test_what_is_no_such_router_is_refused(card: RouterCard, make_router: MakeCard) -> None:
    for broken, reason in (
        (replace(card, special_tokens=("[CLS]", "[SEP]", "<mask>")), "no token '<mask>'"),
        (replace(card, max_tokens=20), "more than 20 tokens"),
        (
            replace(make_router("other"), kind="decision", special_tokens=card.special_tokens),
            "its inputs are",
        ),
    ):
        with pytest.raises(InvalidRouter, match=reason):
            EncoderRouter(broken)
    write_card(replace(card, special_tokens=("[CLS]",)))
    with pytest.raises(InvalidRouter, match="are three"):
        parse_router_card(Path(str(card.directory)))


def test_another_provider_runs_the_same_graph(card: RouterCard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in: onnxruntime's own CPU under another name."""
    cpu = PROVIDERS["cpu"]
    monkeypatch.setitem(PROVIDERS, "fake", Provider("fake", cpu.execution, cpu.attach))
    for asked, note in (("fake", ""), ("auto", "built without it")):
        monkeypatch.setattr(loading, "GPU_PROVIDERS", ("fake",) if not note else ("coreml",))
        if note:
            monkeypatch.setitem(PROVIDERS, "coreml", replace(PROVIDERS["coreml"], execution="NoProvider"))
        router = load(card, threads=1, provider=asked)
        assert isinstance(router, EncoderRouter) and note in router.note and bool(router.note) == bool(note)
        assert router.score_texts(TEXTS) == EncoderRouter(card).score_texts(TEXTS)


def test_weights_alone_as_int8_are_the_same_alone_and_together(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save
    from onnx import load as load_graph

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((64, 32), (48, 32), (48,))]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Gemm", ["h", "w1", "w2"], ["y"], transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 48])]
    weights = [numpy_helper.from_array(each, f"w{at}") for at, each in enumerate(arrays)]
    graph = helper.make_graph(nodes, "g", inputs, out, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(tmp_path / "g.onnx"))
    quantize_weights(tmp_path / "g.onnx")
    kinds = [tensor.data_type for tensor in load_graph(tmp_path / "g.onnx").graph.initializer]
    assert kinds.count(TensorProto.INT8) == 2
    session = load_onnxruntime().InferenceSession(
        str(tmp_path / "g.onnx"), providers=["CPUExecutionProvider"]
    )
    rows = rng.normal(size=(5, 64)).astype(np.float32)
    (found,) = session.run(None, {"x": rows})
    wanted = (rows @ arrays[0]) @ arrays[1].T + arrays[2]
    assert 0 < np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
    alone = np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows])
    assert np.abs(alone - found).max() < 1e-4


# ---- against Laya's own code -------------------------------------------------------------------------------


def _tiny(tmp_path: Path) -> tuple[Any, Any]:
    """A random model of Laya's class, and its tokenizer."""
    import torch
    from laya.common import DecisionModel
    from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    settings = ModernBertConfig(
        vocab_size=len(WORDS), hidden_size=128, intermediate_size=96, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=128, local_attention=16, pad_token_id=0,
        cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3, attn_implementation="sdpa",
    )  # fmt: skip
    model = DecisionModel(ModernBertModel(settings), head_layers=2, n_act=2).eval()
    with torch.no_grad():  # so that the levels differ
        for values in model.parameters():
            values.add_(torch.randn_like(values) * 0.1)
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), WORDS, strict=False))
    tokens = {f"{name}_token": word for name, word in names.items()}
    return model, PreTrainedTokenizerFast(tokenizer_object=tokenizer_of(tmp_path), **tokens)


@pytest.mark.reference
@pytest.mark.skipif(importlib.util.find_spec("laya") is None, reason="not installed: laya (0.4.15)")
@pytest.mark.parametrize("opset", [17, 20])
def test_the_numbers_are_laya_s_own(tmp_path: Path, opset: int) -> None:
    import torch
    from laya.common import build_sequence

    model, tokenizer = _tiny(tmp_path)
    card = write_router(model, tokenizer, tmp_path / "laya", max_tokens=100, temperature=1.5, opset=opset)
    router = load(card, threads=1, provider="cpu")
    assert isinstance(router, EncoderRouter)
    labels = [level.label for level in HARD.levels]
    question = {"t": "score", "ins": HARD.instructions, "crit": labels}
    spread = []
    for text in TEXTS:
        plain = text.encode("utf-8", "replace").decode("utf-8")
        ids, marks = build_sequence(tokenizer, plain, question, max_len=100)
        fed = router.prepare(text)
        assert (fed[IDS][0].tolist(), fed[MARKS][0].tolist()) == (ids, marks), text
        with torch.no_grad():
            names = ("input_ids", "attention_mask", "marker_pos", "marker_mask", "qtype")
            logits, _ = model(*(torch.from_numpy(fed[name]) for name in names))
        wanted = torch.softmax(logits[0] / 1.5, -1).tolist()
        found = router.probabilities(text)
        assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 1e-5, text
        spread.append(found)
    assert max(map(max, spread)) - min(map(min, spread)) > 0.01, "the levels differ"
    rough = load(
        write_router(model, tokenizer, tmp_path / "small", max_tokens=100, temperature=1.5, weights="int8"),
        threads=1,
        provider="cpu",
    )
    gap = max(abs(a - b) for a, b in zip(rough.score_texts(TEXTS), router.score_texts(TEXTS), strict=True))
    assert 0 < gap < 0.05, gap


@pytest.mark.reference
@pytest.mark.skipif(importlib.util.find_spec("laya") is None, reason="not installed: laya (0.4.15)")
def test_a_checkpoint_becomes_a_router_that_answers_as_laya_does(tmp_path: Path) -> None:
    from laya import load as load_laya
    from safetensors.torch import save_file

    model, tokenizer = _tiny(tmp_path)
    checkpoint = tmp_path / "checkpoint"
    model.encoder.config.save_pretrained(checkpoint / "encoder")
    tokenizer.save_pretrained(checkpoint / "tokenizer")
    save_file(model.state_dict(), checkpoint / "model.safetensors")
    settings = {
        "encoder": "encoder", "head_layers": 2, "act_costs": {"ask": 0.1}, "max_len": 90,
        "temperature": [1.0, 1.3, 1.0],
    }  # fmt: skip
    (checkpoint / "rl_agent_config.json").write_text(json.dumps(settings), encoding="utf-8")
    main(str(checkpoint), str(tmp_path / "routers" / "laya"))
    router: Any = routers(tmp_path / "routers").get("laya")(threads=1)
    agent = load_laya(str(checkpoint), device="cpu", backend="eager")
    criteria = [level.label for level in HARD.levels]
    question = {"type": "score", "instructions": HARD.instructions, "criteria": criteria}
    for text in TEXTS[:4]:
        answer = agent.predict(text, {"hard": question})["answers"]["hard"]
        found = router.probabilities(text)
        assert list(answer["probabilities"].values()) == pytest.approx(found, abs=6e-5), text
        assert answer["score"] / 4 == pytest.approx(router.score_texts([text])[0], abs=6e-5), text
