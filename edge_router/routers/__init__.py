"""The routers by name: those that ship as ONNX graphs, and the controls.

A factory takes `threads` (of the graph; the controls need none) and returns a `Router`.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_router.catalog import router_cards
from edge_router.registry import Registry
from edge_router.routers.base import Router


def routers() -> Registry[Router]:
    """A new registry: nothing is loaded before a factory is called."""
    registry: Registry[Router] = Registry("router")
    for name in router_cards():
        registry.add(name, _onnx(name))
    registry.add("length", _length)
    registry.add("random", _random)
    return registry


def _onnx(name: str) -> Callable[..., Router]:
    def load(threads: int = 1) -> Router:
        from edge_router.routers.onnx import OnnxRouter

        return OnnxRouter(router_cards()[name], threads=threads)

    return load


def _length(threads: int = 1) -> Router:
    from edge_router.routers.controls import LengthRouter

    return LengthRouter()


def _random(threads: int = 1) -> Router:
    from edge_router.routers.controls import RandomRouter

    return RandomRouter()
