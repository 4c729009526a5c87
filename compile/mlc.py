"""Libraries for MLC's engine, made by mlc_llm's own compiler where that package is installed.

It would make them itself when it loads, and find them again by a key that knows neither its version nor the
machine. Ours lie in the artifact store, under a key that does. mlc_llm is never imported here: it runs as a
program, which can be ended.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

from edge_router.compile.fingerprint import Inputs
from edge_router.compile.recipe import Recipe
from edge_router.device import gpus
from edge_router.errors import BuildFailed, EngineUnavailable
from edge_router.telemetry import switched_off
from edge_router.types import Progress

FORMAT = 1  # raised when the way of compiling changes
TIMEOUT_S = 3600.0
_LAST_LINES = 5  # of what the compiler said
_PACKAGES = ("mlc_llm", "tvm", "tvm_ffi")  # names to import; who distributes them differs by platform


def mlc_inputs(recipe: Recipe, config: Mapping[str, object], host: Mapping[str, object]) -> Inputs:
    """`config` is what the library is compiled from, windows included; `host` with every CPU feature.

    Raises `EngineUnavailable` without mlc_llm.
    """
    if find_spec("mlc_llm") is None:
        raise EngineUnavailable("mlc", "the package mlc_llm is not installed")
    on_host = recipe.device == "cpu"
    return {
        "format": FORMAT,
        "model": recipe.card.name,
        "config": {**config, **_overrides(recipe)},
        "quantization": recipe.quantization,
        "device": recipe.device,
        "gpus": [] if on_host else [f"{gpu.name} {gpu.architecture or ''}".strip() for gpu in gpus()],
        "host": dict(host),
        "architectures": os.environ.get("MLC_MULTI_ARCH"),  # makes it compile for several GPUs
        **_builds(),
    }


def compile_mlc(
    recipe: Recipe,
    model_dir: Path,
    output: Path,
    *,
    progress: Progress,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Write the library for the directory's model to `output`. Raises `BuildFailed`."""
    overrides = ";".join(f"{name}={value}" for name, value in _overrides(recipe).items())
    command = [sys.executable, "-m", "mlc_llm", "compile", str(model_dir)]
    command += ["--quantization", recipe.quantization, "--device", recipe.device]
    command += ["--overrides", overrides, "--output", str(output)]
    name = recipe.card.name
    with progress.step("compile"):
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                env=switched_off(os.environ),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            reason = f"mlc_llm's compiler did not end within {timeout_s:g} s"
            raise BuildFailed(name, "compile", reason) from error
    # On Windows it may end with an error although the library is written, so its status says nothing.
    if not output.is_file() or not output.stat().st_size:
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
        raise BuildFailed(name, "compile", " ".join(said) or f"mlc_llm ended with status {done.returncode}")


def _overrides(recipe: Recipe) -> dict[str, int]:
    """Under the names that `--overrides` takes."""
    more = {
        "sliding_window_size": recipe.sliding_window_size,
        "attention_sink_size": recipe.attention_sink_size,
    }
    return {**recipe.windows, **{name: value for name, value in more.items() if value is not None}}


def _builds() -> dict[str, object]:
    """Version and content of what compiles and runs the library.

    Nightly builds share one version number, so the list of the distribution's files, with a hash of each,
    counts as well.
    """
    owners = packages_distributions()
    found: dict[str, object] = {}
    for package in _PACKAGES:
        name = next(iter(owners.get(package, ())), None)
        try:
            held = distribution(name) if name is not None else None
        except PackageNotFoundError:
            held = None
        found[package] = None if held is None else held.version
        record = held.read_text("RECORD") if held is not None else None
        found[f"{package}_build"] = hashlib.sha256((record or "").encode()).hexdigest()
    return found
