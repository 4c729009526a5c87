"""Products with matrices in each format and rows looked up, against numpy on random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.architectures.quantization import quantization
from edge_router.compile.kernels.activations import Piece, pieces
from edge_router.compile.kernels.isa import Dot
from edge_router.compile.kernels.linear import linear, lookup
from edge_router.compile.kernels.shapes import Linear
from edge_router.compile.kernels.stored import Stored

EVERY_DOT = True


FORMATS = {
    name: Stored.of(quantization(name), "linear")
    for name in ("q0f16", "q0f32", "q3f16_0", "q3f16_1", "q4f16_0", "q4f16_1", "q4f32_1")
}


class Matrix:
    """A random matrix as it is stored, with every code and scales of both signs, and its `values`."""

    def __init__(
        self, rng: np.random.Generator, rows: int, columns: int, stored: Stored = FORMATS["q4f16_1"]
    ) -> None:
        self.stored = stored
        if stored.bits is None:
            plain = rng.normal(0, 0.1, (rows, columns)).astype(stored.dtype)
            self.arrays, self.values = [plain], plain.astype("f4")
            return
        groups, each = stored.groups(columns), stored.per_word
        codes = rng.integers(0, 1 << stored.bits, (rows, groups * stored.group)).astype("u4")
        self.scales = rng.uniform(-0.02, 0.02, (rows, groups)).astype(stored.dtype)
        self.words = sum(codes[:, j::each] << np.uint32(stored.bits * j) for j in range(each))
        spread = np.repeat(self.scales.astype("f4"), stored.group, axis=1)
        self.values = ((codes.astype("f4") - stored.offset) * spread)[:, :columns]
        self.arrays = [self.words, self.scales]
        if stored.transposed:
            self.arrays = [np.ascontiguousarray(array.T) for array in self.arrays]


def product(x: np.ndarray, matrix: Matrix, *, gated: bool = False) -> np.ndarray:
    found: np.ndarray = x @ matrix.values.T
    if gated:
        gate, up = np.split(found, 2, axis=1)
        found = gate / (1 + np.exp(-gate)) * up
    return found


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> bool:
    return bool(np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max())


# 102 and 51 are no multiples of any vector; 608 columns are 76 words: vectors of 16, 8 and 4; 40 a group and more.
@pytest.mark.parametrize(("outputs", "inputs"), [(102, 608), (34, 40)])
@pytest.mark.parametrize("kind", ["plain", "add", "gated"])
def test_products(machine: Any, rng: np.random.Generator, outputs: int, inputs: int, kind: str) -> None:
    matrix = Matrix(rng, outputs, inputs)
    kwargs = {"add": kind == "add", "gated": kind == "gated"}
    one = machine.compile(linear(machine.isa, Linear(inputs, outputs, 1, "float32", "float32", **kwargs)))
    any_ = machine.compile(linear(machine.isa, Linear(inputs, outputs, None, "float32", "float32", **kwargs)))
    for rows, run in [(1, one), (1, any_), (2, any_), (7, any_), (8, any_), (9, any_), (37, any_)]:
        x = rng.normal(0, 1, (rows, inputs)).astype("f4")
        wanted = [product(taken, matrix, gated=kind == "gated") for taken in machine.taken(x)]
        extra = [rng.normal(0, 1, wanted[0].shape).astype("f4")] if kind == "add" else []
        y = np.zeros_like(wanted[0])
        run(x, *matrix.arrays, *extra, y)
        assert any(close(y, values + sum(extra)) for values in wanted), rows


def test_float16_in_and_out(machine: Any, rng: np.random.Generator) -> None:
    matrix = Matrix(rng, 64, 64)
    run = machine.compile(linear(machine.isa, Linear(64, 64, None, "float16", "float16")))
    x = rng.normal(0, 1, (11, 64)).astype("f2")
    y = np.zeros((11, 64), "f2")
    run(x, *matrix.arrays, y)
    assert any(close(y.astype("f4"), product(taken, matrix), 1e-3) for taken in machine.taken(x))


def test_an_outlier_costs_only_its_own_group_precision(machine: Any, rng: np.random.Generator) -> None:
    matrix = Matrix(rng, 16, 128)
    matrix.scales[:, 0], matrix.values[:, :32] = 0, 0
    run = machine.compile(linear(machine.isa, Linear(128, 16, 1, "float32", "float32")))
    x = rng.normal(0, 1, (1, 128)).astype("f4")
    x[0, 5] = 3e4
    y = np.zeros((1, 16), "f4")
    run(x, *matrix.arrays, y)
    assert close(y, product(x, matrix), 1e-4 if machine.finest else 0.02)


def test_few_rows_keep_sixteen_bits_where_memory_sets_the_pace(
    machine: Any, rng: np.random.Generator
) -> None:
    matrix = Matrix(rng, 64, 608)
    run = machine.compile(linear(machine.isa, Linear(608, 64, None, "float32", "float32")))
    errors = {}
    for rows in (2, 37):
        x, y = rng.normal(0, 1, (rows, 608)).astype("f4"), np.zeros((rows, 64), "f4")
        run(x, *matrix.arrays, y)
        wanted = product(x, matrix)
        errors[rows] = float(np.abs(y - wanted).max() / np.abs(wanted).max())
    assert errors[2] < (1e-4 if machine.finest else 0.02)
    assert (1e-4 if machine.isa.dot is Dot.FLOAT or not machine.isa.bytes else 0.02) > errors[37]


def test_a_row_of_zeros_gives_zeros(machine: Any, rng: np.random.Generator) -> None:
    matrix = Matrix(rng, 32, 64)
    run = machine.compile(linear(machine.isa, Linear(64, 32, None, "float32", "float32")))
    y = np.ones((12, 32), "f4")
    run(np.zeros((12, 64), "f4"), *matrix.arrays, y)
    assert not y.any()


# 616 columns are 15.4 groups of 40, 19.25 of 32; 24 outputs are fewer than a strip has on most machines
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "q4f16_1"])
def test_products_in_every_format(machine: Any, rng: np.random.Generator, name: str) -> None:
    stored = FORMATS[name]
    if stored.bits != 4 and machine.name not in ("pairs512", "avx2", "plain", "float", "host"):
        pytest.skip("it multiplies floats, as the other machine with vectors of 512 bits does")
    for outputs, inputs, gated in [(102, 616, False), (24, 72, True)]:
        matrix = Matrix(rng, outputs, inputs, stored)
        shape = Linear(inputs, outputs, None, "float32", "float32", gated=gated, stored=stored)
        run = machine.compile(linear(machine.isa, shape))
        for rows in (1, 8, 13):
            x = rng.normal(0, 1, (rows, inputs)).astype("f4")
            taken = machine.taken(x) if stored.bits == 4 else [x]
            wanted = [product(values, matrix, gated=gated) for values in taken]
            y = np.zeros_like(wanted[0])
            run(x, *matrix.arrays, y)
            assert any(close(y, values) for values in wanted), (rows, outputs)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", [name for name, stored in FORMATS.items() if not stored.transposed])
def test_lookup(machine: Any, rng: np.random.Generator, name: str, dtype: str) -> None:
    matrix = Matrix(rng, 301, 96, FORMATS[name])
    ids = rng.integers(0, 301, 9).astype("i4")
    y = np.zeros((9, 96), dtype)
    machine.compile(lookup(machine.isa, 301, 96, dtype, FORMATS[name]))(*matrix.arrays, ids, y)
    assert np.array_equal(y, matrix.values[ids].astype(dtype))


@given(st.integers(1, 600), st.sampled_from([4, 8, 16]))
def test_pieces_cover_a_row_once(groups: int, lanes: int) -> None:
    found = pieces(4 * groups, lanes)
    places = [p.start + i for p in found for i in range(p.blocks * p.lanes)]
    assert places == list(range(4 * groups))
    assert all(p.lanes >= 4 and isinstance(p, Piece) for p in found)
