"""Which experts rows go to and what comes of their products on a GPU, against numpy on random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.compile.kernels.shapes import Routing
from edge_router.compile.webgpu.shaders.experts import (
    TILE_WORDS,
    Product,
    choose,
    gather,
    product,
    rate,
    tiles,
)

EXPERTS, CHOSEN, HIDDEN, WIDTH = 9, 3, 128, 96
ROUTING = Routing(EXPERTS, CHOSEN, shared_out=True)
NONE = 0xFFFFFFFF
ROWS = [1, 2, 37]


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("shared_out", [True, False])
def test_the_best_are_chosen_and_their_shares_told(run: Any, n: int, shared_out: bool) -> None:
    rng = np.random.default_rng(1)
    x, weights = (rng.normal(size=(rows, HIDDEN)).astype("f4") for rows in (n, EXPERTS))
    ratings = run(rate(HIDDEN, EXPERTS), [x, weights, floats(n, EXPERTS)], n=n)
    np.testing.assert_allclose(ratings, x @ weights.T, rtol=0, atol=1e-4)
    found = run(choose(Routing(EXPERTS, CHOSEN, shared_out)), [ratings, floats(n, 2 * CHOSEN)], n=n)
    chosen = np.argsort(-ratings, axis=1)[:, :CHOSEN]
    powers = np.exp(ratings - ratings.max(1, keepdims=True))
    best = np.take_along_axis(powers, chosen, 1)
    assert (found[:, :CHOSEN] == chosen).all()
    shares = best / (best if shared_out else powers).sum(1, keepdims=True)
    np.testing.assert_allclose(found[:, CHOSEN:], shares, rtol=0, atol=1e-5)


def drawn(n: int) -> np.ndarray:
    """Routes: most go to the first expert, none to the last."""
    rng = np.random.default_rng(n)
    odds = np.arange(EXPERTS)[::-1] / sum(range(EXPERTS))
    chosen = [rng.choice(EXPERTS, CHOSEN, replace=False, p=odds) for _ in range(n)]
    return np.concatenate([np.array(chosen, "f4"), rng.uniform(0.1, 1, (n, CHOSEN)).astype("f4")], axis=1)


def tiled(run: Any, routes: np.ndarray) -> np.ndarray:
    held = np.full((len(routes) * CHOSEN, TILE_WORDS), 7, np.uint32)
    return run(tiles(ROUTING), [routes, held], n=len(routes))


@pytest.mark.parametrize("n", ROWS)
def test_a_tile_is_of_one_expert_and_each_pair_in_one_tile(run: Any, n: int) -> None:
    routes = drawn(n)
    found = tiled(run, routes)
    used = found[found[:, 0] != NONE]
    experts = routes[:, :CHOSEN].ravel()
    pairs = used[:, 1:]
    held = pairs != NONE
    assert sorted(pairs[held]) == list(range(n * CHOSEN))
    assert (experts[np.where(held, pairs, pairs[:, :1])] == used[:, :1]).all()
    assert held[:, 0].all() and len(used) == sum(
        -(-np.count_nonzero(experts == e) // 4) for e in range(EXPERTS)
    )


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("gate", ["silu", None])
def test_products_are_those_of_the_experts_that_each_row_goes_to(
    run: Any, quantized: Any, n: int, gate: Any
) -> None:
    """The matrices in two pieces, as one binding may need it."""
    inputs, outputs = (HIDDEN, WIDTH) if gate else (WIDTH, HIDDEN)
    matrix = outputs * (2 if gate else 1)
    pieces = [(0, 4), (4, EXPERTS)]
    stored = [quantized((last - first) * matrix, inputs, 5 + first) for first, last in pieces]
    values = np.concatenate([piece.values for piece in stored]).reshape(EXPERTS, matrix, inputs)
    routes, rng = drawn(n), np.random.default_rng(3)
    order = tiled(run, routes)
    x = rng.normal(size=(n if gate else n * CHOSEN, inputs)).astype("f4")
    found = floats(n * CHOSEN, outputs)
    for (first, last), piece in zip(pieces, stored, strict=True):
        shape = Product(ROUTING, inputs, outputs, first, last, gate)
        found = run(product(shape), [order, routes, x, *piece.arrays, found], n=n)
    each = np.repeat(x, CHOSEN, axis=0) if gate else x
    wanted = np.einsum("prc,pc->pr", values[routes[:, :CHOSEN].astype(int).ravel()], each)
    if gate:
        first_half, second = np.split(wanted, 2, axis=1)
        wanted = first_half / (1 + np.exp(-first_half)) * second
    else:
        wanted = wanted * routes[:, CHOSEN:].reshape(-1, 1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    if gate is None:
        residual = rng.normal(size=(n, outputs)).astype("f4")
        summed = run(gather(outputs, CHOSEN, residual=True), [found, residual, floats(n, outputs)], n=n)
        np.testing.assert_allclose(summed, residual + found.reshape(n, CHOSEN, outputs).sum(1), atol=1e-5)
