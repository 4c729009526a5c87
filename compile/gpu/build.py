"""Building for a GPU: TVM's build with our passes, and machine code put beside the source it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tvm_ffi

from edge_router.compile.gpu import nvrtc
from edge_router.compile.gpu.machine_code import with_machine_code
from edge_router.compile.targets import TargetSpec

_AFTERWARDS = "tvm_callback_cuda_postproc"  # what TVM's CUDA generator gives its source to, if there is one
_CREATE = "ffi.Module.create.cuda"


@contextmanager
def building(spec: TargetSpec) -> Iterator[None]:
    """What TVM builds meanwhile gets its machine code, where a compiler for it is installed.

    Where a driver is present TVM's runtime for CUDA is, too, and would compile at once by whatever it finds;
    it is out of sight until the end, so that a library is the same wherever it was made.
    """
    if spec.kind != "cuda":
        yield
        return
    create = tvm_ffi.get_global_func(_CREATE, allow_missing=True)
    if create is not None:
        tvm_ffi.registry.remove_global_func(_CREATE)
    tvm_ffi.register_global_func(_AFTERWARDS, lambda source, target: _finished(source, spec), override=True)
    try:
        yield
    finally:
        tvm_ffi.registry.remove_global_func(_AFTERWARDS)
        if create is not None:
            tvm_ffi.register_global_func(_CREATE, create)


def _finished(source: str, spec: TargetSpec) -> Any:
    if spec.gpu is None or not nvrtc.available():
        return source
    codes = {architecture: nvrtc.to_cubin(source, architecture) for architecture in (spec.gpu, *spec.also)}
    return with_machine_code(source, codes)
