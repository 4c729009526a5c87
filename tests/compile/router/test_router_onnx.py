"""The graph against plain numpy: BERT's arithmetic, written out once more from the paper."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_router.compile.router.graph import (
    FactorHead,
    GraphSpec,
    Precision,
    Surface,
    build_router,
    quantize_rows,
)
from edge_router.routing.routers.graph import METADATA_KEY
from edge_router.routing.routers.tokens import Cut
from edge_router.system.telemetry import load_onnxruntime

onnxruntime = load_onnxruntime()
Arrays = dict[str, np.ndarray]
SPEC = GraphSpec(layers=2, heads=2, epsilon=1e-12, cut=Cut(32, 8, without_options=True))
IDS = np.array([[2, 6, 8, 4, 10, 3], [2, 5, 3, 0, 0, 0]], np.int64)
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], np.int64)


@pytest.fixture(scope="module")
def arrays(tiny_encoder: Path) -> Arrays:
    from safetensors.numpy import load_file

    return load_file(tiny_encoder / "model.safetensors")


@pytest.fixture(scope="module")
def head() -> FactorHead:
    rng = np.random.default_rng(3)
    surface = Surface(("lines", "numbers"), np.array([0.5, 1.0]), np.array([2.0, 0.5]), np.array([0.3, -0.2]))
    vectors = rng.normal(size=4), rng.normal(size=4)
    return FactorHead(rng.normal(size=(16, 4)), *vectors, surface=surface, slope=0.7, intercept=-0.2)


def norm(x: np.ndarray, arrays: Arrays, name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return scaled * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]


def linear(x: np.ndarray, arrays: Arrays, name: str) -> np.ndarray:
    return x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"]


def reference_embedding(ids: np.ndarray, arrays: Arrays) -> np.ndarray:
    """One text without padding: [hidden]."""
    x = (
        arrays["embeddings.word_embeddings.weight"][ids]
        + arrays["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x + arrays["embeddings.position_embeddings.weight"][: len(ids)], arrays, "embeddings.LayerNorm")
    erf = np.vectorize(math.erf)
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        q, k, v = (linear(x, arrays, f"{layer}.attention.self.{p}") for p in ("query", "key", "value"))
        mixed = []
        for h in (slice(0, 8), slice(8, 16)):
            weights = np.exp(q[:, h] @ k[:, h].T / math.sqrt(8))
            mixed.append(weights / weights.sum(-1, keepdims=True) @ v[:, h])
        attended = linear(np.concatenate(mixed, -1), arrays, f"{layer}.attention.output.dense")
        x = norm(attended + x, arrays, f"{layer}.attention.output.LayerNorm")
        wide = linear(x, arrays, f"{layer}.intermediate.dense")
        wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
        x = norm(linear(wide, arrays, f"{layer}.output.dense") + x, arrays, f"{layer}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def reference_score(embedding: np.ndarray, head: FactorHead, features: np.ndarray) -> float:
    factors = embedding @ head.projection
    raw = factors @ head.strong_vector - factors @ head.weak_vector
    if head.surface:
        scaled = np.clip((features - head.surface.mean) / head.surface.scale, -3, 3)
        raw += scaled @ head.surface.weights
    return float(1 / (1 + np.exp(-(head.slope * raw + head.intercept))))


def session(file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


@pytest.fixture
def build(arrays: Arrays, head: FactorHead, tmp_path: Path) -> Any:
    def make(precision: Precision = "float32", with_head: FactorHead = head) -> Any:
        file = tmp_path / f"{precision}.onnx"
        build_router(arrays, with_head, SPEC, file, precision)
        return session(file)

    return make


def test_float32_is_the_papers_arithmetic(build: Any, arrays: Arrays, head: FactorHead) -> None:
    features = np.array([[1.0, 2.0], [0.0, 50.0]], np.float32)
    feed = {"input_ids": IDS, "attention_mask": MASK, "surface": features}
    scores, embeddings = build().run(["score", "embedding"], feed)
    for row, length in enumerate(MASK.sum(1)):
        wanted = reference_embedding(IDS[row, :length], arrays)
        assert embeddings[row] == pytest.approx(wanted, abs=2e-6)
        assert scores[row] == pytest.approx(reference_score(wanted, head, features[row]), abs=2e-6)


def test_int8_stays_near_float32(build: Any) -> None:
    feed = {"input_ids": IDS, "attention_mask": MASK}
    wanted, exact = build("float32").run(["score", "embedding"], feed)
    found, rounded = build("int8").run(["score", "embedding"], feed)
    assert (exact * rounded).sum(1).min() > 0.995
    assert found == pytest.approx(wanted, abs=0.05)


@pytest.mark.parametrize("below", [1, 2])
def test_two_graphs_one_after_the_other_are_the_whole(
    build: Any, arrays: Arrays, head: FactorHead, tmp_path: Path, below: int
) -> None:
    lower, upper = tmp_path / "lower.onnx", tmp_path / "upper.onnx"
    build_router(arrays, head, replace(SPEC, layers=below), lower, "float32")
    build_router(arrays, head, replace(SPEC, below=below), upper, "float32")
    feed = {"input_ids": IDS, "attention_mask": MASK}
    (hidden,) = session(lower).run(["hidden"], feed)
    assert hidden.shape == (*IDS.shape, 16)
    found = session(upper).run(["score", "embedding"], {"hidden": hidden, "attention_mask": MASK})
    for ours, wanted in zip(found, build().run(["score", "embedding"], feed), strict=True):
        assert ours == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_surface_features_may_be_left_out(build: Any, head: FactorHead, precision: Precision) -> None:
    assert head.surface is not None
    feed = {"input_ids": IDS, "attention_mask": MASK}
    mean = head.surface.mean.astype(np.float32)[None]
    router = build(precision)
    assert [i.name for i in router.get_inputs()] == ["input_ids", "attention_mask"]
    left_out, at_the_mean = (
        router.run(["score"], feed)[0],
        router.run(["score"], {**feed, "surface": mean})[0],
    )
    assert left_out == pytest.approx(at_the_mean)


def test_one_feature_alone_never_decides(build: Any) -> None:
    feed = {"input_ids": IDS, "attention_mask": MASK}
    far, farther = (np.array([[x, 1.0]], np.float32) for x in (1e3, 1e9))
    one, other = (build().run(["score"], {**feed, "surface": value})[0] for value in (far, farther))
    assert one == pytest.approx(other)
    assert (one < 1).all()


def test_a_head_without_surface_features(build: Any, arrays: Arrays, head: FactorHead) -> None:
    from dataclasses import replace

    bare = replace(head, surface=None)
    router = build("float32", bare)
    assert not router.get_overridable_initializers()
    found = router.run(["score"], {"input_ids": IDS[:1], "attention_mask": MASK[:1]})[0]
    wanted = reference_score(reference_embedding(IDS[0], arrays), bare, np.zeros(0))
    assert found[0] == pytest.approx(wanted, abs=2e-6)


def test_the_file_says_how_to_feed_it(build: Any) -> None:
    text = build().get_modelmeta().custom_metadata_map[METADATA_KEY]
    assert json.loads(text) == {
        "format": 1,
        "max_tokens": 32,
        "tail_tokens": 8,
        "without_options": True,
        "surface": ["lines", "numbers"],
        "precision": "float32",
    }


def test_the_same_input_gives_the_same_bytes(arrays: Arrays, head: FactorHead, tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        build_router(arrays, head, SPEC, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


@given(hnp.arrays(np.float32, (3, 7), elements=st.floats(-100, 100, width=32)))
def test_quantization_errs_by_half_a_step_at_most(weight: np.ndarray) -> None:
    values, scale = quantize_rows(weight)
    assert values.dtype == np.int8
    assert np.abs(values).max() <= 63
    error = np.abs(values * scale[:, None] - weight)
    assert (error <= 0.5001 * scale[:, None] + 1e-12).all()
