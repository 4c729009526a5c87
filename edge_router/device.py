"""What this machine is. The only module that asks it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Host:
    """`cpu` is LLVM's name of the processor and `features` LLVM's names of its extensions. Memory in bytes."""

    system: str  # "Linux", "Darwin", "Windows"
    machine: str  # "x86_64", "arm64", ...
    cpu_name: str
    cpu: str
    features: tuple[str, ...]
    physical_cores: int
    logical_cores: int
    memory_total: int
    memory_free: int


def host(memory: Path | None = None) -> Host:
    import psutil
    import tvm  # noqa: F401
    import tvm_ffi  # type: ignore[import-untyped]

    features = dict(tvm_ffi.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")())
    ram = psutil.virtual_memory()
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        cpu_name=platform.processor(),
        cpu=str(tvm_ffi.get_global_func("tvm.codegen.llvm.GetHostCPUName")()),
        features=tuple(sorted(str(name) for name, has in features.items() if has)),
        physical_cores=psutil.cpu_count(logical=False) or 1,
        logical_cores=psutil.cpu_count() or 1,
        memory_total=int(ram.total),
        memory_free=int(ram.available),
    )
