"""The architectures that are known, each described once: by `model_type`, by GGUF's name, and in all.

A package of its own adds one as an entry point of `edge_router.architectures`: a function of nothing that
gives its `Architecture`, under its `model_type`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from edge_router import plugins
from edge_router.architectures.description import Architecture, ParameterNames
from edge_router.architectures.exaone4 import EXAONE4
from edge_router.architectures.gemma import GEMMA2, GEMMA3
from edge_router.architectures.gguf_names import GgufNames
from edge_router.architectures.granite import GRANITE
from edge_router.architectures.granite_hybrid import GRANITE_HYBRID
from edge_router.architectures.lfm2 import LFM2
from edge_router.architectures.llama import LLAMA
from edge_router.architectures.mistral import MINISTRAL3, MISTRAL
from edge_router.architectures.olmo import OLMO2, OLMO3
from edge_router.architectures.phi3 import PHI3
from edge_router.architectures.qwen2 import QWEN2
from edge_router.architectures.qwen3 import QWEN3
from edge_router.architectures.qwen3_5 import QWEN3_5
from edge_router.architectures.qwen3_moe import QWEN3_MOE
from edge_router.architectures.smollm3 import SMOLLM3
from edge_router.errors import UnsupportedArchitecture
from edge_router.registry import Registry

__all__ = [
    "BY_TYPE",
    "Architecture",
    "GgufNames",
    "ParameterNames",
    "architecture",
    "architectures",
    "gguf_architectures",
    "of_gguf",
]

_OURS = (
    *(LLAMA, MISTRAL, MINISTRAL3, QWEN2, QWEN3, QWEN3_MOE, QWEN3_5, GEMMA2, GEMMA3, PHI3),
    *(SMOLLM3, GRANITE, GRANITE_HYBRID, OLMO2, OLMO3, EXAONE4, LFM2),
)
BY_TYPE: Mapping[str, Architecture] = MappingProxyType({name: one for one in _OURS for name in one.types})
_BY_GGUF: Mapping[str, Architecture] = MappingProxyType(
    {one.gguf.architecture: one for one in _OURS if one.gguf is not None}
)


def architectures() -> Registry[Architecture]:
    """By every name in `model_type`, those of other installed packages among them.

    Raises `DuplicateName` where two have the same name.
    """
    registry: Registry[Architecture] = Registry("architecture")
    for name, one in BY_TYPE.items():
        registry.add(name, partial(_same, one))
    return plugins.extend(registry, plugins.ARCHITECTURES)


def architecture(model_type: str) -> Architecture:
    """The description of the architecture with this `model_type`.

    Raises `UnsupportedArchitecture`, `DuplicateName`, `PluginFailed`.
    """
    known = architectures()
    if model_type not in known:
        raise UnsupportedArchitecture(model_type, tuple(known))
    return known.get(model_type)()


def of_gguf(name: str) -> Architecture | None:
    """The architecture that a GGUF file calls `name`; None for one that is not known."""
    if name in _BY_GGUF:
        return _BY_GGUF[name]
    described = (architecture(point.name) for point in plugins.points(plugins.ARCHITECTURES))
    return next((one for one in described if one.gguf and one.gguf.architecture == name), None)


def gguf_architectures() -> tuple[str, ...]:
    """What GGUF files call those that come with the package."""
    return tuple(_BY_GGUF)


def _same(one: Architecture) -> Architecture:
    return one
