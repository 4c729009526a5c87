"""Training from end to end on a tiny pool with a tiny encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edge_router.catalog import LocalSource, parse_router_card
from edge_router.compile import train_router
from edge_router.compile.train_router import FineTuning, HeadSettings, TrainSettings, train
from edge_router.compile.training import static
from edge_router.errors import InvalidData, InvalidModel, InvalidRouter, MissingExtra
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.routing.routers.tokens import Cut

pytestmark = pytest.mark.reference


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    lines = []
    for i in range(80):
        hard = i % 2
        prompt = f"{'a ' * int(rng.integers(1, 6))}{'hard prove' if hard else 'easy'} ?"
        row = {"prompt": prompt, "weak_score": 1 - hard, "strong_score": 1, "benchmark": "toy"}
        lines.append(json.dumps(row))
    file = tmp_path / "toy.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.fixture
def settings(pool_file: Path, tiny_encoder: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        pool=pool_file,
        output=tmp_path / "out",
        name="toy",
        base=LocalSource(tiny_encoder),
        layers=(0, 1),
        cut=Cut(max_tokens=20, tail_tokens=6),
        head=HeadSettings(rank=4, ridge=20, own_ridge=100),
        precision="float32",
    )


def test_a_router_learns_what_is_hard(settings: TrainSettings, evaluation: Path) -> None:
    done = train(replace(settings, evaluation=(evaluation,)))
    assert done.evaluation is not None
    found = done.evaluation.groups["toy"]
    assert set(found) == {"toy", "length", "random", "oracle"}
    assert found["toy"].apgr is not None
    assert found["toy"].apgr > 0.65
    router = OnnxRouter(done.card)
    easy, hard = router.score_texts(["what is easy ?", "why is the hard prove ?"])
    assert easy < hard


def test_the_card_says_what_was_measured(settings: TrainSettings, evaluation: Path) -> None:
    done = train(replace(settings, evaluation=(evaluation,)))
    assert done.evaluation is not None
    card = parse_router_card(settings.output / "toy")
    assert card == done.card
    assert card.trained_on.startswith("240 prompts answered by 6 models: first 120 (MIT)")
    toy = card.metrics["toy"]
    assert isinstance(toy, dict)
    measured = done.evaluation.to_dict()["toy"]
    assert toy["n"] == 80
    assert toy["toy"]["apgr"] == pytest.approx(measured["toy"]["apgr"])
    assert set(toy) == {"n", "toy", "length", "random", "oracle"}


def test_the_default_threshold_halves_the_validation_rows(settings: TrainSettings) -> None:
    done = train(settings)
    pool = train_router.read_pool(settings.pool)
    held = pool.take(pool.validation)
    sent = np.mean(np.array(OnnxRouter(done.card).score_texts(held.prompts)) >= done.card.default_threshold)
    assert sent == pytest.approx(0.5, abs=0.06)


@pytest.fixture
def below(settings: TrainSettings) -> TrainSettings:
    """One layer of the tiny encoder as the router `toy`, from which others can go on."""
    train(replace(settings, layers=(0,)))
    return replace(settings, encoder="toy")


def apgr(done: train_router.Trained, name: str) -> float:
    assert done.evaluation is not None
    found = done.evaluation.groups["toy"][name].apgr
    assert found is not None
    return found


def test_the_same_seed_gives_the_same_router(below: TrainSettings) -> None:
    tuning = FineTuning(rank=4, trained_layers=1)
    bert = replace(below, name="tuned", kind="bert", fine_tuning=tuning)
    one, first = train(bert), (below.output / "tuned" / "router.onnx").read_bytes()
    two = train(bert)
    assert (below.output / "tuned" / "router.onnx").read_bytes() == first
    assert one.card == two.card


def test_a_bert_goes_on_from_another_router_s_encoder(below: TrainSettings, evaluation: Path) -> None:
    tuning = FineTuning(epochs=8, rate=3e-3, rank=4, batch=16, trained_layers=1)
    bert = replace(below, name="tuned", kind="bert", surface=(), fine_tuning=tuning, evaluation=(evaluation,))
    done = train(bert)
    assert "fine-tuned" in done.card.trained_on
    assert (done.card.encoder, done.card.tokenizer) == ("toy", "")
    assert not (below.output / "tuned" / "tokenizer.json").exists()
    assert apgr(done, "tuned") > 0.7


def test_a_bert_on_layers_that_are_not_its_own_is_refused(below: TrainSettings) -> None:
    tuning = FineTuning(trained_layers=1)
    with pytest.raises(InvalidRouter, match=r"its encoder is not the layers \(1,\) of"):
        train(replace(below, name="tuned", kind="bert", layers=(1, 0), fine_tuning=tuning))
    with pytest.raises(InvalidRouter, match="no encoder 'nobody' is here"):
        train(replace(below, name="tuned", kind="bert", encoder="nobody"))


def test_a_ranking_knows_the_hard_prompts_by_their_like(below: TrainSettings, evaluation: Path) -> None:
    ranking = replace(below, name="alike", kind="sw_ranking", dimensions=8, evaluation=(evaluation,))
    done = train(ranking)
    assert apgr(done, "alike") > 0.65
    assert done.card.encoder == "toy"
    words = (below.output / "alike" / "router.onnx").read_bytes()
    assert not any(prompt.encode() in words for prompt in train_router.read_pool(below.pool).prompts)


def test_a_table_of_token_vectors_learns_it_too(settings: TrainSettings, evaluation: Path) -> None:
    from edge_router.compile.training.embed import tokenize

    done = train(
        replace(settings, name="table", kind="static", layers=(), dimensions=8, evaluation=(evaluation,))
    )
    assert apgr(done, "table") > 0.65
    assert "token vectors" in done.card.trained_on
    texts = ["what is easy ?", "hard prove", ""]
    embeddings = OnnxRouter(done.card).embed_texts(texts)
    assert embeddings.shape == (3, 8)
    # The graph's table is the one that the head was fitted on.
    base = settings.base
    assert isinstance(base, LocalSource)
    rows = tokenize(base.path / "tokenizer.json", train_router.read_pool(settings.pool).prompts, settings.cut)
    table = static.reduce(static.token_vectors(base.path), rows, 8)
    wanted = static.embed(table, tokenize(base.path / "tokenizer.json", texts, settings.cut))
    assert embeddings == pytest.approx(wanted, abs=1e-5)


def test_a_checkpoint_without_token_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read"):
        static.token_vectors(tmp_path)
    save_file({"other": np.zeros(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidModel, match="no tensor 'embeddings"):
        static.token_vectors(tmp_path)


def test_int8_is_a_quarter_of_the_size(settings: TrainSettings) -> None:
    graph = settings.output / "toy" / "router.onnx"
    sizes = {}
    for precision in ("float32", "int8"):
        train(replace(settings, precision=precision))
        sizes[precision] = graph.stat().st_size
    assert sizes["int8"] < sizes["float32"]


def test_a_pool_that_cannot_be_read_leaves_nothing_behind(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(InvalidData):
        train(replace(settings, pool=tmp_path / "none.parquet"))
    assert not settings.output.exists()


def test_without_the_extra_it_is_named(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        train(settings)
    assert caught.value.extra == "train"
