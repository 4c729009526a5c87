"""Products with quantized matrices, and rows looked up in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.compile.webgpu.shaders.matfew import matfew
from edge_router.compile.webgpu.shaders.matmul import MatMul, matmul
from edge_router.compile.webgpu.shaders.matvec import Gate, Layout, MatVec, matvec
from edge_router.compile.webgpu.shaders.rows import Table, take
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.webgpu_program import ROW_WORDS

CLOSE = {"rtol": 1e-4, "atol": 2e-4}
ODD = [(32, 5), (64, 64), (96, 7), (576, 40), (160, 100), (1536, 33)]  # inputs, outputs


@pytest.mark.parametrize(("inputs", "outputs"), ODD)
@pytest.mark.parametrize("norm", [None, 1e-5])
@pytest.mark.parametrize("residual", [False, True])
def test_one_row(
    run: Any, quantized: Any, inputs: int, outputs: int, norm: float | None, residual: bool
) -> None:
    matrix, rng = quantized(outputs, inputs, 0), np.random.default_rng(1)
    x, weight, added = (rng.normal(size=size).astype(np.float32) for size in (inputs, inputs, outputs))
    given = [x, *([weight] if norm else []), *matrix.arrays, *([added] if residual else [])]
    shape = MatVec(inputs, outputs, norm=norm, residual=residual)
    found = run(matvec(shape), [*given, np.zeros(outputs, np.float32)])
    source = x * weight / np.sqrt((x.astype(np.float64) ** 2).mean() + norm) if norm else x
    np.testing.assert_allclose(found, matrix.values @ source + (added if residual else 0), **CLOSE)


@pytest.mark.parametrize(("inputs", "outputs"), ODD)
@pytest.mark.parametrize("norm", [None, 1e-5])
@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_a_few_rows(run: Any, quantized: Any, inputs: int, outputs: int, n: int, norm: float | None) -> None:
    matrix, rng = quantized(outputs, inputs, 15), np.random.default_rng(16)
    x, added = (
        rng.normal(size=(n, inputs)).astype(np.float32),
        rng.normal(size=(n, outputs)).astype(np.float32),
    )
    weight = rng.normal(size=inputs).astype(np.float32)
    given = [x, *([weight] if norm else []), *matrix.arrays, added]
    shader = matfew(MatVec(inputs, outputs, norm=norm, residual=True))
    found = run(shader, [*given, np.zeros((n, outputs), np.float32)], n=n)
    mean = (x.astype(np.float64) ** 2).mean(-1, keepdims=True)
    source = x * weight / np.sqrt(mean + norm) if norm else x
    np.testing.assert_allclose(found, source @ matrix.values.T + added, **CLOSE)


@pytest.mark.parametrize("gate", ["silu", "gelu_tanh"])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 48), (96, 6), (576, 30)])
def test_one_row_through_a_gate(
    run: Any, quantized: Any, gates: Any, inputs: int, outputs: int, gate: Any
) -> None:
    matrix = quantized(2 * outputs, inputs, 2)
    x = np.random.default_rng(3).normal(size=inputs).astype(np.float32)
    shape = MatVec(inputs, outputs, gate=gate)
    found = run(matvec(shape), [x, *matrix.arrays, np.zeros(outputs, np.float32)])
    few = run(matfew(shape), [np.stack([x, -x]), *matrix.arrays, np.zeros((2, outputs), np.float32)], n=2)
    np.testing.assert_allclose(few[0], found, **CLOSE)
    up_and_down = matrix.values @ x
    np.testing.assert_allclose(found, gates[gate](up_and_down[:outputs]) * up_and_down[outputs:], **CLOSE)


@pytest.mark.parametrize(
    "layout", [Layout(64, 4, 1), Layout(64, 32, 4), Layout(128, 16, 2), Layout(256, 8, 4)]
)
def test_every_layout_gives_the_same(run: Any, quantized: Any, layout: Layout) -> None:
    matrix = quantized(50, 256, 4)
    x = np.random.default_rng(5).normal(size=256).astype(np.float32)
    found = run(matvec(MatVec(256, 50), layout), [x, *matrix.arrays, np.zeros(50, np.float32)])
    np.testing.assert_allclose(found, matrix.values @ x, **CLOSE)


def test_layouts_leave_few_lanes_idle_and_make_many_blocks() -> None:
    for inputs, outputs in [(576, 960), (576, 49152), (4096, 14336), (2048, 128256), (1536, 576)]:
        layout = Layout.of(MatVec(inputs, outputs))
        groups = inputs // 32
        assert groups / (-(-groups // layout.lanes) * layout.lanes) >= 0.75
        assert outputs // layout.outputs >= min(256, outputs // 16)


def test_a_bias(run: Any, quantized: Any) -> None:
    matrix, rng = quantized(24, 64, 6), np.random.default_rng(7)
    x, bias = rng.normal(size=64).astype(np.float32), rng.normal(size=24).astype(np.float32)
    many = np.stack([x, 2 * x])
    few = run(
        matfew(MatVec(64, 24, bias=True)), [many, *matrix.arrays, bias, np.zeros((2, 24), np.float32)], n=2
    )
    np.testing.assert_allclose(few, many @ matrix.values.T + bias, **CLOSE)
    one = run(matvec(MatVec(64, 24, bias=True)), [x, *matrix.arrays, bias, np.zeros(24, np.float32)])
    np.testing.assert_allclose(one, matrix.values @ x + bias, **CLOSE)
    shader = matmul(MatMul(64, 24, bias=True))
    two = run(shader, [many, *matrix.arrays, bias, np.zeros((2, 24), np.float32)], n=2)
    np.testing.assert_allclose(two, many @ matrix.values.T + bias, **CLOSE)


@pytest.mark.parametrize("tile", [16, 32, 64])
@pytest.mark.parametrize(("inputs", "outputs"), ODD)
@pytest.mark.parametrize("n", [1, 16, 37, 65])
def test_many_rows(run: Any, quantized: Any, inputs: int, outputs: int, n: int, tile: int) -> None:
    matrix, rng = quantized(outputs, inputs, 8), np.random.default_rng(9)
    x = rng.normal(size=(n, inputs)).astype(np.float32)
    added = rng.normal(size=(n, outputs)).astype(np.float32)
    shader = matmul(MatMul(inputs, outputs, rows=tile, residual=True))
    found = run(shader, [x, *matrix.arrays, added, np.zeros((n, outputs), np.float32)], n=n)
    np.testing.assert_allclose(found, x @ matrix.values.T + added, **CLOSE)


@pytest.mark.parametrize("gate", [None, "silu"])
def test_float16(run: Any, quantized: Any, gates: Any, adapter: Adapter, gate: Gate | None) -> None:
    """Of a normalised input: 32 columns are added up in float16, the rest in float32."""
    if not adapter.has_float16:
        pytest.skip(f"{adapter} has no float16 arithmetic")
    matrix, n = quantized(2 * 75, 576, 20), 70
    x = np.random.default_rng(21).normal(size=(n, 576)).astype(np.float32)
    outputs = 75 if gate else 150
    shader = matmul(MatMul(576, outputs, gate=gate, half=True))
    found = run(shader, [x, *matrix.arrays, np.zeros((n, outputs), np.float32)], n=n)
    wanted = x @ matrix.values.T
    if gate:
        wanted = gates["silu"](wanted[:, :75]) * wanted[:, 75:]
    off = np.abs(found - wanted).max() / wanted.std()
    assert 1e-5 < off < 0.02  # float32 would be nearer


@pytest.mark.parametrize("tile", [16, 64])
@pytest.mark.parametrize("outputs", [6, 32, 75])
def test_many_rows_through_a_gate(run: Any, quantized: Any, gates: Any, outputs: int, tile: int) -> None:
    matrix, n = quantized(2 * outputs, 96, 10), 19
    x = np.random.default_rng(11).normal(size=(n, 96)).astype(np.float32)
    shader = matmul(MatMul(96, outputs, rows=tile, gate="silu"))
    found = run(shader, [x, *matrix.arrays, np.zeros((n, outputs), np.float32)], n=n)
    both = x @ matrix.values.T
    np.testing.assert_allclose(found, gates["silu"](both[:, :outputs]) * both[:, outputs:], **CLOSE)


def test_rows_looked_up(run: Any, quantized: Any) -> None:
    table, tokens = quantized(40, 160, 12), [39, 0, 7, 7]
    control = np.zeros((4, ROW_WORDS), np.uint32)
    control[:, 0] = tokens
    found = run(take(Table(160, 40)), [control, *table.arrays, np.zeros((4, 160), np.float32)], n=4)
    np.testing.assert_allclose(found, table.values[tokens], **CLOSE)


def test_a_table_in_parts_is_the_table(run: Any, quantized: Any) -> None:
    """Looking up, one row and many rows: each part adds what it has to one output."""
    matrix, rng, spans = quantized(50, 64, 13), np.random.default_rng(14), [(0, 20), (20, 40), (40, 50)]
    x = rng.normal(size=(3, 64)).astype(np.float32)
    control = np.zeros((3, ROW_WORDS), np.uint32)
    control[:, 0] = tokens = [45, 3, 20]
    rows, one, few, many = (np.zeros(shape, np.float32) for shape in ((3, 64), (50,), (3, 50), (3, 50)))
    for first, last in spans:
        part, size = matrix.part(first, last), last - first
        run(take(Table(64, size, first)), [control, *part, rows], n=3)
        run(matvec(MatVec(64, size, first=first)), [x[0].copy(), *part, one])
        run(matfew(MatVec(64, size, first=first), stride=50), [x, *part, few], n=3)
        run(matmul(MatMul(64, size, first=first, stride=50)), [x, *part, many], n=3)
    np.testing.assert_allclose(rows, matrix.values[tokens], **CLOSE)
    np.testing.assert_allclose(one, matrix.values @ x[0], **CLOSE)
    np.testing.assert_allclose(few, x @ matrix.values.T, **CLOSE)
    np.testing.assert_allclose(many, x @ matrix.values.T, **CLOSE)


def test_names_tell_shaders_apart() -> None:
    shapes = [
        MatVec(64, 32),
        MatVec(64, 32, norm=1e-5),
        MatVec(64, 32, gate="silu"),
        MatVec(64, 32, gate="gelu_tanh"),
        MatVec(64, 32, bias=True),
        MatVec(64, 32, residual=True),
        MatVec(64, 32, first=8),
    ]
    many = [
        MatMul(64, 32),
        MatMul(64, 32, rows=16),
        MatMul(64, 32, first=8, stride=64),
        MatMul(64, 32, bias=True),
    ]
    names = [*(shape.name for shape in shapes), *(shape.name for shape in many)]
    assert len(set(names)) == len(names)
