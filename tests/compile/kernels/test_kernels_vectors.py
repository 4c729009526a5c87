"""Arithmetic on vectors, against numpy in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.ir import bind, kernel, load, serial, store
from edge_router.compile.kernels.isa import Dot, Isa
from edge_router.compile.kernels.vectors import (
    exp2,
    from_float,
    log2,
    silu,
    sine_cosine,
    spread,
    to_float,
    totals,
    transposed,
)


def mapped(machine: Any, function: Callable[[Any], Any], x: np.ndarray, dtype: str = "float32") -> np.ndarray:
    """`function` of each vector of `x`."""
    lanes = machine.isa.lanes
    x = np.resize(x, -(-len(x) // lanes) * lanes)
    with kernel("mapped", public=True) as k:
        size = k.size()
        a, b = k.tensor("x", (size,), str(x.dtype)), k.tensor("y", (size,), dtype)
        with serial(size // lanes) as i:
            store(b, function(load(a, i * lanes, lanes=lanes)), i * lanes)
    y = np.zeros(x.shape, dtype)
    machine.compile(k.function)(x, y)
    return y


def test_exp2_is_exact_to_float32(machine: Any) -> None:
    x = np.linspace(-126, 126, 4096).astype("f4")
    assert np.allclose(mapped(machine, exp2, x), np.exp2(x.astype("f8")), rtol=2e-7, atol=0)


def test_exp2_of_a_masked_score_vanishes(machine: Any) -> None:
    assert mapped(machine, exp2, np.array([-5e4, -1e9], "f4")).max() < 1.2e-38


def test_log2(machine: Any, rng: np.random.Generator) -> None:
    x = np.exp(rng.uniform(-60, 60, 4096)).astype("f4")
    assert np.abs(mapped(machine, log2, x) - np.log2(x.astype("f8"))).max() < 1e-5


def test_sine_and_cosine_of_far_positions(machine: Any, rng: np.random.Generator) -> None:
    x = np.concatenate([np.linspace(-8, 8, 512), rng.uniform(0, 1e5, 4096)]).astype("f4")
    assert (
        np.abs(mapped(machine, lambda v: sine_cosine(v)[0], x) - np.sin(x.astype("f8"))[: len(x)]).max()
        < 1e-6
    )
    assert (
        np.abs(mapped(machine, lambda v: sine_cosine(v)[1], x) - np.cos(x.astype("f8"))[: len(x)]).max()
        < 1e-6
    )


def test_silu(machine: Any) -> None:
    x = np.linspace(-200, 200, 4096).astype("f4")
    wanted = x / (1 + np.exp(-x.astype("f8")))
    assert np.abs(mapped(machine, silu, x) - wanted).max() < 2e-5


def soft(machine: Any) -> Isa:
    """The instruction set without conversions of float16."""
    return Isa(machine.isa.lanes, machine.isa.registers, Dot.PAIRS, half=False)


def test_every_float16_becomes_its_float32_without_hardware(machine: Any) -> None:
    x = np.arange(1 << 16).astype("u2").view("f2")
    x = x[np.isfinite(x)]
    y = mapped(machine, lambda v: to_float(soft(machine), v), x)
    assert np.array_equal(y[: len(x)], x.astype("f4"))


def test_float32_is_rounded_to_float16_as_hardware_does(machine: Any, rng: np.random.Generator) -> None:
    halves = np.arange(1 << 16).astype("u2").view("f2")
    halves = halves[np.isfinite(halves)].astype("f4")
    ties = halves * np.float32(1 + 2**-11)
    x = np.concatenate(
        [halves, ties, rng.normal(0, 1e-6, 512).astype("f4"), np.float32([65519, 65520, -1e9])]
    )
    y = mapped(machine, lambda v: from_float(soft(machine), v, "float16"), x, "float16")
    with np.errstate(over="ignore"):
        assert np.array_equal(y[: len(x)].view("u2"), x.astype("f2").view("u2"))


@pytest.mark.parametrize("what", ["totals", "transposed"])
def test_across_vectors(machine: Any, rng: np.random.Generator, what: str) -> None:
    lanes = machine.isa.lanes
    with kernel("across", public=True) as k:
        a, b = k.tensor("x", (lanes, lanes)), k.tensor("y", (lanes, lanes))
        rows = [bind(load(a, i, 0, lanes=lanes)) for i in range(lanes)]
        for i, row in enumerate([totals(rows)] if what == "totals" else transposed(rows)):
            store(b, row, i, 0)
    x = rng.normal(0, 1, (lanes, lanes)).astype("f4")
    y = np.zeros_like(x)
    machine.compile(k.function)(x, y)
    assert np.allclose(y[0], x.sum(1), atol=1e-5) if what == "totals" else np.array_equal(y, x.T)


def test_spread_repeats_each_element(machine: Any) -> None:
    with kernel("spread", public=True) as k:
        a, b = k.tensor("x", (2,)), k.tensor("y", (8,))
        store(b, spread(load(a, 0, lanes=2), 4), 0)
    y = np.zeros(8, "f4")
    machine.compile(k.function)(np.float32([1, 2]), y)
    assert y.tolist() == [1] * 4 + [2] * 4
