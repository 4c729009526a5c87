"""A model of Laya's kind (package laya, class DecisionModel) as the ONNX graph of a router of kind decision.

    python -m edge_router.compile.training.decision_encoder CHECKPOINT NAME [int8]

writes it among the user's own routers; a NAME that is a path, there.

The graph takes texts and numbers of options of any length. int8 is of the weights only: one of the
activations has one scale for all that is read at once, so that an answer would depend on its neighbours.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edge_router.catalog import RouterCard
from edge_router.compile.training.card import write_card
from edge_router.routing.routers.encoder import INPUTS, MARKED, MARKS, TYPE
from edge_router.routing.routers.graph import IDS, MASK
from edge_router.system.paths import Paths

OPSET = 17
_GRAPH, _TOKENIZER = "router.onnx", "tokenizer.json"
_SMALLEST = 1024  # numbers of a matrix that is written as int8


def write_router(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    max_tokens: int = 512,
    temperature: float = 1.0,
    weights: str = "float32",
    opset: int = OPSET,
) -> RouterCard:
    """`model` is a DecisionModel, `tokenizer` of transformers. Calibrate the threshold: it is the middle."""
    folder.mkdir(parents=True, exist_ok=True)
    write_graph(model, folder / _GRAPH, opset)
    if weights == "int8":
        quantize_weights(folder / _GRAPH)
    tokenizer.backend_tokenizer.save(str(folder / _TOKENIZER))
    card = RouterCard(
        name=folder.name,
        directory=folder,
        graph=_GRAPH,
        tokenizer=_TOKENIZER,
        default_threshold=0.5,
        max_tokens=max_tokens,
        description=f"An encoder of Laya's kind, {weights}",
        trained_on="",
        license="",
        metrics={},
        kind="decision",
        temperature=temperature,
        special_tokens=(tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token),
    )
    write_card(card)
    return card


def write_graph(model: Any, file: Path, opset: int = OPSET) -> None:
    import torch

    size, options = 24, 3
    example = (
        torch.ones((2, size), dtype=torch.int64),
        torch.ones((2, size), dtype=torch.int64),
        torch.arange(1, options + 1).repeat(2, 1),
        torch.ones((2, options), dtype=torch.bool),
        torch.ones((2,), dtype=torch.int64),
    )
    axes: dict[str, tuple[str, ...]] = {IDS: ("rows", "tokens"), MASK: ("rows", "tokens")}
    axes |= {MARKS: ("rows", "options"), MARKED: ("rows", "options"), TYPE: ("rows",)}
    axes |= {"logits": ("rows", "options"), "act_logits": ("rows",)}
    # An even number of heads lets torch take a way that no graph has a node for.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        _export(model, example, file, axes, opset)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _export(
    model: Any, example: tuple[Any, ...], file: Path, axes: Mapping[str, Sequence[str]], opset: int
) -> None:
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        # That values of Python's become constants is meant: they are the same for every text.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            example,
            str(file),
            input_names=list(INPUTS),
            output_names=["logits", "act_logits"],
            dynamic_axes={name: dict(enumerate(each)) for name, each in axes.items()},
            opset_version=opset,
            dynamo=False,
        )


def quantize_weights(file: Path) -> None:
    """Each matrix that something is multiplied by, column by column, as int8 and scales."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(file))
    graph = model.graph
    users = {name: node.op_type for node in graph.node for name in list(node.input)[1:2]}
    kept, added, scaled = [], [], []
    for tensor in graph.initializer:
        values = np.asarray(numpy_helper.to_array(tensor))
        product = users.get(tensor.name) in ("MatMul", "Gemm") and values.ndim == 2
        if not product or values.size < _SMALLEST or values.dtype != np.float32:
            kept.append(tensor)
            continue
        # The columns of what is multiplied; `Gemm` may take it on its side.
        axis = 0 if _turned(graph, tensor.name) else 1
        scale = np.maximum(np.abs(values).max(axis=1 - axis) / 127, 1e-12).astype(np.float32)
        codes = np.clip(np.rint(values / np.expand_dims(scale, 1 - axis)), -127, 127).astype(np.int8)
        names = (f"{tensor.name}_codes", f"{tensor.name}_scale")
        kept += [numpy_helper.from_array(codes, names[0]), numpy_helper.from_array(scale, names[1])]
        added.append(helper.make_node("DequantizeLinear", list(names), [tensor.name], axis=axis))
        scaled.append(tensor.name)
    nodes = [*added, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))


def _turned(graph: Any, name: str) -> bool:
    for node in graph.node:
        if node.op_type == "Gemm" and name in list(node.input)[1:2]:
            return any(each.name == "transB" and each.i for each in node.attribute)
    return False


def main(*arguments: str) -> None:
    """Raises `SystemExit` for words that are not meant so, and where a package is missing."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("weights", metavar="int8", nargs="?", choices=("int8", "float32"), default="float32")
    given = parser.parse_args(arguments)
    if lacks := [each for each in ("laya", "torch", "onnx") if find_spec(each) is None]:
        parser.error(f"{', '.join(lacks)} must be installed: python -m pip install {' '.join(lacks)}")
    agent: Any = import_module("laya").load(given.checkpoint, device="cpu", backend="eager")
    name, weights = given.name, given.weights
    by_options = getattr(agent, "temperature_by_options", {})
    temperature = float(by_options.get("score:3-5", agent.temperature[1]))
    most = int(agent.cfg.get("max_len", 512))
    folder = Path(name) if len(Path(name).parts) > 1 else Paths.default().routers / name
    write_router(agent.model, agent.tok, folder, max_tokens=most, temperature=temperature, weights=weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
