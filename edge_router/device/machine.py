"""`Host`: the facts about this machine that compiling and planning depend on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_router.device import llvm
from edge_router.device.cpu import CpuText, baseline_cpu, read_cpu
from edge_router.device.limits import MachineLimits, physical_among, read_limits
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.disk import write_text
from edge_router.system.paths import Paths


@dataclass(frozen=True, slots=True)
class Host:
    """`cpu` is LLVM's name of the processor and `features` LLVM's names of its extensions.

    Cores and memory (bytes) are what this process may use: affinity and control groups count. `features` are
    what the processor really offers here, which under a hypervisor may be less than its name promises.
    """

    system: str  # "Linux", "Darwin", "Windows"
    machine: str  # "x86_64", "arm64", "AMD64", ...
    cpu_name: str  # for people
    cpu: str
    features: tuple[str, ...]
    physical_cores: int
    logical_cores: int
    memory_total: int
    memory_free: int


def host(memory: Path | None = None, *, ask_llvm: Callable[[], llvm.LlvmCpu] | None = None) -> Host:
    """This machine.

    LLVM's view of the processor is remembered in the file `memory` (below the user's artifacts if None) for
    as long as the operating system states the same processor: asking it loads the whole compiler, 259 MB and
    a second or more.
    """
    import psutil

    system, machine = platform.system(), platform.machine()
    cpu = read_cpu(system)
    name, features = _llvm_cpu(
        cpu, machine, memory or Paths.default().artifacts / "host.json", ask_llvm or llvm.ask_llvm
    )
    limits = read_limits()
    physical, logical = usable_cores(limits)
    ram = psutil.virtual_memory()
    return Host(
        system=system,
        machine=machine,
        cpu_name=cpu.name or platform.processor() or machine,
        cpu=name,
        features=features,
        physical_cores=physical,
        logical_cores=logical,
        memory_total=_least(int(ram.total), limits.memory_total),
        memory_free=_least(int(ram.available), limits.memory_free),
    )


def free_memory() -> int:
    """Bytes that this process may still take, without asking for anything else of the machine."""
    import psutil

    return _least(int(psutil.virtual_memory().available), read_limits().memory_free)


def usable_cores(limits: MachineLimits) -> tuple[int, int]:
    """Physical and logical cores that this process may keep busy; at least one."""
    import psutil

    allowed = _allowed_cpus()
    logical = len(allowed) if allowed else psutil.cpu_count() or 1
    physical = physical_among(allowed) or psutil.cpu_count(logical=False) or logical
    quota = max(1, int(limits.cores)) if limits.cores is not None else logical
    return max(1, min(physical, logical, quota)), max(1, min(logical, quota))


def _allowed_cpus() -> tuple[int, ...]:
    """The CPUs that this process may run on; empty where the system does not tell."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except (AttributeError, OSError):  # macOS has no affinity, Windows no such call
        return ()


def _llvm_cpu(cpu: CpuText, machine: str, memory: Path, ask: Callable[[], llvm.LlvmCpu]) -> llvm.LlvmCpu:
    key = _key(cpu, machine)
    known = _recall(memory, key)
    if known is not None:
        return known
    try:
        answer = ask()
    except (
        ImportError,
        OSError,
        AttributeError,
        ValueError,
    ):  # no compiler here: what every such machine can do
        return baseline_cpu(machine, cpu.features), cpu.features
    with suppress(OSError):  # a read-only home only costs asking again
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_text(memory, json.dumps({"key": key, "cpu": answer[0], "features": answer[1]}, indent=1))
    return answer


def _key(cpu: CpuText, machine: str) -> str:
    """Another TVM may bring an LLVM that knows more processors."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        compiler = version("apache-tvm")
    except PackageNotFoundError:
        compiler = ""
    return hashlib.sha256(f"{machine}\n{compiler}\n{cpu.identity}".encode()).hexdigest()


def _recall(memory: Path, key: str) -> llvm.LlvmCpu | None:
    try:
        data = strict_json.read_object(memory)
        if data["key"] != key:
            return None
        return str(data["cpu"]), tuple(str(name) for name in data["features"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _least(amount: int, limit: int | None) -> int:
    return amount if limit is None else min(amount, limit)
