"""From a model in Relax to what TVM's virtual machine runs: the passes, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import tvm
from tvm import ir, relax, tirx

_REPLAYED = ("decode",)  # functions whose sizes are known now, and which are called for every token


def pipeline(
    target: Any, metadata: dict[str, object], bounds: Mapping[str, int], *, graphs: bool = False
) -> Any:
    """For `relax.build`. What is not a kernel of ours TVM schedules, where the target needs that.

    `graphs`: what decoding starts between two calls of the KV cache becomes one CUDA graph. `bounds`
    are the largest values of symbolic sizes, by name, for which memory is planned. `metadata` is what
    the library's `_metadata` will return; the planned `memory_usage` of each function is added to it.
    """
    steps = relax.transform
    return tvm.transform.Sequential(
        [
            _each_function("Bounds", lambda function: _bounded(function, bounds)),
            tirx.transform.BindTarget(target),
            steps.LegalizeOps(),
            steps.AnnotateTIROpPattern(),
            steps.FoldConstant(),
            steps.FuseOps(),
            steps.FuseTIR(),
            steps.DeadCodeElimination(),
            steps.RewriteDataflowReshape(),
            *_schedules(target),
            steps.ToNonDataflow(),
            steps.RemovePurityChecking(),
            steps.CallTIRRewrite(),
            steps.StaticPlanBlockMemory(),
            *([_captured()] if graphs else []),
            _attach(metadata),  # here, because the plan is lowered by what follows
            steps.LowerAllocTensor(),
            steps.KillAfterLastUse(),
            steps.LowerRuntimeBuiltin(),
            steps.VMShapeLower(),
            steps.AttachGlobalSymbol(),
        ]
    )


def _schedules(target: Any) -> list[Any]:
    if target.kind.name == "llvm":  # runs them as they are
        return []
    from edge_router.compile.gpu.lowering import schedules

    return [schedules()]


def _each_function(name: str, change: Callable[[Any], Any]) -> Any:
    def run(module: Any, _context: Any) -> Any:
        for variable, function in module.functions_items():
            if isinstance(function, relax.Function):
                module[variable] = change(function)
        return module

    return tvm.transform.module_pass(run, opt_level=0, name=name)


def _bounded(function: Any, bounds: Mapping[str, int]) -> Any:
    bounded = function.with_attr("tir_var_upper_bound", dict(bounds))
    return bounded.with_attr("relax.memory_plan_dynamic_func_output", True)


def _captured() -> Any:
    """Everything in `_REPLAYED` that always starts the same kernels on the same memory, as CUDA graphs."""

    def run(module: Any, _context: Any) -> Any:
        others = {
            variable: function
            for variable, function in module.functions_items()
            if isinstance(function, relax.Function) and variable.name_hint not in _REPLAYED
        }
        for variable in others:
            del module[variable]
        with tvm.transform.PassContext(config={"relax.backend.use_cuda_graph": True}):
            module = relax.transform.RewriteCUDAGraph()(module)
        for variable, function in others.items():
            module[variable] = function
        return module

    return tvm.transform.module_pass(run, opt_level=0, name="Captured")


def _attach(metadata: dict[str, object]) -> Any:
    def run(module: Any, _context: Any) -> Any:
        metadata["memory_usage"] = memory_usage(module)
        text = json.dumps(metadata)
        builder = relax.BlockBuilder()
        with builder.function("_metadata", params=[]):
            builder.emit_func_output(ir.StringImm(text))
        module["_metadata"] = builder.finalize()["_metadata"]
        return module

    return tvm.transform.module_pass(run, opt_level=0, name="AttachMetadata")


def memory_usage(module: Any) -> dict[str, int]:
    """Planned bytes of each function's intermediate tensors, at the largest sizes."""
    storage = ir.Op.get("relax.memory.alloc_storage")
    found: dict[str, int] = {}
    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            name = _owner(str(variable.name_hint))
            bindings = (binding for block in function.body.blocks for binding in block.bindings)
            found[name] = found.get(name, 0) + sum(_storage_bytes(b.value, storage) for b in bindings)
    return found


def _owner(name: str) -> str:
    """The function that calls what `_captured` has split off."""
    return next((one for one in _REPLAYED if name == "cuda_graph_alloc" or f"{one}_cuda_graph" in name), name)


def _storage_bytes(value: Any, storage: Any) -> int:
    if not isinstance(value, relax.Call) or value.op != storage:
        return 0
    (size,) = value.args[0].values
    return int(size) if isinstance(size, tirx.IntImm) else 0
