"""What libraries report of themselves over the network, switched off before they are imported.

onnxruntime 1.32 writes a device id below ~/.cache and calls its makers some seconds after it is imported; its
`disable_telemetry_events()` comes too late. huggingface_hub 2.4 asks the hub for a list of programs and names
those that it finds in the environment. Each looks at its variable once, while it is imported, so these two
are imported here and nowhere else.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

SWITCHES: Mapping[str, str] = {  # a library, and the variable that keeps it quiet
    "onnxruntime": "ORT_DISABLE_TELEMETRY",
    "huggingface_hub": "HF_HUB_DISABLE_TELEMETRY",
}

_logger = logging.getLogger(__name__)


def load_onnxruntime() -> Any:
    """The module onnxruntime, imported without its reports home."""
    return _load("onnxruntime")


def load_huggingface_hub(submodule: str = "") -> Any:
    """The module huggingface_hub, or one inside it, imported without its reports home."""
    package = _load("huggingface_hub")
    return importlib.import_module(f"huggingface_hub.{submodule}") if submodule else package


def switched_off(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with every report switched off: what a child process gets."""
    return {**environ, **dict.fromkeys(SWITCHES.values(), "1")}


def reporting(environ: Mapping[str, str], loaded: Mapping[str, object]) -> list[str]:
    """The libraries among `loaded` (sys.modules) that came before their reports were switched off."""
    return [name for name, switch in SWITCHES.items() if name in loaded and environ.get(switch) != "1"]


def _load(name: str) -> Any:
    if name in reporting(os.environ, sys.modules):  # by the program that embeds us, whose choice it was
        _logger.warning(
            "%s was imported before edge_router and may report home: set %s=1", name, SWITCHES[name]
        )
    os.environ[SWITCHES[name]] = "1"
    return importlib.import_module(name)
