"""The router's ONNX graph, built by hand: encoder, pooling and head in one file.

Inputs `input_ids` and `attention_mask` (int64 [batch, sequence]); outputs `score` (float32 [batch], 0..1)
and `embedding` (float32 [batch, hidden], length 1), which adaptation learns from and which costs nothing
unless asked for. `surface` (float32 [1 or batch, features]) is an input that may be left out: its default is
the training mean. What a caller must know to feed it stands in the file's own metadata (`METADATA_KEY`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

Precision = Literal["int8", "float32"]
Arrays = Mapping[str, np.ndarray]

METADATA_KEY = "edge_router.router"
_OPSET = 17
_IR_VERSION = 9  # read by every onnxruntime that knows opset 17
# Weights use 7 of their 8 bits: x86 without VNNI adds two products of 8 bits in 16, where full ones overflow.
_LARGEST = 63


@dataclass(frozen=True, slots=True)
class Surface:
    """Features of the text (see routers/text.py): standardised, clipped, weighed. All arrays [features]."""

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, slots=True)
class Head:
    """From the embedding and the surface features to the score.

    Matrix factorisation: `projection` [hidden, rank] gives the query's factors; a model's vector times these
    is the logit of its answer being right. Then `sigmoid(slope * (strong - weak + surface) + intercept)`.
    """

    projection: np.ndarray
    weak_vector: np.ndarray
    strong_vector: np.ndarray
    surface: Surface | None = None
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """What the encoder looks like and how its input is cut. Tokens are counted with [CLS] and [SEP]."""

    layers: int
    heads: int
    epsilon: float
    max_tokens: int
    tail_tokens: int  # of `max_tokens`, how many come from the end of a text that is too long
    without_options: bool  # answer options are cut off before the text is tokenized


def build_router(
    arrays: Arrays, head: Head, spec: GraphSpec, output: Path, precision: Precision = "int8"
) -> None:
    """Write the graph. `arrays` are the encoder's parameters, named as in BERT's checkpoints."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph(precision)
    embedding = _encoder(graph, arrays, spec)
    _head(graph, head, embedding)
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "sequence"]) for n in _INPUTS]
    hidden = int(head.projection.shape[0])
    if head.surface:
        width = len(head.surface.names)
        ids.append(helper.make_tensor_value_info("surface", TensorProto.FLOAT, ["surface_batch", width]))
    outputs = [
        helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", hidden]),
    ]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "router", ids, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="edge_router",
    )
    helper.set_model_props(model, {METADATA_KEY: json.dumps(_metadata(head, spec, precision))})
    onnx.checker.check_model(model)
    output.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(output))


_INPUTS = ("input_ids", "attention_mask")


def _metadata(head: Head, spec: GraphSpec, precision: Precision) -> dict[str, object]:
    return {
        "format": 1,
        "max_tokens": spec.max_tokens,
        "tail_tokens": spec.tail_tokens,
        "without_options": spec.without_options,
        "surface": list(head.surface.names) if head.surface else [],
        "precision": precision,
    }


class _Graph:
    """Nodes and constants under construction. Every method returns the name of its result."""

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._count = 0

    def constant(self, value: np.ndarray | np.float32, name: str | None = None) -> str:
        from onnx import numpy_helper

        name = name or self._name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int | str = 1, **attributes: object) -> Any:
        """`outputs`: how many, or the name of the only one."""
        from onnx import helper

        names = [outputs] if isinstance(outputs, str) else [self._name(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if len(names) == 1 else names

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """`x @ weight.T + bias`; weight [out, in]."""
        if self.precision == "float32":
            product = self.node("MatMul", x, self.constant(weight.T.astype(np.float32)))
            return str(self.node("Add", product, self.constant(bias.astype(np.float32))))
        # The form that onnxruntime fuses into one kernel (DynamicQuantizeMatMul).
        values, scale = quantize_rows(weight)
        quantized, x_scale, x_zero = self.node("DynamicQuantizeLinear", x, outputs=3)
        zeros = self.constant(np.zeros(len(weight), np.int8))
        product = self.node("MatMulInteger", quantized, self.constant(values.T), x_zero, zeros)
        product = self.node("Cast", product, to=1)
        product = self.node("Mul", product, self.node("Mul", x_scale, self.constant(scale)))
        return str(self.node("Add", product, self.constant(bias.astype(np.float32))))

    def rows(self, table: np.ndarray, indices: str) -> str:
        """table[indices] for a float table, kept as int8 with one scale per row where asked."""
        if self.precision == "float32":
            return str(self.node("Gather", self.constant(table.astype(np.float32)), indices))
        values, scale = quantize_rows(table, largest=127)
        taken = self.node("Cast", self.node("Gather", self.constant(values), indices), to=1)
        return str(self.node("Mul", taken, self.node("Gather", self.constant(scale[:, None]), indices)))

    def normalise(self, x: str, arrays: Arrays, name: str, epsilon: float) -> str:
        weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
        constants = self.constant(weight.astype(np.float32)), self.constant(bias.astype(np.float32))
        return str(self.node("LayerNormalization", x, *constants, axis=-1, epsilon=epsilon))

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"


def quantize_rows(weight: np.ndarray, largest: int = _LARGEST) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 with one float32 scale per row: weight ~ values * scale[:, None]."""
    scale = np.maximum(np.abs(weight).max(axis=1), 1e-12).astype(np.float32) / np.float32(largest)
    values = np.clip(np.rint(weight / scale[:, None]), -largest, largest).astype(np.int8)
    return values, scale


def _encoder(graph: _Graph, arrays: Arrays, spec: GraphSpec) -> str:
    mask = graph.node("Cast", "attention_mask", to=1)
    x = graph.node(
        "Add", graph.rows(arrays["embeddings.word_embeddings.weight"], "input_ids"), _places(graph, arrays)
    )
    x = graph.normalise(x, arrays, "embeddings.LayerNorm", spec.epsilon)
    hidden_away = graph.node("Sub", graph.constant(np.float32(1)), mask)
    bias = graph.node("Mul", hidden_away, graph.constant(np.float32(-1e4)))
    bias = graph.node("Unsqueeze", bias, graph.constant(np.array([1, 2], np.int64)))
    for index in range(spec.layers):
        x = _layer(graph, arrays, f"encoder.layer.{index}", x, bias, spec)
    column = graph.node("Unsqueeze", mask, graph.constant(np.array([2], np.int64)))
    axis = graph.constant(np.array([1], np.int64))
    total = graph.node("ReduceSum", graph.node("Mul", x, column), axis, keepdims=0)
    mean = graph.node("Div", total, graph.node("ReduceSum", column, axis, keepdims=0))
    return str(graph.node("LpNormalization", mean, axis=-1, p=2, outputs="embedding"))


def _places(graph: _Graph, arrays: Arrays) -> str:
    """The first `sequence` rows of the positions; token type 0 is added to all of them beforehand."""
    table = (
        arrays["embeddings.position_embeddings.weight"] + arrays["embeddings.token_type_embeddings.weight"][0]
    )
    zero, one = graph.constant(np.array([0], np.int64)), graph.constant(np.array([1], np.int64))
    length = graph.node(
        "Slice", graph.node("Shape", "input_ids"), one, graph.constant(np.array([2], np.int64))
    )
    return str(graph.node("Slice", graph.constant(table.astype(np.float32)), zero, length, zero))


def _layer(graph: _Graph, arrays: Arrays, name: str, x: str, bias: str, spec: GraphSpec) -> str:
    attended = _attention(graph, arrays, f"{name}.attention.self", x, bias, spec.heads)
    x = _residual(graph, arrays, f"{name}.attention.output", attended, x, spec.epsilon)
    dense = f"{name}.intermediate.dense"
    wide = graph.linear(x, arrays[f"{dense}.weight"], arrays[f"{dense}.bias"])
    # gelu(y) = y/2 * (1 + erf(y / sqrt 2)), in the form that onnxruntime fuses.
    erf = graph.node("Erf", graph.node("Div", wide, graph.constant(np.float32(math.sqrt(2)))))
    wide = graph.node("Mul", wide, graph.node("Add", erf, graph.constant(np.float32(1))))
    wide = graph.node("Mul", wide, graph.constant(np.float32(0.5)))
    return _residual(graph, arrays, f"{name}.output", wide, x, spec.epsilon)


def _residual(graph: _Graph, arrays: Arrays, name: str, inner: str, x: str, epsilon: float) -> str:
    projected = graph.linear(inner, arrays[f"{name}.dense.weight"], arrays[f"{name}.dense.bias"])
    return graph.normalise(graph.node("Add", projected, x), arrays, f"{name}.LayerNorm", epsilon)


def _attention(graph: _Graph, arrays: Arrays, name: str, x: str, bias: str, heads: int) -> str:
    """Query, key and value in one product; the scale 1/sqrt(d) is multiplied into the query's weights."""
    hidden = arrays[f"{name}.query.weight"].shape[0]
    scale = 1 / math.sqrt(hidden // heads)
    parts = ("query", "key", "value")
    factors = (scale, 1.0, 1.0)
    weight = np.concatenate([arrays[f"{name}.{p}.weight"] * f for p, f in zip(parts, factors, strict=True)])
    offset = np.concatenate([arrays[f"{name}.{p}.bias"] * f for p, f in zip(parts, factors, strict=True)])
    joined = graph.linear(x, weight, offset)
    joined = graph.node(
        "Reshape", joined, graph.constant(np.array([0, 0, 3, heads, hidden // heads], np.int64))
    )
    axes: Sequence[tuple[int, ...]] = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
    split = graph.node("Split", joined, axis=2, outputs=3)
    flat = [graph.node("Squeeze", part, graph.constant(np.array([2], np.int64))) for part in split]
    q, k, v = (graph.node("Transpose", part, perm=axis) for part, axis in zip(flat, axes, strict=True))
    weights = graph.node("Softmax", graph.node("Add", graph.node("MatMul", q, k), bias), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", weights, v), perm=(0, 2, 1, 3))
    return str(graph.node("Reshape", mixed, graph.constant(np.array([0, 0, hidden], np.int64))))


def _head(graph: _Graph, head: Head, embedding: str) -> None:
    factors = graph.node("MatMul", embedding, graph.constant(head.projection.astype(np.float32)))
    vectors = (head.strong_vector, head.weak_vector)
    strong, weak = (
        graph.node("MatMul", factors, graph.constant(v.astype(np.float32)[:, None])) for v in vectors
    )
    raw = graph.node("Sub", strong, weak)
    if head.surface:
        raw = graph.node("Add", raw, _surface(graph, head.surface))
    scaled = graph.node("Mul", raw, graph.constant(np.float32(head.slope)))
    logit = graph.node("Add", scaled, graph.constant(np.float32(head.intercept)))
    logit = graph.node("Squeeze", logit, graph.constant(np.array([1], np.int64)))
    graph.node("Sigmoid", logit, outputs="score")


def _surface(graph: _Graph, surface: Surface) -> str:
    mean = surface.mean.astype(np.float32)
    given = graph.constant(mean[None, :], "surface")
    scaled = graph.node("Sub", given, graph.constant(mean))
    scaled = graph.node("Div", scaled, graph.constant(surface.scale.astype(np.float32)))
    # No text is so strange that one feature alone decides.
    clipped = graph.node("Clip", scaled, graph.constant(np.float32(-3)), graph.constant(np.float32(3)))
    return str(graph.node("MatMul", clipped, graph.constant(surface.weights.astype(np.float32)[:, None])))
