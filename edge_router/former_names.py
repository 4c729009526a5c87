"""Modules under the names that they had: `edge_router.thresholds.x` is `edge_router.routing.thresholds.x`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import MappingProxyType, ModuleType

FORMER: Mapping[str, str] = MappingProxyType(
    {
        "aio": "api.async_client",
        "client": "api.client",
        "engines.local.directory": "prompts.directory",
        "engines.local.template": "prompts.template",
        "engines.local.tokenizer": "prompts.tokenizer",
        "evaluation": "routing.evaluation",
        "labels": "routing.labels",
        "paths": "system.paths",
        "requests": "surfaces.openai.parse",
        "routers": "routing.routers",
        "thresholds": "routing.thresholds",
    }
)


def former_spec(name: str) -> ModuleSpec | None:
    """The spec of a module by its former name; None where no module ever had it."""
    own = name.removeprefix("edge_router.")
    former = next((each for each in FORMER if f"{own}.".startswith(f"{each}.")), None)
    if former is None:
        return None
    present = f"edge_router.{FORMER[former]}{own.removeprefix(former)}"
    found = find_spec(present)
    if found is None:
        return None
    # A package with an empty path: else its modules would be made a second time, with classes of their own.
    return ModuleSpec(name, _Former(present), is_package=found.submodule_search_locations is not None)


class _Former(Loader):
    """A loader that hands out the module of another name; for a package one that reads from it."""

    def __init__(self, present: str) -> None:
        self._present = present

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        warnings.warn(f"{module.__name__} is {self._present} now", DeprecationWarning, stacklevel=2)
        real = import_module(self._present)
        if hasattr(module, "__path__"):
            module.__dict__["__getattr__"] = lambda name: getattr(real, name)
        else:
            sys.modules[module.__name__] = real
