"""What a library is compiled for. Nothing here imports TVM before a `tvm_target` is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_router.compile.kernels.isa import Isa
from edge_router.errors import UnsupportedTarget

if TYPE_CHECKING:
    from edge_router.compile.kernels.base import Kernels
    from edge_router.device import Host

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
_SYSTEMS = {"Linux": "unknown-linux-gnu", "Darwin": "apple-darwin", "Windows": "pc-windows-msvc"}

# Extensions that a hypervisor may hide although the processor's name promises them. LLVM drops what builds
# on one that is switched off.
_HIDEABLE = (
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512vnni",
    "avxvnni",
)


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """`cpu` and `features` are LLVM's names; `features` are what the processor really offers."""

    kind: str
    triple: str
    cpu: str
    features: tuple[str, ...] = ()

    @property
    def machine(self) -> str:
        return self.triple.partition("-")[0]

    def fingerprint_parts(self) -> dict[str, object]:
        """Everything that changes the compiled code."""
        return {
            "kind": self.kind,
            "triple": self.triple,
            "cpu": self.cpu,
            "features": sorted(self.features),
        }

    def isa(self) -> Isa:
        return Isa.of(self.machine, self.features)


def host_target(host: Host) -> TargetSpec:
    """This machine's own processor. Raises `UnsupportedTarget` for machines that TVM has no wheel for."""
    machine, system = _MACHINES.get(host.machine.lower()), _SYSTEMS.get(host.system)
    if machine is None or system is None:
        raise UnsupportedTarget(f"{host.system} on {host.machine}", "this combination is not known")
    cpu = host.cpu or _generic(machine, host.features)
    return TargetSpec("llvm", f"{machine}-{system}", cpu, tuple(host.features))


def _generic(machine: str, features: Iterable[str]) -> str:
    """LLVM's name for any processor with these features."""
    if machine == "aarch64":
        return "generic"
    lanes = Isa.of(machine, features).lanes
    return {16: "x86-64-v4", 8: "x86-64-v3"}.get(lanes, "x86-64")


def tvm_target(spec: TargetSpec) -> Any:
    """TVM's object for it. Raises `UnsupportedTarget` where this TVM cannot compile for it."""
    import tvm
    from tvm.target import codegen

    if spec.kind != "llvm":
        raise UnsupportedTarget(spec.kind, "only processors can be compiled for")
    if codegen.llvm_version_major(allow_none=True) is None:
        raise UnsupportedTarget(spec.kind, "this TVM was built without LLVM")
    bare = {"kind": "llvm", "mtriple": spec.triple}
    if not codegen.llvm_is_valid_cpu(spec.cpu, spec.triple):
        spec = TargetSpec(spec.kind, spec.triple, _generic(spec.machine, spec.features), spec.features)
    target = tvm.target.Target({**bare, "mcpu": spec.cpu})
    hidden = _hidden(spec, {str(name) for name in codegen.llvm_get_cpu_features(target)})
    if hidden:
        target = tvm.target.Target({**bare, "mcpu": spec.cpu, "mattr": [f"-{name}" for name in hidden]})
    return target


def kernels_of(spec: TargetSpec) -> Kernels:
    """What models are made of there."""
    from edge_router.compile.kernels.processor import Processor

    return Processor(spec.isa())


def _hidden(spec: TargetSpec, promised: set[str]) -> list[str]:
    """What LLVM would use for this processor's name, and must not."""
    if spec.machine != "x86_64" or not spec.features:
        return []
    offered = {name.lower().replace("_", "") for name in spec.features}
    return [name for name in _HIDEABLE if name in promised and name not in offered]
