"""Products with matrices in each format and rows looked up, on the emulated GPU against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.shapes import Linear
from edge_router.compile.kernels.stored import Stored

FORMATS = {
    "q4f16_1": Stored(),
    "q4f32_1": Stored("float32"),
    "q4f16_0": Stored(transposed=True),
    "q3f16_1": Stored(bits=3, group=40),
    "q3f16_0": Stored(bits=3, group=40, transposed=True),
    "q0f16": Stored(bits=None, group=1),
}
EXACT, ROUNDED = 1e-5, 2e-3  # of the largest result: float32 throughout, or float16 through tensor cores


class Matrix:
    """Random codes and scales as they are stored, and the numbers they mean."""

    def __init__(self, rng: np.random.Generator, stored: Stored, outputs: int, inputs: int) -> None:
        if stored.bits is None:
            self.values = rng.normal(0, 0.1, (outputs, inputs)).astype(stored.dtype).astype("f4")
            self.arrays = [self.values.astype(stored.dtype)]
            return
        groups, each = stored.groups(inputs), stored.per_word
        codes = rng.integers(0, 1 << stored.bits, (outputs, groups * stored.group)).astype("u4")
        scales = rng.uniform(-0.02, 0.02, (outputs, groups)).astype(stored.dtype)
        words = sum(codes[:, j::each] << np.uint32(stored.bits * j) for j in range(each))
        numbers = codes.astype("f4") - stored.offset
        self.values = (numbers * np.repeat(scales.astype("f4"), stored.group, axis=1))[:, :inputs]
        self.arrays = [np.ascontiguousarray(a.T) if stored.transposed else a for a in (words, scales)]


def slow_but(values: list[Any], *quick: Any) -> list[Any]:
    """All of them as parameters, of which only some are tested each time."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]


def gated(product: np.ndarray) -> np.ndarray:
    gate, up = np.split(product, 2, axis=1)
    return gate / (1 + np.exp(-gate)) * up


# 102 columns are no multiple of any tile, 1,088 inputs are more than one step for each way of multiplying
@pytest.mark.parametrize("name", slow_but(list(FORMATS), "q4f16_1"))
@pytest.mark.parametrize(("rows", "fixed"), [(1, True), (3, False), (21, False), (150, False)])
def test_products(gpu: Any, rng: np.random.Generator, name: str, rows: int, fixed: bool) -> None:
    stored, inputs, outputs = FORMATS[name], 1088, 102
    matrix = Matrix(rng, stored, outputs, inputs)
    x = rng.normal(0, 1, (rows, inputs)).astype("f4")
    bias = rng.normal(0, 1, outputs).astype(stored.dtype)
    added = rng.normal(0, 1, (rows, outputs)).astype("f4")
    wanted = x @ matrix.values.T + bias.astype("f4") + added
    made_of = Linear(
        inputs, outputs, rows if fixed else None, "float32", "float32", add=True, bias=True, stored=stored
    )
    for tensor_cores in {False, rows > 8}:
        y = np.full_like(wanted, np.nan)
        gpu.run("linear", [made_of], x, *matrix.arrays, bias, added, y, tensor_cores=tensor_cores)
        tolerance = ROUNDED if tensor_cores else EXACT
        assert np.abs(y - wanted).max() < tolerance * np.abs(wanted).max(), tensor_cores


@pytest.mark.parametrize(("rows", "tensor_cores"), [(1, False), (5, False), (70, False), (70, True)])
def test_gate_and_up(
    gpu: Any, backwards: Any, rng: np.random.Generator, rows: int, tensor_cores: bool
) -> None:
    matrix = Matrix(rng, Stored(), 150, 96)
    x = rng.normal(0, 1, (rows, 96)).astype("f2")
    wanted, found = gated(x.astype("f4") @ matrix.values.T), []
    made_of = Linear(96, 150, None, "float16", "float16", gated=True)
    for device in (gpu, backwards):
        y = np.full((rows, 75), np.nan, "f2")
        device.run("linear", [made_of], x, *matrix.arrays, y, tensor_cores=tensor_cores)
        assert np.abs(y - wanted).max() < ROUNDED * np.abs(wanted).max()
        found.append(y)
    assert np.array_equal(*found)


def test_what_float16_cannot_hold_becomes_the_largest_it_can(gpu: Any, rng: np.random.Generator) -> None:
    matrix = Matrix(rng, Stored(), 64, 64)
    x = np.full((20, 64), 1e6, "f4")
    y = np.zeros((20, 64), "f4")
    gpu.run("linear", [Linear(64, 64, None, "float32", "float32")], x, *matrix.arrays, y, tensor_cores=True)
    wanted = 65504 * matrix.values.sum(1)
    assert np.allclose(y, wanted, rtol=0.01, atol=1e-2 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["q4f16_1", "q3f16_1", "q0f16"])
def test_lookup(gpu: Any, rng: np.random.Generator, name: str) -> None:
    matrix, ids = Matrix(rng, FORMATS[name], 50, 608), np.int32([3, 49, 0])
    y = np.full((3, 608), np.nan, "f2")
    gpu.run("lookup", [50, 608, "float16", FORMATS[name]], *matrix.arrays, ids, y)
    assert np.allclose(y, matrix.values[ids], rtol=1e-3, atol=1e-5)
