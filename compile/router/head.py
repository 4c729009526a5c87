"""The head of a router's graph: from the embedding and the surface features to the score.

Its numbers stand in the file under names of their own, so that adapting a router to a user's pair of models
replaces them and leaves the encoder, quantized as it is, alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_router.compile.router.onnx_graph import Graph
from edge_router.errors import InvalidRouter
from edge_router.records import dataclass

LIMIT = 3.0  # standard deviations: no text is so strange that one feature alone decides
_PREFIX = "head."


@dataclass(frozen=True, slots=True)
class Surface:
    """Features of the text (see routers/text.py): standardised, clipped, weighed. All arrays [features]."""

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """[prompts, features], as the graph computes it."""
        return np.asarray(np.clip((features - self.mean) / self.scale, -LIMIT, LIMIT))


@dataclass(frozen=True, slots=True)
class FactorHead:
    """Matrix factorisation: `projection` [hidden, rank] gives the query's factors, and a model's vector times
    these the logit of its answer being right. Then `sigmoid(slope * (strong - weak + surface) + intercept)`.
    """

    projection: np.ndarray
    weak_vector: np.ndarray
    strong_vector: np.ndarray
    surface: Surface | None = None
    slope: float = 1.0
    intercept: float = 0.0

    def raw(self, embeddings: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Before slope and intercept: [prompts], from [prompts, hidden] and [prompts, features]."""
        found = embeddings @ self.projection @ (self.strong_vector - self.weak_vector)
        if self.surface is not None:
            found = found + self.surface.standardised(features) @ self.surface.weights
        return np.asarray(found)


def add_head(graph: Graph, head: FactorHead, embedding: str) -> None:
    numbers = _numbers(head)

    def number(name: str) -> str:
        return graph.constant(numbers[name], name)

    factors = graph.node("MatMul", embedding, number("head.projection"))
    strong = graph.node("MatMul", factors, number("head.strong"))
    raw = graph.node("Sub", strong, graph.node("MatMul", factors, number("head.weak")))
    if head.surface:
        centred = graph.node("Sub", number("surface"), number("head.surface_mean"))
        scaled = graph.node("Div", centred, number("head.surface_scale"))
        bounds = graph.constant(np.float32(-LIMIT)), graph.constant(np.float32(LIMIT))
        clipped = graph.node("Clip", scaled, *bounds)
        raw = graph.node("Add", raw, graph.node("MatMul", clipped, number("head.surface_weights")))
    logit = graph.node("Add", graph.node("Mul", raw, number("head.slope")), number("head.intercept"))
    logit = graph.node("Squeeze", logit, graph.constant(np.array([1], np.int64)))
    graph.node("Sigmoid", logit, outputs="score")


def _numbers(head: FactorHead) -> dict[str, np.ndarray]:
    """By the names that they have in the file; `surface` is an input, and this its default."""
    found = {
        "head.projection": head.projection,
        "head.strong": head.strong_vector[:, None],
        "head.weak": head.weak_vector[:, None],
        "head.slope": np.array(head.slope),
        "head.intercept": np.array(head.intercept),
    }
    if head.surface:
        found |= {
            "surface": head.surface.mean[None, :],
            "head.surface_mean": head.surface.mean,
            "head.surface_scale": head.surface.scale,
            "head.surface_weights": head.surface.weights[:, None],
        }
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def read_head(file: Path, surface_names: tuple[str, ...]) -> FactorHead:
    """Of a graph that `router.graph` built. Raises `InvalidRouter` for any other."""
    numbers = {tensor.name: value for tensor, value in _tensors(load_graph(file))}
    try:
        surface = _read_surface(numbers, surface_names) if surface_names else None
        return FactorHead(
            projection=numbers["head.projection"],
            weak_vector=numbers["head.weak"][:, 0],
            strong_vector=numbers["head.strong"][:, 0],
            surface=surface,
            slope=float(numbers["head.slope"]),
            intercept=float(numbers["head.intercept"]),
        )
    except KeyError as error:
        raise InvalidRouter(file, f"it has no {error}, so it cannot be adapted") from error


def _read_surface(numbers: dict[str, np.ndarray], names: tuple[str, ...]) -> Surface:
    return Surface(
        names,
        numbers["head.surface_mean"],
        numbers["head.surface_scale"],
        numbers["head.surface_weights"][:, 0],
    )


def replace_head(file: Path, head: FactorHead, output: Path) -> None:
    """`file` with another head, which has surface features where the old one has. Raises `InvalidRouter`."""
    from onnx import numpy_helper, save

    model, numbers = load_graph(file), _numbers(head)
    for tensor, _ in _tensors(model):
        if tensor.name in numbers:
            tensor.CopyFrom(numpy_helper.from_array(numbers.pop(tensor.name), tensor.name))
    if numbers:
        raise InvalidRouter(file, f"it has no {next(iter(numbers))!r}, so its head cannot be replaced")
    output.parent.mkdir(parents=True, exist_ok=True)
    save(model, str(output))


def load_graph(file: Path) -> Any:
    """The file as onnx reads it. Raises `InvalidRouter`."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(file))
    except OSError as error:
        raise InvalidRouter(file, f"cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise InvalidRouter(file, f"not an ONNX file: {error}") from error


def _tensors(model: Any) -> list[tuple[Any, np.ndarray]]:
    """The head's constants, and the default of the surface features."""
    from onnx import numpy_helper

    kept = [t for t in model.graph.initializer if t.name.startswith(_PREFIX) or t.name == "surface"]
    return [(tensor, numpy_helper.to_array(tensor)) for tensor in kept]
