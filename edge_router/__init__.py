"""edge_router: a small compiled model answers here; only the hard queries go to a strong one.

`from edge_router import Controller` is the whole surface for embedding; what else the command line can,
`plan`, `propose` and the other functions here can: they return what it prints. `edge_router.errors` holds
every error. `ScriptedEngine` stands in for either model in tests, `ScriptedRouter` for the router. Nothing
heavy is imported before it is used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not (Path(__file__).parent / "compile").is_dir():
    # In a checkout compile/ and models/ lie beside this folder: for a Python that was started there while a
    # wheel is what is installed.
    __path__.append(str(Path(__file__).parent.parent))

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from edge_router import errors
    from edge_router.api.async_client import AsyncController
    from edge_router.api.calibrations import calibrate, calibrate_tiers
    from edge_router.api.client import Controller
    from edge_router.api.model_plans import plan, plans
    from edge_router.api.proposals import propose
    from edge_router.api.replays import replay
    from edge_router.bench.evaluations import evaluate
    from edge_router.chat.request import TokenMask, Vocabulary
    from edge_router.cli.diagnosis import diagnose
    from edge_router.config.settings import Config
    from edge_router.engines.scripted import ScriptedEngine
    from edge_router.labelling.label_files import label
    from edge_router.labelling.weak_calibrations import (
        calibrate_confidence,
        calibrate_questions,
        calibrate_tools,
    )
    from edge_router.questions.question import Choice, Level, Option, Scale, YesNo
    from edge_router.routing.routers.scripted import ScriptedRouter
    from edge_router.types import Decision, Reason

__version__ = "0.1.0"
__all__ = [
    "AsyncController",
    "Choice",
    "Config",
    "Controller",
    "Decision",
    "Level",
    "Option",
    "Reason",
    "Scale",
    "ScriptedEngine",
    "ScriptedRouter",
    "TokenMask",
    "Vocabulary",
    "YesNo",
    "__version__",
    "calibrate",
    "calibrate_confidence",
    "calibrate_questions",
    "calibrate_tiers",
    "calibrate_tools",
    "diagnose",
    "errors",
    "evaluate",
    "label",
    "plan",
    "plans",
    "propose",
    "replay",
]

_HOMES = {
    "AsyncController": "edge_router.api.async_client",
    "Choice": "edge_router.questions.question",
    "Config": "edge_router.config.settings",
    "Controller": "edge_router.api.client",
    "Decision": "edge_router.types",
    "Level": "edge_router.questions.question",
    "Option": "edge_router.questions.question",
    "Reason": "edge_router.types",
    "Scale": "edge_router.questions.question",
    "ScriptedEngine": "edge_router.engines.scripted",
    "ScriptedRouter": "edge_router.routing.routers.scripted",
    "TokenMask": "edge_router.chat.request",
    "Vocabulary": "edge_router.chat.request",
    "YesNo": "edge_router.questions.question",
    "calibrate": "edge_router.api.calibrations",
    "calibrate_confidence": "edge_router.labelling.weak_calibrations",
    "calibrate_questions": "edge_router.labelling.weak_calibrations",
    "calibrate_tiers": "edge_router.api.calibrations",
    "calibrate_tools": "edge_router.labelling.weak_calibrations",
    "diagnose": "edge_router.cli.diagnosis",
    "evaluate": "edge_router.bench.evaluations",
    "label": "edge_router.labelling.label_files",
    "plan": "edge_router.api.model_plans",
    "plans": "edge_router.api.model_plans",
    "propose": "edge_router.api.proposals",
    "replay": "edge_router.api.replays",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "errors":
        return import_module("edge_router.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edge_router' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _FormerNames:
    """Asked last, for what no other finder has found: modules of ours by a former name."""

    @staticmethod
    def find_spec(name: str, path: object, target: object = None) -> ModuleSpec | None:
        if not name.startswith("edge_router."):
            return None
        from edge_router.former_names import former_spec

        return former_spec(name)


sys.meta_path.append(_FormerNames)
