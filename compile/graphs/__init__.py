"""Models as graphs, built out of a target's parts; which graph, an architecture's description says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from edge_router.architectures import Architecture, architecture

# (the description, model_config, the parts of the target, a name for errors) -> the model, to be exported
Graph = Callable[[Architecture, Mapping[str, object], Any, str], Any]
Define = Callable[[Mapping[str, object], Any, str], Any]


def definition(model_type: str) -> Define:
    """The graph of an architecture, by its `model_type`; it imports TVM.

    Raises `UnsupportedArchitecture`, `DuplicateName` where two have the same name, `PluginFailed`.
    """
    described = architecture(model_type)
    module, _, function = described.graph.partition(":")
    graph: Graph = getattr(import_module(module), function)
    return partial(graph, described)
