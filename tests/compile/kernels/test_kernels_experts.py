"""Which experts tokens go to and what comes of their products, against numpy on random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.architectures.quantization import quantization
from edge_router.compile.kernels.experts import grouped, route
from edge_router.compile.kernels.shapes import Grouped, Routing
from edge_router.compile.kernels.stored import Stored

EVERY_DOT = True
EXPERTS, CHOSEN, HIDDEN, WIDTH = 8, 3, 128, 96
ROUTING = Routing(EXPERTS, CHOSEN, shared_out=True)
FORM = Stored.of(quantization("q4f16_1"), "linear")


def weights(rng: np.random.Generator, rows: int, columns: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Of all experts, as they are stored and as numbers."""
    codes = rng.integers(0, 15, (EXPERTS * rows, columns)).astype("u4")
    scales = rng.uniform(0.01, 0.02, (EXPERTS * rows, columns // 32)).astype("f2")
    words = sum(codes[:, j::8] << np.uint32(4 * j) for j in range(8))
    values = (codes.astype("f4") - 7) * np.repeat(scales.astype("f4"), 32, axis=1)
    return [words, scales], values.reshape(EXPERTS, rows, columns)


def routes(chosen: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return np.concatenate([chosen.astype("i4"), shares.astype("f4").view("i4")], axis=1)


def drawn(rng: np.random.Generator, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Most go to the first expert, and none to the last."""
    odds = np.arange(EXPERTS)[::-1] / sum(range(EXPERTS))
    chosen = np.array([rng.choice(EXPERTS, CHOSEN, replace=False, p=odds) for _ in range(tokens)])
    return chosen, rng.uniform(0.1, 1, (tokens, CHOSEN)).astype("f4")


@pytest.mark.parametrize("shared_out", [True, False])
def test_the_best_are_chosen_and_their_shares_told(machine: Any, rng: Any, shared_out: bool) -> None:
    run = machine.compile(route(Routing(EXPERTS, CHOSEN, shared_out), None))
    ratings = rng.normal(0, 3, (9, EXPERTS)).astype("f4")
    ratings[4] = 80.0 * np.arange(EXPERTS)  # one alone
    found = np.zeros((9, 2 * CHOSEN), "i4")
    run(ratings, ratings, found)
    chosen = np.argsort(-ratings, axis=1)[:, :CHOSEN]
    powers = np.exp(ratings - ratings.max(1, keepdims=True))
    best = np.take_along_axis(powers, chosen, 1)
    shares = best / (best if shared_out else powers).sum(1, keepdims=True)
    assert (found[:, :CHOSEN] == chosen).all()
    assert np.abs(found[:, CHOSEN:].copy().view("f4") - shares).max() < 1e-6


@pytest.mark.parametrize("gated", [True, False])
def test_products_are_those_of_the_experts_that_each_token_goes_to(
    machine: Any, rng: Any, gated: bool
) -> None:
    outputs, inputs = (2 * WIDTH, HIDDEN) if gated else (HIDDEN, WIDTH)
    stored, values = weights(rng, outputs, inputs)
    shape = Grouped(ROUTING, inputs, outputs, None, "silu" if gated else None, not gated, FORM)
    several = machine.compile(grouped(machine.isa, shape))
    one = machine.compile(grouped(machine.isa, Grouped(ROUTING, inputs, outputs, 1, *_rest(shape))))
    for tokens, run in [(1, one), (1, several), (2, several), (7, several), (21, several), (90, several)]:
        chosen, shares = drawn(rng, tokens)
        x = rng.normal(0, 1, (tokens * (1 if gated else CHOSEN), inputs)).astype("f4")
        taken = [each.reshape(tokens, -1, inputs) for each in machine.taken(x)]
        added = rng.normal(0, 1, (tokens, HIDDEN)).astype("f4")
        found = np.full((tokens * CHOSEN, WIDTH) if gated else (tokens, HIDDEN), np.nan, "f4")
        run(routes(chosen, shares), x, *stored, *([] if gated else [added]), found)
        wanted = [_wanted(each, values[chosen], shares, added, gated) for each in taken]
        errors = [np.abs(found - each).max() / np.abs(each).max() for each in wanted]
        assert min(errors) < 1e-4, (tokens, errors)


def _rest(shape: Grouped) -> tuple[Any, ...]:
    return shape.gate, shape.add, shape.stored


def _wanted(x: np.ndarray, matrices: np.ndarray, shares: np.ndarray, added: np.ndarray, gated: bool) -> Any:
    """`matrices` [tokens, chosen, rows, columns]."""
    products = np.einsum("tkrc,tkc->tkr", matrices, np.broadcast_to(x, (*matrices.shape[:2], x.shape[-1])))
    if not gated:
        return added + (products * shares[..., None]).sum(1)
    gate, up = np.split(products, 2, axis=-1)
    return (gate / (1 + np.exp(-gate)) * up).reshape(-1, WIDTH)
