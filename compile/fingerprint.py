"""The hash of every input of an artifact, so that whatever changes leads to another artifact.

There are two: weights do not depend on the machine, the library does. Nothing here imports TVM, and both take
milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from edge_router import plugins, webgpu_program
from edge_router.architectures import architecture as described
from edge_router.architectures import quantization
from edge_router.compile.recipe import Recipe
from edge_router.errors import EdgeRouterError

FORMAT = 1  # raised when artifacts change in a way that no source file below shows

Inputs = dict[str, object]

# Files whose text decides what comes out, below this package; folders count with all their Python files.
_WEIGHTS_SOURCES = (
    "kernels/__init__.py",
    "kernels/ir.py",
    "kernels/isa.py",
    "kernels/quantize.py",
    "readers",
    "rotary.py",
    "weights",
    "weights/texts/calibration.txt",
)
# Likewise, below the package that is installed.
_FORMAT_SOURCES = (
    *("architectures", "catalog/configs.py", "catalog/gguf", "catalog/rope.py"),
    "prompts",
)
_DESCRIPTIONS = ("architectures",)
_LIBRARY_SOURCES = (
    "graphs",
    "kernels",
    "library.py",
    "link.py",
    "passes.py",
    "rotary.py",
    "targets.py",
)
_GPU_SOURCES = ("gpu",)
_PROGRAM_SOURCES = ("graphs", "rotary.py", "webgpu")


def weights_inputs(recipe: Recipe, source: Mapping[str, object], moments: str | None) -> Inputs:
    """`source` says what the weights are: a pinned origin, or a hash of the content; `moments` is a hash."""
    return {
        "format": FORMAT,
        "model": recipe.card.name,
        "source": dict(source),
        "config": dict(recipe.card.config),
        "context_window_size": recipe.card.context_window_size,
        "prefill_chunk_size": recipe.card.prefill_chunk_size,
        "quantization": recipe.quantization,
        "quantizer": recipe.quantizer,
        "moments": moments,
        "gguf": installed("gguf"),
        "plugins": plugged(str(recipe.card.config.get("model_type", recipe.card.architecture))),
        "formats": source_hash(_FORMAT_SOURCES, _package()),
        "compiler": source_hash(_WEIGHTS_SOURCES),
    }


def library_inputs(
    recipe: Recipe, config: Mapping[str, object], target: Mapping[str, object], file: str
) -> Inputs:
    """`config` is what the library is compiled from, windows included; `target` with every CPU feature.

    `file` is the library's name, whose suffix says how it was linked.
    """
    return {
        "format": FORMAT,
        "model": recipe.card.name,
        "config": dict(config),
        "quantization": recipe.quantization,
        "target": dict(target),
        "file": file,
        "tvm": installed("apache-tvm"),
        "tvm_ffi": installed("apache-tvm-ffi"),
        "plugins": plugged(str(config.get("model_type"))),
        "descriptions": source_hash(_DESCRIPTIONS, _package()),
        "compiler": source_hash((*_LIBRARY_SOURCES, *(() if target["kind"] == "llvm" else _GPU_SOURCES))),
    }


def program_inputs(recipe: Recipe, config: Mapping[str, object]) -> Inputs:
    """`config` is what the program is compiled from.

    Windows have no influence, but for models that see long texts in another way than short ones. The
    compiler is named by what this package requires, for a program runs where no compiler is installed.
    """
    windows = ["prefill_chunk_size", "max_batch_size"]
    if not _minds_length(config):
        windows.append("context_window_size")
    return {
        "format": webgpu_program.FORMAT,
        "model": recipe.card.name,
        "config": {name: value for name, value in config.items() if name not in windows},
        "quantization": recipe.quantization,
        "tvm": required("apache-tvm"),
        "plugins": plugged(str(config.get("model_type"))),
        "descriptions": source_hash(_DESCRIPTIONS, _package()),
        "compiler": source_hash(_PROGRAM_SOURCES),
    }


def _minds_length(config: Mapping[str, object]) -> bool:
    """Whether a long context changes the model: by a sliding window, or by another way of turning."""
    scaling = config.get("rope_scaling")
    kinds = [scaling.get(name) for name in ("rope_type", "type")] if isinstance(scaling, Mapping) else []
    slides = any(config.get(name) not in (None, -1) for name in ("sliding_window", "sliding_window_size"))
    return slides or any(kind in kinds for kind in ("longrope", "su", "dynamic"))


def key(inputs: Mapping[str, object]) -> str:
    """Names an artifact; the same for equal inputs whatever their order."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def why(changed: Iterable[str], old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """One line for people: "tvm: 0.26 -> 0.27; compiler". `changed` are names of inputs, nested with dots."""
    return "; ".join(_change(name, _value(old, name), _value(new, name)) for name in changed)


def installed(distribution: str) -> str | None:
    """The version of an installed distribution, without importing it."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def plugged(architecture: str) -> dict[str, str]:
    """Files of other packages that say what this architecture is, and its graph: module to hash."""
    modules = {point.module for point in plugins.points(plugins.ARCHITECTURES) if point.name == architecture}
    if modules:
        with suppress(EdgeRouterError):  # whoever builds it says so
            one = described(architecture)
            modules |= {named.partition(":")[0] for named in (one.graph, *(m.graph for m in one.mixers))}
    found: dict[str, str] = {}
    for module in modules:
        try:
            spec = find_spec(module)
        except ModuleNotFoundError:  # its parent; whoever loads it says so
            continue
        if spec is not None and spec.origin is not None:
            found[module] = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return found


def required(distribution: str) -> str | None:
    """The requirement that this package states, installed or not: "apache-tvm==0.27.0"."""
    try:
        stated = requires("edge-router") or []
    except PackageNotFoundError:
        return None
    return next((line for line in stated if re.match(rf"{distribution}(?![\w.-])", line)), None)


def source_hash(names: Iterable[str], root: Path | None = None) -> str:
    """sha256 over the files that `names` stand for (Python's in folders), their names included."""
    folder = root or Path(__file__).parent
    digest = hashlib.sha256()
    for name in names:
        path = folder / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            if file.is_file():
                text = file.read_bytes().replace(b"\r\n", b"\n")  # the same on a Windows checkout
                digest.update(f"{file.relative_to(folder).as_posix()}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def _package() -> Path:
    """Where what is shared with those that only run models lies."""
    return Path(quantization.__file__).parents[1]


def _value(inputs: Mapping[str, object], name: str) -> object:
    value: object = inputs
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _change(name: str, old: object, new: object) -> str:
    """Hashes and long lists say nothing to people, so only their name is given."""
    words = [str(value) for value in (old, new)]
    if any(len(word) > 40 for word in words) or (len(words[0]) == 32 and " " not in words[0]):
        return name
    return f"{name} {words[0]} -> {words[1]}"
