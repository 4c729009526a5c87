"""A router's int8 graph as float32, for GPUs, where nothing computes in int8.

The weights are the same; only activations are no longer rounded. Undone are the two forms in which
`onnx_graph` writes int8, a product with a matrix and rows of a table; all other nodes stay as they are.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.catalog import RouterCard
from edge_router.compile.fingerprint import key
from edge_router.compile.router.head import load_graph
from edge_router.errors import MissingExtra
from edge_router.routing.routers.providers import EXTRA
from edge_router.store import ArtifactStore
from edge_router.system.paths import Paths

_FILE = "router.onnx"
_FORMAT = 1  # raised when what is written changes


def float32_graph(card: RouterCard, store: ArtifactStore | None = None) -> Path:
    """The file, kept in the artifact store under the hash of the graph that it is made from.

    Raises `MissingExtra` without onnx, `InvalidRouter`, and what the store raises.
    """
    if find_spec("onnx") is None:
        raise MissingExtra("onnx", EXTRA, "running the router on a GPU")
    graph = card.directory / card.graph
    content = hashlib.sha256(graph.read_bytes()).hexdigest()
    inputs = {"format": _FORMAT, "model": f"router {card.name}", "graph": content}
    store = store or ArtifactStore(Paths.default().artifacts)
    with resources.as_file(graph) as file:
        folder = store.obtain(
            "router", key(inputs), lambda made: write_float32(file, made / _FILE), inputs=inputs
        )
    return folder / _FILE


def write_float32(graph: Path, output: Path) -> None:
    """Raises `InvalidRouter` for a file that is no ONNX graph."""
    from onnx import checker, save

    model = load_graph(graph)
    _Unpacked(model.graph).rewrite()
    checker.check_model(model)
    save(model, str(output))


class _Unpacked:
    """The nodes of a graph, those that work on int8 replaced by what they stand for."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._replaced: dict[str, Any] = {}  # by the output that stays

    def rewrite(self) -> None:
        from onnx import helper, numpy_helper

        for node in self._graph.node:
            found = self._product(node) or self._rows(node)
            if found is not None:
                op, inputs, weights, result = found
                name = f"{result}_weights"
                self._graph.initializer.append(numpy_helper.from_array(weights, name))
                inputs = [name if each is None else each for each in inputs]
                self._replaced[result] = helper.make_node(op, inputs, [result])
        nodes = [self._replaced.get(node.output[0], node) for node in self._graph.node]
        needed = self._needed(nodes)
        kept = [node for node in nodes if needed.intersection(node.output)]
        constants = [tensor for tensor in self._graph.initializer if tensor.name in needed]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(kept)
        self._graph.initializer.extend(constants)

    def _product(self, node: Any) -> _Replacement | None:
        """x -> DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul by both scales: a MatMul."""
        integers = self._chain(node, "Mul", "Cast", "MatMulInteger")
        if integers is None:
            return None
        quantized = self._made_by[integers.input[0]]
        scale = self._made_by[node.input[1]].input[1]
        weights = self._array(integers.input[1]).astype(np.float32) * self._array(scale)
        return "MatMul", [quantized.input[0], None], weights, node.output[0]

    def _rows(self, node: Any) -> _Replacement | None:
        """Rows of an int8 table times rows of their scales: rows of a table."""
        taken = self._chain(node, "Mul", "Cast", "Gather")
        if taken is None:
            return None
        scale = self._made_by[node.input[1]].input[0]
        table = self._array(taken.input[0]).astype(np.float32) * self._array(scale)
        return "Gather", [None, taken.input[1]], table, node.output[0]

    def _chain(self, node: Any, *ops: str) -> Any | None:
        """The last of the nodes that lead to `node` by their first inputs, if they are of these kinds."""
        for op in ops[:-1]:
            if node is None or node.op_type != op:
                return None
            node = self._made_by.get(node.input[0])
        return node if node is not None and node.op_type == ops[-1] else None

    def _array(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._constants[name]))

    def _needed(self, nodes: list[Any]) -> set[str]:
        """Everything that the outputs come from. An input that has a default keeps it."""
        needed = {value.name for value in [*self._graph.output, *self._graph.input]}
        for node in reversed(nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
        return needed


# Operation, inputs (None: the weights), the weights, the output.
_Replacement = tuple[str, list[str | None], np.ndarray, str]
