"""The closed form against RouteLLM's definition, worked out step by step; the graph against numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.compile.router.onnx_graph import Precision
from edge_router.compile.router.ranking import Ranking, build_ranking
from edge_router.routing.routers.graph import METADATA_KEY
from edge_router.routing.routers.tokens import Cut
from edge_router.system.telemetry import load_onnxruntime

onnxruntime = load_onnxruntime()
HIDDEN, PROMPTS = 6, 40


def ranking(seed: int = 0, **changes: object) -> Ranking:
    rng = np.random.default_rng(seed)
    references = rng.normal(size=(PROMPTS, HIDDEN)) + 1
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    wins = rng.choice([0.0, 0.5, 1.0], PROMPTS)
    return Ranking(np.eye(HIDDEN), references, wins, **changes)  # type: ignore[arg-type]


def queries(seed: int = 1, count: int = 5) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, HIDDEN)) + 1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def bradley_terry(weights: np.ndarray, wins: np.ndarray) -> float:
    """b_strong - b_weak by Newton's method on the weighted likelihood; each tie is half a win and half a loss."""
    gap = 0.0
    for _ in range(50):
        p = 1 / (1 + np.exp(-gap))
        gap += float(weights @ (wins - p)) / float(weights.sum() * p * (1 - p))
    return gap


@given(st.integers(0, 1000))
def test_two_players_need_no_solver(seed: int) -> None:
    found, asked = ranking(seed), queries(seed)
    for query, strength in zip(asked, found.strength(asked), strict=True):
        similarities = found.references @ query
        weights = 10 * 10 ** (similarities / similarities.max())  # as RouteLLM's code has them
        assert strength == pytest.approx(bradley_terry(weights, found.wins), abs=1e-6)


def test_a_worked_example() -> None:
    """Two references at right angles; the query is the first of them: it weighs 100 and the other 10."""
    found = Ranking(np.eye(2), np.eye(2), np.array([1.0, 0.0]))
    assert found.strength(np.array([[1.0, 0.0]])) == pytest.approx(np.log(10))
    halfway = np.array([[1.0, 1.0]]) / np.sqrt(2)
    assert found.strength(halfway) == pytest.approx(0)


def session(found: Ranking, file: Path, precision: Precision) -> object:
    build_ranking(found, Cut(16, 4), file, precision)
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("int8", 0.02)])
def test_the_graph_computes_what_numpy_does(tmp_path: Path, precision: Precision, tolerance: float) -> None:
    found = ranking(slope=2.0, intercept=-0.3)
    asked = queries().astype(np.float32)
    graph = session(found, tmp_path / "router.onnx", precision)
    for query in asked:
        (score,) = graph.run(["score"], {"embedding": query[None]})  # type: ignore[attr-defined]
        wanted = 1 / (1 + np.exp(-(2 * found.strength(query[None]) - 0.3)))
        assert score == pytest.approx(wanted, abs=tolerance)


def test_every_reference_lost_or_far_away_is_still_a_number(tmp_path: Path) -> None:
    lost = Ranking(np.eye(2), -np.eye(2), np.zeros(2))
    graph = session(lost, tmp_path / "router.onnx", "float32")
    (score,) = graph.run(["score"], {"embedding": np.array([[1, 0]], np.float32)})  # type: ignore[attr-defined]
    assert 0 < float(score[0]) < 0.001


def test_the_file_says_for_which_texts_it_is(tmp_path: Path) -> None:
    graph = session(ranking(), tmp_path / "router.onnx", "int8")
    settings = json.loads(graph.get_modelmeta().custom_metadata_map[METADATA_KEY])  # type: ignore[attr-defined]
    assert (settings["max_tokens"], settings["tail_tokens"], settings["surface"]) == (16, 4, [])
    assert [value.name for value in graph.get_inputs()] == ["embedding"]  # type: ignore[attr-defined]
