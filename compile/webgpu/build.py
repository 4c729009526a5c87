"""From a model's numbers to a program: TVM lowers the module, the exporter writes down what is left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_router.compile.targets import check_layers
from edge_router.errors import BuildFailed, EdgeRouterError, UnsupportedTarget, is_mistake
from edge_router.types import Progress, SilentProgress
from edge_router.webgpu_program import Program, read_program, write_program

PROGRAM_FILE = "program.json"
QUANTIZATIONS = ("q4f16_1",)
TARGET = "webgpu"


def write(
    config: Mapping[str, object], quantization: str, folder: Path, *, progress: Progress | None = None
) -> None:
    """Raises what `build_program` raises."""
    program = build_program(config, quantization, progress=progress)
    write_program(program, folder / PROGRAM_FILE)


def check(folder: Path) -> None:
    """Raises `ArtifactCorrupt`."""
    read_program(folder / PROGRAM_FILE)


def check_quantization(name: str) -> None:
    """Raises `UnsupportedTarget`."""
    if name not in QUANTIZATIONS:
        known = " and ".join(QUANTIZATIONS)
        raise UnsupportedTarget(TARGET, f"it reads weights in {known}, not {name}")


def build_program(
    config: Mapping[str, object], quantization: str, *, progress: Progress | None = None
) -> Program:
    """`config` is an MLC `model_config` with `model_type`. The windows in it have no influence.

    Raises `UnsupportedArchitecture`, `UnsupportedTarget` for a quantization, `InvalidModel`, `BuildFailed`.
    """
    where = str(config.get("model", config.get("model_type")))
    check_quantization(quantization)
    check_layers(TARGET, str(config.get("model_type")))
    with (progress or SilentProgress()).step("compile"):
        try:
            return _build(config, quantization, where)
        except EdgeRouterError:
            raise
        except Exception as error:
            if is_mistake(error):
                raise
            raise BuildFailed(where, "compile", str(error).strip() or type(error).__name__) from error


def _build(config: Mapping[str, object], quantization: str, where: str) -> Program:
    import tvm
    from tvm import tirx

    from edge_router.compile.graphs import definition
    from edge_router.compile.graphs.config import DecoderConfig
    from edge_router.compile.webgpu.export import Exporter
    from edge_router.compile.webgpu.functions import WAYS, Functions, buffers_of
    from edge_router.compile.webgpu.kernels import build
    from edge_router.compile.webgpu.lower import lower, target
    from edge_router.compile.webgpu.parts import GpuParts
    from edge_router.compile.webgpu.shaders import topk

    numbers, parts = DecoderConfig.read(config, where), GpuParts(eight=config.get("kv_cache") == "int8")
    numbers.check_groups(where)
    causal = definition(str(config.get("model_type")))(config, parts, where)
    model = Functions(parts, causal)
    with target():
        module, parameters = model.export_tvm(spec=model.spec())
        lowered = lower(module)
        kernels = {v.name_hint: f for v, f in lowered.functions_items() if isinstance(f, tirx.PrimFunc)}
        made, calls = build(kernels, target())
    names = ["control", *(name for name, _ in parameters)]
    own = parts.shaders.by_name
    vocabulary = numbers.vocab_size
    ways = {name: Exporter(lowered[name], names, own, calls).export() for name in WAYS}
    picks, picking = topk.functions(vocabulary)
    functions = {**ways, **picks}
    ours = {name: shader.compiled for name, shader in {**own, **picking}.items()}
    window, sinks = parts.seen()
    used = {launch.shader for function in functions.values() for launch in function.launches}
    return Program(
        model={**_without_windows(config), "quantization": quantization, "tvm": tvm.__version__},
        vocab_size=vocabulary,
        shaders={name: shader for name, shader in {**ours, **made}.items() if name in used},
        buffers=buffers_of(parameters, model.tables, vocabulary),
        functions=functions,
        window=window,
        sinks=sinks,
    )


def _without_windows(config: Mapping[str, object]) -> dict[str, object]:
    windows = ("context_window_size", "prefill_chunk_size", "max_batch_size")
    return {name: value for name, value in config.items() if name not in windows}
