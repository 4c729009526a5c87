"""Compiling a model's configuration into a library that TVM's runtime loads, and MLC's where it is linked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from edge_router.architectures.quantization import QUANTIZATIONS as FORMATS
from edge_router.compile.graphs import definition
from edge_router.compile.link import link, linker, load_library
from edge_router.compile.targets import GPUS, TargetSpec, check_layers, kernels_of, tvm_target
from edge_router.errors import ArtifactCorrupt, BuildFailed, EdgeRouterError, InvalidModel, is_mistake
from edge_router.parsing import strict_json
from edge_router.types import Progress, SilentProgress

QUANTIZATIONS = tuple(name for name, form in FORMATS.items() if form.dtype != "bfloat16")

# What an engine looks up. The first ones ours, the rest MLC's.
FUNCTIONS = (
    "_metadata",
    "embed",
    "prefill",
    "decode",
    "batch_prefill",
    "batch_decode",
    "batch_verify",
    "create_tir_paged_kv_cache",
    "alloc_embedding_tensor",
    "softmax_with_temperature",
    "apply_logit_bias_inplace",
    "apply_penalty_inplace",
    "apply_bitmask_inplace",
)

# Of a model whose layers keep states, which MLC's KV cache does not know.
STATEFUL = ("_metadata", "paged_prefill", "paged_decode", "paged_batch_decode")


def compile_library(
    config: Mapping[str, object],
    quantization: str,
    target: TargetSpec,
    output: Path,
    *,
    progress: Progress | None = None,
) -> Mapping[str, object]:
    """Write the library to `output`, whose suffix says how it is linked (see `link`); what it says of itself.

    `config` is `model_config` of an mlc-chat-config with `model_type`, or that file's whole content. Raises
    `InvalidModel`, `UnsupportedArchitecture`, `UnsupportedTarget`, `LinkerMissing` before any work,
    `BuildFailed` after.
    """
    values = _flat(config)
    where = str(config.get("model", output.stem))
    if quantization not in QUANTIZATIONS:
        raise InvalidModel(where, f"{quantization} is not among {', '.join(QUANTIZATIONS)}")
    define = definition(str(values.get("model_type")))
    check_layers(target.kind, str(values.get("model_type")))
    linker(output, where)
    shown = progress or SilentProgress()
    with shown.step("compile", total=3) as step:
        executable, described = _build(define, values, quantization, target, where, step.advance)
    with shown.step("link"):
        link(executable, output)
    return described


def _flat(config: Mapping[str, object]) -> dict[str, object]:
    inner = config.get("model_config")
    if not isinstance(inner, Mapping):
        return dict(config)
    windows = ("context_window_size", "prefill_chunk_size", "sliding_window_size", "attention_sink_size")
    outer = {name: config[name] for name in ("model_type", "active_vocab_size", *windows) if name in config}
    return {**cast("Mapping[str, object]", inner), **outer}


def _build(
    define: Any, values: Mapping[str, object], quantization: str, target: TargetSpec, where: str, advance: Any
) -> tuple[Any, Mapping[str, object]]:
    import tvm
    from tvm import relax

    from edge_router.compile.gpu.build import building
    from edge_router.compile.graphs.config import DecoderConfig
    from edge_router.compile.graphs.contract import attach
    from edge_router.compile.graphs.parts import Parts
    from edge_router.compile.passes import pipeline

    compiled_for, kernels, form = tvm_target(target), kernels_of(target), FORMATS[quantization]
    advance()
    try:
        with compiled_for:
            if target.kind in GPUS:
                DecoderConfig.read(values, where).check_groups(where)
            model = define(values, Parts(kernels, form, str(values.get("kv_cache", "auto"))), where)
            module, parameters = model.export_tvm(spec=model.spec())
            described = {**metadata(values, quantization, parameters), **model.described()}
            attach(
                module,
                kernels,
                stored=form.dtype,
                tokens=cast(int, values["prefill_chunk_size"]),
                width=cast(int, values["hidden_size"]),
                vocabulary=cast(int, values["vocab_size"]),
                active=cast(int, described["active_vocab_size"]),
            )
            advance()
            bounds = {
                "seq_len": cast(int, described["prefill_chunk_size"]),
                "batch_size": cast(int, described["max_batch_size"]),
            }
            # the pass would merge vector registers with scalar ones, which cannot be told apart afterwards
            with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}), building(target):
                built = relax.build(
                    module,
                    compiled_for,
                    relax_pipeline=pipeline(compiled_for, described, bounds, graphs=target.graphs),
                    tir_pipeline=_lowering(target),
                )
            advance()
            return built, described
    except EdgeRouterError:
        raise
    except Exception as error:
        if is_mistake(error):
            raise
        raise BuildFailed(where, "compile", str(error).strip() or type(error).__name__) from error


def _lowering(target: TargetSpec) -> str:
    """The name of the passes from kernels to what TVM's code generators take."""
    if target.kind not in GPUS:
        return "default"
    from edge_router.compile.gpu.lowering import register

    return register()


def metadata(values: Mapping[str, object], quantization: str, parameters: Any) -> dict[str, object]:
    """What the library says of itself, under MLC's keys."""
    heads, hidden = cast(int, values["num_attention_heads"]), cast(int, values["hidden_size"])
    rows = cast(int, values["vocab_size"])
    return {
        "model_type": values["model_type"],
        "quantization": quantization,
        "context_window_size": values["context_window_size"],
        "sliding_window_size": -1,  # MLC's engine would ask the KV cache to slide; ours masks instead
        "attention_sink_size": -1,
        "prefill_chunk_size": values["prefill_chunk_size"],
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "disaggregation": False,
        "kv_state_kind": "kv_cache",
        "max_batch_size": values.get("max_batch_size") or 1,
        "active_vocab_size": min(rows, cast("int | None", values.get("active_vocab_size")) or rows),
        "model_task": "chat",
        "params": [
            {
                "name": name,
                "shape": [int(size) for size in parameter.shape],
                "dtype": str(parameter.dtype),
                "preprocs": [],
                "pipeline_stages": [0],
            }
            for name, parameter in parameters
        ],
        "kv_cache": {
            "num_hidden_layers": values["num_hidden_layers"],
            "num_attention_heads": heads,
            "num_key_value_heads": values.get("num_key_value_heads") or heads,
            "head_dim": values.get("head_dim") or hidden // heads,
        },
    }


def check_device_code(path: Path, target: TargetSpec) -> None:
    """That it holds code for this GPU. Raises `ArtifactCorrupt`."""
    from edge_router.compile.gpu import nvrtc
    from edge_router.compile.gpu.machine_code import device_code

    held = {(code.kind, code.architecture) for code in device_code(path)}
    wanted: set[tuple[str, str | None]] = {(target.kind, None)}
    if target.kind == "cuda" and nvrtc.available():
        wanted.add(("cubin", target.gpu))
    for kind, architecture in wanted - held:
        raise ArtifactCorrupt(path, f"holds no {kind} code for {architecture or target.kind}")


def check_library(path: Path) -> dict[str, object]:
    """Load it, look every function up and return its metadata. Raises `ArtifactCorrupt`."""
    import tvm  # noqa: F401 - the runtime that the library needs

    machine = load_library(path)
    said: dict[str, object] = {}
    if machine.implements_function("_metadata", True):
        said = strict_json.parse_object(machine["_metadata"]())
    pages = said.get("pages")
    wanted = STATEFUL if isinstance(pages, Mapping) and "states" in pages else FUNCTIONS
    missing = [name for name in wanted if not machine.implements_function(name, True)]
    if missing:
        raise ArtifactCorrupt(path, f"lacks the functions {', '.join(missing)}")
    return said
