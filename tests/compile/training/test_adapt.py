"""Adapting a router to a pair of models, without torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_router.catalog import RouterCard, parse_router_card
from edge_router.compile.router.graph import FactorHead, GraphSpec, Surface, build_router
from edge_router.compile.router.head import read_head, replace_head
from edge_router.compile.router.onnx_graph import Precision
from edge_router.compile.training.adapt import (
    AdaptSettings,
    Inputs,
    adapt,
    cross_validate,
    fit_gap,
    predict,
)
from edge_router.compile.training.card import write_card
from edge_router.errors import InvalidData, InvalidRouter, MissingExtra
from edge_router.routing.evaluation import measure
from edge_router.routing.labels.rows import Labelled
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.routing.routers.tokens import Cut

NAMES = ("log_stem_length", "questions")


def make_base(
    tiny_encoder: Path, folder: Path, surface: bool = True, precision: Precision = "int8"
) -> RouterCard:
    from safetensors.numpy import load_file

    rng = np.random.default_rng(0)
    features = Surface(NAMES, np.array([2.0, 0.5]), np.array([1.0, 0.5]), np.array([0.1, 0.1]))
    head = FactorHead(
        rng.normal(size=(16, 4)),
        rng.normal(size=4),
        rng.normal(size=4),
        surface=features if surface else None,
        slope=0.5,
    )
    folder.mkdir(parents=True)
    spec = GraphSpec(2, 2, 1e-12, Cut(24, 6))
    arrays = load_file(tiny_encoder / "model.safetensors")
    build_router(arrays, head, spec, folder / "router.onnx", precision)
    (folder / "tokenizer.json").write_bytes((tiny_encoder / "tokenizer.json").read_bytes())
    card = RouterCard(
        folder.name, folder, "router.onnx", "tokenizer.json", 0.5, 24, "d", "a pool", "MIT", {"x": {}}
    )
    write_card(card)
    return card


@pytest.fixture
def base(tiny_encoder: Path, tmp_path: Path) -> RouterCard:
    return make_base(tiny_encoder, tmp_path / "base")


def traffic(n: int, seed: int = 0) -> Labelled:
    """The weak model fails where the prompt says "hard", and nowhere else."""
    rng = np.random.default_rng(seed)
    prompts, weak = [], []
    for _ in range(n):
        hard = rng.random() < 0.4
        words = [
            *rng.choice(["a", "b", "c", "is", "the", "what"], rng.integers(1, 7)),
            "hard" if hard else "easy",
        ]
        prompts.append(" ".join(rng.permutation(words)))
        weak.append(0.0 if hard else 1.0)
    return Labelled(tuple(prompts), np.array(weak), np.ones(n), name="mine")


def test_an_adapted_router_knows_the_users_traffic(base: RouterCard, tmp_path: Path) -> None:
    done = adapt(traffic(400), AdaptSettings(base, tmp_path / "out", "mine", ridge=50))
    assert done.before.apgr is not None
    assert done.after.apgr is not None
    assert done.after.apgr > done.before.apgr + 0.1
    fresh = traffic(300, seed=9)
    scores = np.array(OnnxRouter(done.card).score_texts(fresh.prompts))
    found = measure(scores, fresh.weak, fresh.strong, resamples=0)
    assert found.apgr == pytest.approx(done.after.apgr, abs=0.08)


def test_its_score_is_the_win_rate(base: RouterCard, tmp_path: Path) -> None:
    done = adapt(traffic(400), AdaptSettings(base, tmp_path / "out", "mine", ridge=50))
    fresh = traffic(400, seed=5)
    scores = np.array(OnnxRouter(done.card).score_texts(fresh.prompts))
    won = fresh.strong > fresh.weak
    assert scores.mean() == pytest.approx(won.mean(), abs=0.08)
    assert scores[won].mean() > scores[~won].mean() + 0.2


def test_the_graph_computes_what_was_fitted(base: RouterCard, tmp_path: Path) -> None:
    data = traffic(200)
    done = adapt(data, AdaptSettings(base, tmp_path / "out", "mine", ridge=50))
    router = OnnxRouter(base)
    head = read_head(Path(str(base.directory)) / "router.onnx", NAMES)
    from edge_router.compile.training.adapt import look
    from edge_router.types import SilentProgress

    inputs = look(router, head, data, SilentProgress())
    wanted = predict(inputs, fit_gap(inputs, data.strong - data.weak, 50))
    logits = np.array(OnnxRouter(done.card).score_texts(data.prompts))
    logits = np.log(logits / (1 - logits))
    assert np.corrcoef(wanted, logits)[0, 1] > 0.99999


def test_the_encoder_is_left_alone(base: RouterCard, tmp_path: Path) -> None:
    done = adapt(traffic(100), AdaptSettings(base, tmp_path / "out", "mine"))
    texts = ["what is hard", "the easy a b c"]
    assert (OnnxRouter(done.card).embed_texts(texts) == OnnxRouter(base).embed_texts(texts)).all()


def test_the_card_tells_where_it_comes_from(base: RouterCard, tmp_path: Path) -> None:
    done = adapt(traffic(100), AdaptSettings(base, tmp_path / "out", "mine", strong_share=0.2))
    card = parse_router_card(tmp_path / "out" / "mine")
    assert card == done.card
    assert card.description == "base, adapted to 100 labelled prompts"
    assert card.trained_on == "a pool; adapted to 100 prompts of mine"
    assert card.metrics == {}
    sent = np.array(OnnxRouter(card).score_texts(traffic(100).prompts)) >= card.default_threshold
    assert sent.mean() == pytest.approx(0.2, abs=0.06)


def test_without_surface_features(tiny_encoder: Path, tmp_path: Path) -> None:
    base = make_base(tiny_encoder, tmp_path / "bare", surface=False, precision="float32")
    done = adapt(traffic(200), AdaptSettings(base, tmp_path / "out", "mine", ridge=50))
    assert done.after.apgr is not None
    assert done.after.apgr > 0.65


def random_inputs(n: int, seed: int = 0, hidden: int = 8) -> Inputs:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, hidden))
    return Inputs(
        x / np.linalg.norm(x, axis=1, keepdims=True), rng.normal(size=(n, 2)), rng.normal(size=n), 0.3
    )


def test_with_much_ridge_and_few_labels_the_base_router_is_left() -> None:
    inputs = random_inputs(60)
    gap = np.random.default_rng(1).integers(-1, 2, 60).astype(float)
    found = predict(inputs, fit_gap(inputs, gap, ridge=1e12))
    assert np.corrcoef(found, inputs.raw)[0, 1] > 0.999999


def test_with_little_ridge_and_many_labels_the_base_router_matters_no_more() -> None:
    inputs = random_inputs(20_000)
    gap = inputs.surface[:, 0]
    found = predict(inputs, fit_gap(inputs, gap, ridge=1.0))
    assert np.corrcoef(found, gap)[0, 1] > 0.99


def test_no_prompt_is_predicted_by_a_fit_that_saw_it() -> None:
    """On pure noise, a fit that had seen a prompt would be right about it."""
    held_out, seen = [], []
    for seed in range(10):
        inputs = replace(random_inputs(120, seed, hidden=60), promise=0.0)
        gap = np.random.default_rng(seed + 99).normal(size=120)
        held_out.append(np.corrcoef(cross_validate(inputs, gap, 0.01, seed), gap)[0, 1])
        seen.append(np.corrcoef(predict(inputs, fit_gap(inputs, gap, 0.01)), gap)[0, 1])
    assert np.mean(seen) > 0.6
    assert abs(np.mean(held_out)) < 0.1


def test_too_few_prompts_are_refused(base: RouterCard, tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="29 labelled prompts; adapting needs at least 30"):
        adapt(traffic(29), AdaptSettings(base, tmp_path / "out", "mine"))
    assert not (tmp_path / "out").exists()


def test_thirty_are_enough(base: RouterCard, tmp_path: Path) -> None:
    done = adapt(traffic(30), AdaptSettings(base, tmp_path / "out", "mine"))
    assert done.card.description.endswith("adapted to 30 labelled prompts")
    assert done.after.n == 30


def test_models_that_never_differ_are_refused(base: RouterCard, tmp_path: Path) -> None:
    data = traffic(60)
    with pytest.raises(InvalidData, match="nothing to learn"):
        adapt(replace(data, weak=data.strong), AdaptSettings(base, tmp_path / "out", "mine"))


def test_without_onnx_the_extra_is_named(
    base: RouterCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        adapt(traffic(60), AdaptSettings(base, tmp_path / "out", "mine"))
    assert caught.value.package == "onnx"


def test_a_head_survives_the_file(base: RouterCard, tmp_path: Path) -> None:
    file = Path(str(base.directory)) / "router.onnx"
    head = read_head(file, NAMES)
    replace_head(file, replace(head, slope=2.0), tmp_path / "new.onnx")
    found = read_head(tmp_path / "new.onnx", NAMES)
    assert found.slope == 2.0
    assert (found.projection == head.projection).all()
    assert found.surface is not None
    assert found.surface.names == NAMES


def test_a_stranger_s_graph_has_no_head_of_ours(base: RouterCard, tmp_path: Path) -> None:
    import onnx

    file = Path(str(base.directory)) / "router.onnx"
    head, model = read_head(file, NAMES), onnx.load(str(file))
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("head.", "other.")
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(InvalidRouter, match="so it cannot be adapted"):
        read_head(tmp_path / "other.onnx", ())
    with pytest.raises(InvalidRouter, match="its head cannot be replaced"):
        replace_head(tmp_path / "other.onnx", head, tmp_path / "new.onnx")


@pytest.mark.parametrize("content", [None, b"\xff\xff\xff garbage"])
def test_a_file_that_is_no_graph(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "router.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidRouter):
        read_head(file, ())
