"""The graph of `sw_ranking`: the strong model's win rate among reference prompts, those like the query first.

RouteLLM's definition (arXiv 2406.18665): reference prompt i weighs
    w_i = gamma ** (1 + s_i / max_j s_j),   gamma = 10,   s_i the cosine of its embedding and the query's,
and Bradley-Terry coefficients are fitted to the reference outcomes with these weights, per query. With two
players, the pool's weak models and its strong ones, that has a closed form: the likelihood
    sum_i w_i * (y_i * log p + (1 - y_i) * log(1 - p)),   p = sigmoid(b_strong - b_weak)
is largest at p = sum_i w_i * y_i / sum_i w_i, so a query costs two products and no solver. A tie is half a
win. The weights are the softmax of log(gamma) * s_i / max s, for constant factors cancel.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from edge_router.compile.router.graph import save_graph
from edge_router.compile.router.onnx_graph import Graph, Precision
from edge_router.records import dataclass
from edge_router.routing.routers.tokens import Cut

GAMMA = 10.0
_SURE = 1e-4  # win rates stay this far from 0 and 1, where the logarithm of the odds ends
_NEAR = 1e-3  # a greatest cosine below this one counts as this one


@dataclass(frozen=True, slots=True)
class Ranking:
    """`projection` [hidden, dimensions]: the directions that cosines are taken in. `references` [prompts,
    dimensions], each of length 1; `wins` [prompts], the strong model's. The score is
    sigmoid(slope * (b_strong - b_weak) + intercept).
    """

    projection: np.ndarray
    references: np.ndarray
    wins: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0

    def strength(self, embeddings: np.ndarray) -> np.ndarray:
        """b_strong - b_weak for each of [queries, hidden], as the graph computes it but for int8."""
        queries = embeddings @ self.projection
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        cosines = queries @ self.references.T
        weights = GAMMA ** (cosines / np.maximum(cosines.max(axis=1, keepdims=True), _NEAR))
        rate = np.clip(weights @ self.wins / weights.sum(axis=1), _SURE, 1 - _SURE)
        return np.asarray(np.log(rate / (1 - rate)))


def build_ranking(ranking: Ranking, cut: Cut, output: Path, precision: Precision = "int8") -> None:
    """Write the graph. It begins with another router's `embedding`, for texts cut as `cut` says."""
    graph = Graph(precision)

    def number(value: float) -> str:
        return graph.constant(np.float32(value))

    query = graph.node("MatMul", "embedding", graph.constant(ranking.projection.astype(np.float32)))
    query = graph.node("LpNormalization", query, axis=-1, p=2)
    cosines = graph.linear(query, ranking.references, np.zeros(len(ranking.references)))
    nearest = graph.node("Max", graph.node("ReduceMax", cosines, axes=[1], keepdims=1), number(_NEAR))
    exponent = graph.node("Mul", graph.node("Div", cosines, nearest), number(math.log(GAMMA)))
    weights = graph.node("Softmax", exponent, axis=-1)
    rate = graph.node("MatMul", weights, graph.constant(ranking.wins.astype(np.float32)[:, None]))
    rate = graph.node("Clip", rate, number(_SURE), number(1 - _SURE))
    strength = graph.node("Log", graph.node("Div", rate, graph.node("Sub", number(1), rate)))
    logit = graph.node("Add", graph.node("Mul", strength, number(ranking.slope)), number(ranking.intercept))
    logit = graph.node("Squeeze", logit, graph.constant(np.array([1], np.int64)))
    graph.node("Sigmoid", logit, outputs="score")
    inputs = {"embedding": ("batch", int(ranking.projection.shape[0]))}
    save_graph(graph, inputs, {"score": ("batch",)}, cut, output)
