"""The router's ONNX graph, built by hand: encoder, pooling and head in one file.

Inputs `input_ids` and `attention_mask` (int64 [batch, sequence]); outputs `score` (float32 [batch], 0..1),
`embedding` (float32 [batch, hidden], length 1), which adaptation learns from, and `hidden` (float32 [batch,
sequence, hidden]), which the graph of another router may begin with instead of token ids; both cost nothing
unless asked for. `surface` (float32 [1 or batch, features]) is an input that may be left out: its default is
the training mean. What a caller must know to feed it stands in the file's own metadata (`METADATA_KEY`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_router.compile.router.head import FactorHead, Surface, add_head
from edge_router.compile.router.onnx_graph import Graph, Precision, quantize_rows
from edge_router.records import dataclass
from edge_router.routing.routers.graph import FORMAT, IDS, MASK, METADATA_KEY, SURFACE
from edge_router.routing.routers.tokens import Cut

__all__ = ["METADATA_KEY", "FactorHead", "GraphSpec", "Precision", "Surface", "build_router", "quantize_rows"]

Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[str | int, ...]]

_OPSET = 17
_IR_VERSION = 9  # read by every onnxruntime that knows opset 17


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """What the encoder looks like and how its input is cut.

    Without layers the encoder is a table of one vector per token, `arrays["table"]`. `below`: of the layers,
    how many run in another router's graph, whose `hidden` this one begins with.
    """

    layers: int
    heads: int
    epsilon: float
    cut: Cut
    below: int = 0


def build_router(
    arrays: Arrays, head: FactorHead, spec: GraphSpec, output: Path, precision: Precision = "int8"
) -> None:
    """Write the graph. `arrays` are the encoder's parameters, named as in BERT's checkpoints."""
    graph = Graph(precision)
    embedding = _encoder(graph, arrays, spec)
    add_head(graph, head, embedding)
    hidden = int(head.projection.shape[0])
    states: Shapes = {"hidden": ("batch", "sequence", hidden)}
    inputs: Shapes = states if spec.below else {IDS: ("batch", "sequence")}
    inputs = {**inputs, MASK: ("batch", "sequence")}
    outputs: Shapes = {"score": ("batch",), "embedding": ("batch", hidden)}
    if spec.layers and not spec.below:
        outputs = {**outputs, **states}
    names = head.surface.names if head.surface else ()
    save_graph(graph, inputs, outputs, spec.cut, output, surface=names)


def save_graph(
    graph: Graph, inputs: Shapes, outputs: Shapes, cut: Cut, output: Path, *, surface: Sequence[str] = ()
) -> None:
    """Write a router's graph with what the program needs to know to feed it."""
    import onnx
    from onnx import TensorProto, helper

    if surface:
        inputs = {**inputs, SURFACE: ("surface_batch", len(surface))}
    given = [
        helper.make_tensor_value_info(
            name, TensorProto.INT64 if name in (IDS, MASK) else TensorProto.FLOAT, shape
        )
        for name, shape in inputs.items()
    ]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "router", given, made, graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="edge_router",
    )
    metadata = {
        "format": FORMAT,
        "max_tokens": cut.max_tokens,
        "tail_tokens": cut.tail_tokens,
        "without_options": cut.without_options,
        "surface": list(surface),
        "precision": graph.precision,
    }
    helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    onnx.checker.check_model(model)
    output.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(output))


def _encoder(graph: Graph, arrays: Arrays, spec: GraphSpec) -> str:
    """The mean of the tokens' vectors, brought to length 1."""
    mask = graph.node("Cast", MASK, to=1)
    static = not spec.layers
    x = graph.rows(arrays["table"], IDS) if static else _transformer(graph, arrays, spec, mask)
    column = graph.node("Unsqueeze", mask, graph.constant(np.array([2], np.int64)))
    axis = graph.constant(np.array([1], np.int64))
    total = graph.node("ReduceSum", graph.node("Mul", x, column), axis, keepdims=0)
    mean = graph.node("Div", total, graph.node("ReduceSum", column, axis, keepdims=0))
    return str(graph.node("LpNormalization", mean, axis=-1, p=2, outputs="embedding"))


def _transformer(graph: Graph, arrays: Arrays, spec: GraphSpec, mask: str) -> str:
    x = "hidden" if spec.below else _embeddings(graph, arrays, spec)
    hidden_away = graph.node("Sub", graph.constant(np.float32(1)), mask)
    bias = graph.node("Mul", hidden_away, graph.constant(np.float32(-1e4)))
    bias = graph.node("Unsqueeze", bias, graph.constant(np.array([1, 2], np.int64)))
    for index in range(spec.below, spec.layers):
        x = _layer(graph, arrays, f"encoder.layer.{index}", x, bias, spec)
    return x if spec.below else str(graph.node("Identity", x, outputs="hidden"))


def _embeddings(graph: Graph, arrays: Arrays, spec: GraphSpec) -> str:
    words = graph.rows(arrays["embeddings.word_embeddings.weight"], IDS)
    x = graph.node("Add", words, _places(graph, arrays, spec.cut.max_tokens))
    return graph.normalise(x, arrays, "embeddings.LayerNorm", spec.epsilon)


def _places(graph: Graph, arrays: Arrays, most: int) -> str:
    """The first `sequence` rows of the `most` positions; token type 0 is added to all of them beforehand."""
    positions = arrays["embeddings.position_embeddings.weight"][:most]
    table = positions + arrays["embeddings.token_type_embeddings.weight"][0]
    zero, one = graph.constant(np.array([0], np.int64)), graph.constant(np.array([1], np.int64))
    length = graph.node("Slice", graph.node("Shape", IDS), one, graph.constant(np.array([2], np.int64)))
    return str(graph.node("Slice", graph.constant(table.astype(np.float32)), zero, length, zero))


def _layer(graph: Graph, arrays: Arrays, name: str, x: str, bias: str, spec: GraphSpec) -> str:
    attended = _attention(graph, arrays, f"{name}.attention.self", x, bias, spec.heads)
    x = _residual(graph, arrays, f"{name}.attention.output", attended, x, spec.epsilon)
    dense = f"{name}.intermediate.dense"
    wide = graph.linear(x, arrays[f"{dense}.weight"], arrays[f"{dense}.bias"])
    # gelu(y) = y/2 * (1 + erf(y / sqrt 2)), in the form that onnxruntime fuses.
    erf = graph.node("Erf", graph.node("Div", wide, graph.constant(np.float32(math.sqrt(2)))))
    wide = graph.node("Mul", wide, graph.node("Add", erf, graph.constant(np.float32(1))))
    wide = graph.node("Mul", wide, graph.constant(np.float32(0.5)))
    return _residual(graph, arrays, f"{name}.output", wide, x, spec.epsilon)


def _residual(graph: Graph, arrays: Arrays, name: str, inner: str, x: str, epsilon: float) -> str:
    projected = graph.linear(inner, arrays[f"{name}.dense.weight"], arrays[f"{name}.dense.bias"])
    return graph.normalise(graph.node("Add", projected, x), arrays, f"{name}.LayerNorm", epsilon)


def _attention(graph: Graph, arrays: Arrays, name: str, x: str, bias: str, heads: int) -> str:
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
