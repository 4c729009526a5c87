"""Libraries for MLC's engine: whether ours run there, else made by mlc_llm's own compiler.

It would make them itself when it loads, and find them again by a key that knows neither its version nor the
machine. Ours lie in the artifact store, under a key that does. mlc_llm is never imported here: it runs as a
program, which can be ended.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edge_router.architectures.quantization import QUANTIZATIONS
from edge_router.compile.fingerprint import Inputs
from edge_router.compile.link import compiler
from edge_router.compile.recipe import Recipe
from edge_router.device import gpus
from edge_router.errors import BuildFailed, ConfigError
from edge_router.mlc_python import MlcPython, here
from edge_router.types import Progress

FORMAT = 1  # raised when the way of compiling changes
TIMEOUT_S = 3600.0
_LAST_LINES = 5  # of what the compiler said
_SLIDING = ("mistral", "ministral3", "gemma3", "gemma3_text", "llava")


NO_COMPILER = (
    "there is no C compiler, so MLC's own library does the work, which is many times slower on a processor; "
    "one comes with: python -m pip install 'edge-router[link]'"
)


def runs_ours(recipe: Recipe, config: Mapping[str, object], python: MlcPython) -> bool:
    """Whether `python` runs a library of ours: on the processor, where MLC's own is 30 times slower."""
    return lacks_compiler_only(recipe, config, python) and compiler() is not None


def lacks_compiler_only(recipe: Recipe, config: Mapping[str, object], python: MlcPython) -> bool:
    """Whether it would, if there is a C compiler."""
    from edge_router.architectures import architectures

    form = QUANTIZATIONS.get(recipe.quantization)
    known, kind = architectures(), str(config.get("model_type"))
    ours = form is not None and form.dtype != "bfloat16" and kind in known
    ours = ours and not known.get(kind)().mixers  # MLC's engine has no place for their states
    sinks = recipe.attention_sink_size is not None  # which only our own engine keeps
    return recipe.device == "cpu" and ours and not sinks and python.runs_libraries_of(here())


def check_sliding(recipe: Recipe, model_type: str) -> None:
    """Raises `ConfigError` for what MLC's compiler would drop, with a warning that nobody reads."""
    asked = {
        "weak.sliding_window_size": recipe.sliding_window_size,
        "weak.attention_sink_size": recipe.attention_sink_size,
    }
    for key, value in asked.items():
        if value is not None and model_type not in _SLIDING:
            reason = (
                f"MLC's compiler knows sliding windows of {', '.join(_SLIDING)} only, not of {model_type}"
            )
            raise ConfigError(key, value, reason)


def mlc_inputs(
    recipe: Recipe, config: Mapping[str, object], host: Mapping[str, object], python: MlcPython
) -> Inputs:
    """`config` is what the library is compiled from, windows included; `host` with every CPU feature."""
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
        **_builds(python),
    }


def compile_mlc(
    recipe: Recipe,
    model_dir: Path,
    output: Path,
    *,
    python: MlcPython,
    progress: Progress,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Write the library for the directory's model to `output`. Raises `BuildFailed`."""
    overrides = ";".join(f"{name}={value}" for name, value in _overrides(recipe).items())
    arguments = ["-m", "mlc_llm", "compile", str(model_dir)]
    arguments += ["--quantization", recipe.quantization, "--device", recipe.device]
    arguments += ["--overrides", overrides, "--output", str(output)]
    name = recipe.card.name
    with progress.step("compile"):
        try:
            done = subprocess.run(
                python.command(arguments),
                stdin=subprocess.DEVNULL,
                env=python.environment(),
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
    given = {name: value for name, value in more.items() if value is not None}
    return {**recipe.windows, "max_batch_size": recipe.max_sequences, **given}


def _builds(python: MlcPython) -> dict[str, object]:
    """Version and content of what compiles and runs the library."""
    found: dict[str, object] = {}
    for name, package in python.packages.items():
        found[name], found[f"{name}_build"] = package.version, package.build
    return found
