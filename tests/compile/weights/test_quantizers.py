"""Choosing codes and scales: MLC's rounding to the bit, and what the better ways promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.architectures.quantization import quantization
from edge_router.catalog.cards import QUANTIZERS
from edge_router.compile.weights.quantize import packed, unpacked
from edge_router.compile.weights.quantizers import quantizer, round_to_nearest, signed, weighted
from edge_router.errors import UnknownName

Q4 = quantization("q4f16_1")
SIMPLE = [name for name in QUANTIZERS if name != "gptq"]


def matrix(seed: int, rows: int = 6, columns: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.05, (rows, columns)) * rng.uniform(0.1, 4, (rows, 1))).astype(np.float32)


def restored(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The format's definition, element by element."""
    values = np.empty(codes.shape, np.float32)
    for row, column in np.ndindex(codes.shape):
        values[row, column] = (int(codes[row, column]) - 7) * float(scales[row, column // 32])
    return values


def error(
    way: Callable[..., tuple[np.ndarray, np.ndarray]], weights: np.ndarray, moments: np.ndarray
) -> float:
    return float((moments * (restored(*way(weights, moments, Q4)) - weights) ** 2).sum())


def mlc_rounding() -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """MLC's definition of q4f16_1 (quantization/group_quantization.py) as a tensor expression, run by TVM."""
    import tvm
    from tvm import te, tirx

    def run(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, k = weights.shape
        half = weights.astype(np.float16)
        w = te.placeholder((n, k), "float16", name="w")
        seven = tirx.const(7, "float16")
        r = te.reduce_axis((0, 32), name="r")
        largest = te.compute((n, k // 32), lambda i, g: te.max(te.abs(w[i, g * 32 + r]), axis=r))
        scale = te.compute((n, k // 32), lambda i, g: largest[i, g] / seven)
        code = te.compute(
            (n, k),
            lambda i, j: tirx.min(
                tirx.max(tirx.round(w[i, j] / scale[i, j // 32] + seven), tirx.const(0, "float16")),
                seven * tirx.const(2, "float16"),
            ).astype("uint32"),
        )
        e = te.reduce_axis((0, 8), name="e")
        word = te.compute(
            (n, k // 8),
            lambda i, j: te.sum(code[i, j * 8 + e] << (e * 4).astype("uint32"), axis=e),
        )
        function = tvm.compile(tvm.IRModule({"main": te.create_prim_func([w, word, scale])}), "llvm")
        words = tvm.runtime.tensor(np.zeros((n, k // 8), np.uint32))
        scales = tvm.runtime.tensor(np.zeros((n, k // 32), np.float16))
        function["main"](tvm.runtime.tensor(half), words, scales)
        return words.numpy(), scales.numpy()

    return run


def test_round_is_mlcs_own_to_the_bit() -> None:
    weights = np.concatenate([matrix(seed, 64, 96) for seed in range(4)])
    weights[3, :32] = np.linspace(-1, 1, 32)  # ties
    codes, scales = round_to_nearest(weights, None, Q4)
    words, expected = mlc_rounding()(weights)
    np.testing.assert_array_equal(scales, expected)
    np.testing.assert_array_equal(packed(codes, Q4), words)


def test_codes_are_packed_lowest_bits_first() -> None:
    codes = np.array([[1, 2, 3, 4, 5, 6, 7, 15]], np.uint8)
    assert packed(codes, Q4).tolist() == [[0xF7654321]]


@given(st.integers(0, 1000))
def test_unpacking_is_the_formats_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 16, (3, 96), dtype=np.uint8)
    scales = rng.normal(0, 1, (3, 3)).astype(np.float16)
    np.testing.assert_array_equal(unpacked(packed(codes, Q4), scales, Q4), restored(codes, scales))


@pytest.mark.parametrize("name", SIMPLE)
@given(seed=st.integers(0, 1000))
def test_every_way_stays_within_its_format(name: str, seed: int) -> None:
    weights = matrix(seed, 5, 96)
    codes, scales = quantizer(name)(weights, np.ones(96, np.float32), Q4)
    assert codes.shape == (5, 96) and codes.dtype == np.uint8 and codes.max() <= 15
    assert scales.shape == (5, 3) and scales.dtype == np.float16
    largest = np.abs(weights).reshape(5, 3, 32).max(-1).repeat(32, 1)
    assert (np.abs(restored(codes, scales) - weights) <= 0.2 * largest + 1e-6).all()


@pytest.mark.parametrize("name", SIMPLE)
def test_zeros_stay_zeros(name: str) -> None:
    weights = np.zeros((2, 64), np.float32)
    weights[1, 40] = 0.5
    values = restored(*quantizer(name)(weights, np.ones(64, np.float32), Q4))
    np.testing.assert_allclose(values, weights, atol=1e-3)
    assert (values[0] == 0).all()


@pytest.mark.parametrize("name", SIMPLE)
def test_the_rows_do_not_depend_on_each_other(name: str) -> None:
    weights, moments = matrix(1, 9, 64), np.linspace(0.1, 3, 64, dtype=np.float32)
    codes, scales = quantizer(name)(weights, moments, Q4)
    some, some_scales = quantizer(name)(weights[4:6], moments, Q4)
    np.testing.assert_array_equal(codes[4:6], some)
    np.testing.assert_array_equal(scales[4:6], some_scales)


def test_signed_meets_the_largest_weight_exactly() -> None:
    weights = np.full((1, 32), 0.1, np.float32)
    weights[0, 5] = -0.8
    codes, scales = signed(weights, None, Q4)
    assert codes[0, 5] == 15 and scales[0, 0] == np.float16(-0.1)
    assert restored(codes, scales)[0, 5] == pytest.approx(-0.8, rel=1e-3)


@given(seed=st.integers(0, 1000))
def test_weighted_has_the_least_weighted_error(seed: int) -> None:
    weights = matrix(seed, 8, 64)
    moments = np.random.default_rng(seed).exponential(1, 64).astype(np.float32) ** 2
    ours = error(weighted, weights, moments)
    assert ours <= error(signed, weights, moments) * 1.001
    assert ours <= error(round_to_nearest, weights, moments)


def test_weighted_spends_its_codes_where_the_activations_are() -> None:
    """One column carries everything: it is met almost exactly, whatever the largest weight is."""
    weights, moments = matrix(3, 4, 32), np.full(32, 1e-6, np.float32)
    moments[7] = 1.0
    difference = np.abs(restored(*weighted(weights, moments, Q4)) - weights)[:, 7]
    assert (difference <= 0.002 * np.abs(weights).max()).all()


def test_weighted_without_moments_is_signed() -> None:
    weights = matrix(2)
    for ours, theirs in zip(weighted(weights, None, Q4), signed(weights, None, Q4), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_unknown_quantizer_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="nearest: weighted"):
        quantizer("weigthed")
