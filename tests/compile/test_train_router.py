"""Training from end to end on a tiny pool with a tiny encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

for package in ("torch", "onnx", "pyarrow", "safetensors"):
    pytest.importorskip(package, reason=f"{package} comes with the extra train")

from safetensors.numpy import save_file  # noqa: E402

from edge_router.catalog import LocalSource, parse_router_card  # noqa: E402
from edge_router.compile import train_router  # noqa: E402
from edge_router.compile.train_router import FineTuning, HeadSettings, TrainSettings, train  # noqa: E402
from edge_router.compile.training import static  # noqa: E402
from edge_router.compile.training.embed import tokenize  # noqa: E402
from edge_router.errors import InvalidData, InvalidModel, MissingExtra  # noqa: E402
from edge_router.routers.onnx import OnnxRouter  # noqa: E402
from edge_router.routers.tokens import Cut  # noqa: E402


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


def test_the_same_seed_gives_the_same_router(settings: TrainSettings) -> None:
    one = train(replace(settings, fine_tuning=FineTuning(rank=4)))
    first = (settings.output / "toy" / "router.onnx").read_bytes()
    two = train(replace(settings, fine_tuning=FineTuning(rank=4)))
    assert (settings.output / "toy" / "router.onnx").read_bytes() == first
    assert one.card == two.card


def test_fine_tuning_changes_the_encoder_and_helps(settings: TrainSettings, evaluation: Path) -> None:
    tuning = FineTuning(epochs=8, rate=3e-3, rank=4, batch=16, trained_layers=2)
    with_surface_off = replace(settings, surface=(), evaluation=(evaluation,))
    frozen = train(with_surface_off)
    tuned = train(replace(with_surface_off, fine_tuning=tuning))
    assert "fine-tuned" in tuned.card.trained_on
    assert frozen.evaluation is not None
    assert tuned.evaluation is not None
    before, after = (
        found.evaluation.groups["toy"]["toy"].apgr for found in (frozen, tuned) if found.evaluation
    )
    assert before is not None
    assert after is not None
    assert after >= before - 0.02
    assert after > 0.7


def test_a_table_of_token_vectors_learns_it_too(settings: TrainSettings, evaluation: Path) -> None:
    done = train(replace(settings, name="table", layers=(), dimensions=8, evaluation=(evaluation,)))
    assert done.evaluation is not None
    apgr = done.evaluation.groups["toy"]["table"].apgr
    assert apgr is not None
    assert apgr > 0.65
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
