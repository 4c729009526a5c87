"""Codes with feedback: those that the published algorithm chooses, and a smaller error of the products."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.architectures.quantization import Quantization, quantization
from edge_router.compile.readers import open_weights
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.gptq import Gptq
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.quality import compare
from edge_router.compile.weights.quantize import packed, supported, unpacked
from edge_router.compile.weights.quantizers import weighted
from edge_router.compile.weights.samples import token_sequences
from edge_router.errors import WeightsCorrupt

Q4 = quantization("q4f16_1")
FORMATS = [quantization(name) for name in ("q4f16_1", "q4f32_1", "q3f16_1")]


def matrix(seed: int, rows: int = 6, columns: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (rows, columns)).astype(np.float32)


def inputs(seed: int, columns: int = 96) -> np.ndarray:
    """Of which some go together, as a model's do."""
    rng = np.random.default_rng(seed + 1)
    mixing = rng.normal(0, 1, (columns // 4, columns)) * np.exp(rng.normal(0, 1, columns))
    mixed = rng.normal(0, 1, (300, columns // 4)) @ mixing
    return (mixed + rng.normal(0, 0.3, mixed.shape)).astype(np.float32)


def covariance(seen: np.ndarray) -> np.ndarray:
    return seen.T @ seen / np.float32(len(seen))


def whole(weights: np.ndarray, form: Quantization) -> np.ndarray:
    """With zeros up to whole groups, as quantizers are given them."""
    columns = weights.shape[1]
    return np.pad(weights, ((0, 0), (0, form.groups(columns) * form.group - columns)))


def published(weights: np.ndarray, seen: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The paper's algorithm 1 with blocks of one column, in float64, for given scales."""
    hessian = covariance(seen).astype(np.float64)
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    left, codes = weights.astype(np.float64), np.empty(weights.shape, np.int64)
    for column in range(weights.shape[1]):
        scale = scales[:, column // 32].astype(np.float64)
        codes[:, column] = np.clip(np.rint(left[:, column] / scale), -7, 8) + 7
        error = (left[:, column] - (codes[:, column] - 7) * scale) / upper[column, column]
        left[:, column:] -= np.outer(error, upper[column, column:])
    return codes


@pytest.mark.parametrize("seed", range(5))
def test_the_codes_are_those_of_the_published_algorithm(seed: int) -> None:
    weights, seen = matrix(seed), inputs(seed)
    codes, scales = Gptq.of_covariance(covariance(seen), Q4)(weights, None, Q4)
    np.testing.assert_array_equal(codes, published(weights, seen, scales))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@given(seed=st.integers(0, 1000))
def test_products_are_met_better_than_by_choosing_each_code_alone(form: Quantization, seed: int) -> None:
    weights, seen = matrix(seed), inputs(seed)
    moments = whole((seen**2).mean(0, keepdims=True), form)[0]

    def error(codes: np.ndarray, scales: np.ndarray) -> float:
        return float((((unpacked(packed(codes, form), scales, form)[:, :96] - weights) @ seen.T) ** 2).sum())

    ours = error(*Gptq.of_covariance(covariance(seen), form)(whole(weights, form), None, form))
    assert ours < 0.8 * error(*weighted(whole(weights, form), moments, form))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_inputs_that_have_nothing_to_do_with_each_other_need_no_feedback(form: Quantization) -> None:
    moments = np.exp(np.random.default_rng(0).normal(0, 1, 96)).astype(np.float32)
    weights, counted = whole(matrix(2), form), whole(moments[None], form)[0]
    codes, scales = Gptq.of_covariance(np.diag(moments), form)(weights, None, form)
    each = np.repeat(scales.astype(np.float32), form.group, axis=1)
    alone = np.clip(np.rint(weights / each), -form.zero, form.zero + 1) + form.zero
    np.testing.assert_array_equal(codes, alone)

    def error(codes: np.ndarray, scales: np.ndarray) -> float:
        return float((counted * (unpacked(packed(codes, form), scales, form) - weights) ** 2).sum())

    assert error(codes, scales) < 1.03 * error(*weighted(weights, counted, form))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_common_factors_give_the_codes_of_the_covariance_that_they_make(form: Quantization) -> None:
    rng = np.random.default_rng(6)
    loadings = rng.normal(0, 1, (96, 10)).astype(np.float32)
    moments = ((loadings**2).sum(1) + np.exp(rng.normal(0, 1, 96))).astype(np.float32)
    made = loadings @ loadings.T
    np.fill_diagonal(made, moments)
    weights = whole(matrix(6, rows=37), form)
    codes, scales = Gptq.of_loadings(moments, loadings, form)(weights, None, form)
    expected, their_scales = Gptq.of_covariance(made, form)(weights, None, form)
    assert (codes != expected).mean() < 0.01  # both round, and a tie may fall either way
    np.testing.assert_allclose(scales.astype(np.float32), their_scales.astype(np.float32), rtol=0.02)


def test_a_tried_scale_counts_by_what_the_feedback_makes_of_it() -> None:
    weights, seen = matrix(8, rows=16, columns=32), inputs(8, 32)
    codes, scales = Gptq.of_covariance(covariance(seen), Q4)(weights, None, Q4)
    largest = np.take_along_axis(weights, np.abs(weights).argmax(1, keepdims=True), 1) / 8

    def lost(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
        missed = weights - (codes.astype(np.float32) - 7) * scales.astype(np.float32)
        return np.asarray(((missed @ seen.T) ** 2).sum(1))

    ours = lost(codes, scales)
    for share in (0.65, 0.8, 0.9, 1.0, 1.05):
        theirs = (largest * np.float32(share)).astype(np.float16)
        assert ours.sum() < lost(published(weights, seen, theirs), theirs).sum(), share


def test_the_rows_do_not_depend_on_each_other() -> None:
    choose, weights = Gptq.of_covariance(covariance(inputs(4)), Q4), matrix(4, 9)
    codes, scales = choose(weights, None, Q4)
    some, some_scales = choose(weights[4:6], None, Q4)
    np.testing.assert_array_equal(codes[4:6], some)
    np.testing.assert_array_equal(scales[4:6], some_scales)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_zeros_and_inputs_that_are_never_there(form: Quantization) -> None:
    weights = np.zeros((2, 96), np.float32)
    weights[1, 40] = 0.5
    seen = inputs(1)
    seen[:, 30:50] = 0
    for met in (seen, np.zeros_like(seen)):
        codes, scales = Gptq.of_covariance(covariance(met), form)(whole(weights, form), None, form)
        values = unpacked(packed(codes, form), scales, form)
        assert np.isfinite(values).all() and (values[0] == 0).all()


def write(source: Path, folder: Path, way: str, form: str = "q4f16_1") -> Any:
    folder.mkdir()
    reader = open_weights(source)
    write_model(
        reader, folder, config={}, form=supported(form), quantizer=way, activations=Activations(),
        windows=PackageWindows(128, 32),
    )  # fmt: skip
    reader.close()
    return open_weights(folder)


@pytest.fixture
def few_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_router.compile.weights.samples import documents

    kept = {name: [text[:160] for text in documents(name)[:5]] for name in ("calibration", "evaluation")}
    monkeypatch.setattr("edge_router.compile.weights.samples.documents", lambda name: kept[name])


@pytest.mark.parametrize("form", ["q4f16_1", "q3f16_1"])
def test_a_model_is_changed_less(form: str, tiny: Any, tmp_path: Path, few_documents: None) -> None:
    made = tiny.make(tmp_path / "made", seed=5, tied=False)
    reader = open_weights(made.folder)
    ways = ("gptq", "signed")
    others = [(way, write(made.folder, tmp_path / way, way, form)) for way in ways]
    _, ours, plain = compare(reader, others, token_sequences(reader, "evaluation"))
    assert ours.divergence < 0.9 * plain.divergence


def test_what_is_not_quantized_needs_no_text(
    tiny_llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("edge_router.compile.weights.prepare.token_sequences")
    back = write(tiny_llama.folder, tmp_path / "plain", "gptq", "q0f32")
    name = "model.layers.1.mlp.down_proj.weight"
    np.testing.assert_array_equal(back.rows(name), tiny_llama.tensors[name])


def test_weights_that_are_no_numbers_are_damage(
    tiny: Any, tiny_llama: Any, tmp_path: Path, few_documents: None
) -> None:
    broken = tiny_llama.tensors["model.layers.0.mlp.up_proj.weight"].copy()
    broken[3, 4] = np.nan
    tensors = {**tiny_llama.tensors, "model.layers.0.mlp.up_proj.weight": broken}
    tiny.write_gguf(tmp_path / "c.gguf", tiny_llama.config, tensors)
    with pytest.raises(WeightsCorrupt, match=r"infinities or NaN on the way to model.layers.0.mlp.down_proj"):
        write(tmp_path / "c.gguf", tmp_path / "m", "gptq")
