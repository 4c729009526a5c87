"""From our kernels to what TVM's code generators take: its passes without those made for its own schedules.

TVM's usual order shrinks buffers to what it believes that one thread uses of them, which of the memory that
a block shares is a part; it moves conditions over declarations, and adds barriers. Our kernels say all that
themselves, and the few operators beside them, which TVM schedules, need none of it.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.s_tir.pipeline import finalize_device_passes, finalize_host_passes
from tvm.tirx.compilation_pipeline import register_tir_pipeline

_NAME = "edge_router.gpu"


def register() -> str:
    """The name by which `relax.build` and `tvm.compile` find the passes from now on."""
    register_tir_pipeline(_NAME, lambda: (_passes(), finalize_host_passes, finalize_device_passes))
    return _NAME


def schedules() -> Any:
    """For functions that are not kernels of ours: their loops over the GPU's threads."""
    return tvm.ir.transform.Sequential([dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())])


def _passes() -> Any:
    scheduled, lowered = s_tir.transform, tirx.transform
    return tvm.ir.transform.Sequential(
        [
            scheduled.CanonicalizeLoop(),
            scheduled.LowerInitBlock(),
            scheduled.PlanAndUpdateBufferAllocationLocation(),
            scheduled.ConvertBlocksToOpaque(),
            scheduled.LiftThreadBinding(),
            scheduled.UnifyThreadBinding(),
            scheduled.LowerMatchBuffer(),
            scheduled.StmtSimplify(),
            scheduled.LowerOpaqueBlock(),
            lowered.FlattenBuffer(),
            lowered.NarrowDataType(32),
            lowered.VectorizeLoop(True),
            lowered.UnrollLoop(),
            scheduled.RenormalizeSplitPattern(),
            lowered.StmtSimplify(),
            lowered.RemoveNoOp(),
            scheduled.RewriteUnsafeSelect(),
            lowered.CommonSubexprElim(),
            lowered.VerifyMemory(),
            lowered.AnnotateEntryFunc(),
            scheduled.LowerThreadAllreduce(),
            lowered.SplitHostDevice(),
            lowered.MakePackedAPI(),
        ]
    )
