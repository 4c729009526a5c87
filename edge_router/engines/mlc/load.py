"""Loading the weak model into MLC's engine: its windows, its library, its process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from edge_router.config.settings import Config
from edge_router.engines.mlc import NAME
from edge_router.engines.mlc.chunks import refusal_of
from edge_router.engines.mlc.engine import MlcEngine
from edge_router.engines.mlc.pace import Pace
from edge_router.engines.mlc.restarts import Restarting
from edge_router.engines.mlc.windows import MlcWindows, engine_config, sequences, windows_for
from edge_router.mlc_python import mlc_python
from edge_router.system.paths import Paths
from edge_router.system.worker_process import Child
from edge_router.types import Cancel, Progress

if TYPE_CHECKING:
    from edge_router.compile.pipeline import CompiledModel

CHILD = "edge_router.engines.mlc.child"


def load(
    config: Config, paths: Paths, progress: Progress, *, clock: Callable[[], float] = time.monotonic
) -> MlcEngine:
    """The configured weak model, fetched and built where it is missing and `weak.build` allows that.

    Raises `UnknownModel`, `WeightsError`, `ArtifactError`, `StorageError`, `OutOfMemory`,
    `EngineUnavailable`: without mlc_llm, where MLC refuses, or after `mlc.load_timeout_s` by `clock`.
    """
    from edge_router.engines.local.sampler import SamplingDefaults
    from edge_router.engines.local.settings import thinks
    from edge_router.engines.mlc.limits import first_time, limits
    from edge_router.engines.tvm.engine import built
    from edge_router.prompts.directory import ModelDirectory

    python = mlc_python(config.mlc.python)
    compiled = built(config, paths, progress)
    windows = windows_for(
        compiled.card.name, compiled.config, config, paths, progress, forgets=compiled.by_mlc
    )
    directory = ModelDirectory.read(compiled.model_dir, compiled.card.name)
    start, limit = first_line(compiled, config, windows), config.mlc.load_timeout_s

    def begin(cancel: Cancel) -> Child:
        return Child(
            NAME,
            CHILD,
            start,
            timeout_s=limit,
            python=python,
            refusal=refusal_of,
            clock=clock,
            cancel=cancel,
        )

    for line in limits(config, SamplingDefaults.from_config(directory.config)):
        progress.note(line)
    with first_time(paths.artifacts / "mlc.loaded") as warning:
        if warning is not None:
            progress.note(warning)
        with progress.step("load"):
            child = Restarting(NAME, begin)
    engine = MlcEngine(
        child,
        Pace(clock),
        directory,
        model_id=compiled.card.name,
        context_window_size=windows.context,
        vocab_size=cast(int, compiled.config["vocab_size"]),
    )
    engine.weights_key = compiled.weights_key
    engine.ends_loops = config.weak.end_loops
    engine.prompts.thinks = thinks(compiled.card, config)
    return engine


def first_line(compiled: CompiledModel, config: Config, windows: MlcWindows) -> dict[str, object]:
    """What the child is told: arguments of MLC's constructor."""
    return {
        "model": str(compiled.model_dir),
        "model_lib": str(compiled.library),
        "device": config.weak.device,
        "mode": config.mlc.mode or ("local" if sequences(config) > 1 else "interactive"),
        "engine_config": engine_config(config, windows),
    }
