"""TVM's passes, as far as a program needs them: no virtual machine, no storage planning."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, tirx
from tvm.s_tir import dlight


def target() -> Any:
    """WebGPU with what every adapter has."""
    limits = {"max_num_threads": 256, "max_shared_memory_per_block": 16384}
    return tvm.target.Target({"kind": "webgpu", **limits, "host": {"kind": "llvm"}})


def lower(module: Any) -> Any:
    """Fused and scheduled; calls write into tensors that were allocated before."""
    step = relax.transform
    # Without dlight's rules for matrix products: those are ours, and some crash in this TVM.
    rules = (dlight.gpu.Reduction(), dlight.gpu.GeneralReduction(), dlight.gpu.Fallback())
    passes = [
        tirx.transform.BindTarget(target()),
        step.LegalizeOps(),
        step.AnnotateTIROpPattern(),
        step.FoldConstant(),
        step.FuseOps(),
        step.FuseTIR(),
        step.DeadCodeElimination(),
        dlight.ApplyDefaultSchedule(*rules),
        step.RewriteDataflowReshape(),
        step.ToNonDataflow(),
        step.RemovePurityChecking(),
        step.CallTIRRewrite(),
    ]
    return tvm.transform.Sequential(passes)(module)
