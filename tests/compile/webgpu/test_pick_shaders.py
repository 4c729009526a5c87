"""The likeliest tokens of rows of logits, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_router.compile.webgpu.shaders import topk
from edge_router.webgpu_program import CANDIDATES, PAGE_SIZE, PICKED_WORDS, ROW_WORDS, ProgramFunction

SIZES = {"one list": (288, 288), "some lists": (5000, 4990), "lists of lists": (70_000, 69_999)}


@pytest.fixture(params=SIZES)
def vocabulary(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Rows of the table, and those that count."""
    return SIZES[request.param]


def ran(run: Any, name: str, logits: np.ndarray, tokens: int, control: np.ndarray) -> np.ndarray:
    """What "best" or "likeliest" leaves in `picked`."""
    n, size = logits.shape
    functions, shaders = topk.functions(size)
    function: ProgramFunction = functions[name]
    arrays = {"logits": logits, "control": control, "picked": np.zeros((n, PICKED_WORDS), np.uint32)}
    arrays |= {key: np.zeros(size({"n": n}) // 4, np.uint32) for key, size in function.scratch.items()}
    for launch in function.launches:
        run(shaders[launch.shader], [arrays[key] for key in launch.buffers], n, tokens=tokens)
    return arrays["picked"]


def controls(rows: int, temperature: float = 0.0) -> np.ndarray:
    control = np.zeros((rows, ROW_WORDS), np.uint32)
    control[:, 1] = 13 + 9 * np.arange(rows)
    control[:, 3] = np.float32(1 / temperature if temperature else 0).view(np.uint32)
    return control


def test_the_best_is_fed_to_the_model(run: Any, vocabulary: tuple[int, int]) -> None:
    size, known = vocabulary
    logits = np.random.default_rng(0).normal(size=(3, size)).astype(np.float32)
    logits[:, known:] = 100.0  # padding, which no token stands for
    logits[1] = -np.abs(logits[1])
    logits[2, [7, 11, known - 1]] = logits[2].max() + 1  # equals: the first
    control = controls(3)
    picked = ran(run, "best", logits, known, control)
    best = logits[:, :known].argmax(1)
    assert best[2] == 7
    np.testing.assert_array_equal(control[:, 0], best)
    np.testing.assert_array_equal(control[:, 1], [14, 23, 32])
    for row, place in enumerate((13, 22, 31)):
        token, value = picked[row, 2 * (place % PAGE_SIZE) :][:2]
        assert (token, value.view(np.float32)) == (best[row], logits[row, best[row]])


def test_the_likeliest(run: Any, vocabulary: tuple[int, int]) -> None:
    size, known = vocabulary
    logits = (
        np.random.default_rng(1).normal(0, 3, (2, size)).astype(np.float32).round(1)
    )  # so there are equals
    logits[:, known:] = 100.0
    picked = ran(run, "likeliest", logits, known, controls(2, temperature=0.7))
    for row, words in zip(logits[:, :known].astype(np.float64), picked, strict=True):
        order = np.argsort(-row, kind="stable")[:CANDIDATES]
        np.testing.assert_array_equal(words[:CANDIDATES], order)
        values = words[CANDIDATES : 2 * CANDIDATES].view(np.float32)
        np.testing.assert_array_equal(values, row[order].astype(np.float32))
        total = words[2 * CANDIDATES : 2 * CANDIDATES + 1].view(np.float32)[0]
        assert total == pytest.approx(np.exp((row - row.max()) / 0.7).sum(), rel=1e-4)


@pytest.mark.parametrize("poison", [np.nan, -np.nan])
def test_a_nan_is_found(run: Any, poison: float) -> None:
    logits = np.zeros((1, 5000), np.float32)
    logits[0, 3000] = poison
    assert np.isnan(ran(run, "best", logits, 5000, controls(1))[0, 2 * 13 + 1 :][:1].view(np.float32))
    assert np.isnan(ran(run, "likeliest", logits, 5000, controls(1))[0, CANDIDATES:][:1].view(np.float32))
