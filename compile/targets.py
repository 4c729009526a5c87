"""What a library is compiled for. Nothing here imports TVM before a `tvm_target` is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from edge_router.architectures import architecture
from edge_router.compile.kernels.isa import Isa
from edge_router.errors import UnsupportedTarget
from edge_router.records import dataclass

if TYPE_CHECKING:
    from edge_router.compile.kernels.base import Kernels
    from edge_router.device import Host

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
_SYSTEMS = {"Linux": "unknown-linux-gnu", "Darwin": "apple-darwin", "Windows": "pc-windows-msvc"}

# TVM's kinds of GPU. The last two are in no wheel of PyPI's.
GPUS = ("cuda", "metal", "vulkan", "rocm")
_CROSS = ("cuda", "metal")  # what is also compiled where it cannot run
_INSTEAD = {
    "cuda": "the wheels of apache-tvm for Linux and Windows have it",
    "metal": "the engine webgpu drives Metal: pip install 'edge-router[webgpu]'",
    "vulkan": "the engine webgpu drives Vulkan: pip install 'edge-router[webgpu]'",
    "rocm": "MLC's wheels have it (https://llm.mlc.ai/docs/install), or use Vulkan: 'edge-router[webgpu]'",
}
_TENSOR_CORES = 80  # the generation of NVIDIA's whose instruction `gpu.tensor_cores` uses

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
    """`cpu` and `features` are LLVM's names; `features` are what the processor really offers.

    Of a GPU's target these are the machine's that it is in, and `gpu` is the GPU's own architecture, "sm_89";
    machine code is made for those `also`, too. `graphs`: decoding starts CUDA graphs instead of most kernels.
    `bytes`: a processor rounds activations to bytes where that is faster.
    """

    kind: str
    triple: str
    cpu: str
    features: tuple[str, ...] = ()
    gpu: str | None = None
    also: tuple[str, ...] = ()
    graphs: bool = False
    bytes: bool = False

    @property
    def machine(self) -> str:
        return self.triple.partition("-")[0]

    def fingerprint_parts(self) -> dict[str, object]:
        """Everything that changes the compiled code."""
        parts: dict[str, object] = {
            "kind": self.kind,
            "triple": self.triple,
            "cpu": self.cpu,
            "features": sorted(self.features),
        }
        if self.kind in GPUS:
            parts["gpu"] = self.gpu
        if self.also:
            parts["also"] = sorted(self.also)
        if self.graphs:
            parts["graphs"] = True
        if self.kind not in GPUS and self.isa().bytes:
            parts["bytes"] = True
        if self.kind == "cuda":
            parts["machine_code"] = machine_code_compiler()
        return parts

    def isa(self) -> Isa:
        isa = Isa.of(self.machine, self.features)
        return isa.with_bytes() if self.bytes else isa


def host_target(host: Host) -> TargetSpec:
    """This machine's own processor. Raises `UnsupportedTarget` for machines that TVM has no wheel for."""
    machine, system = _MACHINES.get(host.machine.lower()), _SYSTEMS.get(host.system)
    if machine is None or system is None:
        raise UnsupportedTarget(f"{host.system} on {host.machine}", "this combination is not known")
    cpu = host.cpu or _generic(machine, host.features)
    return TargetSpec("llvm", f"{machine}-{system}", cpu, tuple(host.features))


def gpu_target(kind: str, host: Host, architecture: str | None = None) -> TargetSpec:
    """A GPU of this machine or, where that is another system's, of a typical machine with one.

    `architecture` is CUDA's, by default that of the GPU that is here. Raises `UnsupportedTarget`.
    """
    if kind not in GPUS:
        raise UnsupportedTarget(kind, f"the targets are llvm, {', '.join(GPUS)}")
    if kind == "metal" and host.system != "Darwin":
        return TargetSpec(kind, "arm64-apple-darwin", "apple-m1", ("neon",))
    near = host_target(host)
    if kind != "cuda":
        return TargetSpec(kind, near.triple, near.cpu, near.features)
    architecture = architecture or _own_architecture()
    if architecture is None:
        raise UnsupportedTarget(kind, "no NVIDIA GPU is in sight; name its architecture, such as cuda:sm_89")
    if not re.fullmatch(r"sm_\d{2,3}", architecture):
        raise UnsupportedTarget(f"{kind}:{architecture}", "an architecture is named like sm_89")
    return TargetSpec(kind, near.triple, near.cpu, near.features, architecture)


def _own_architecture() -> str | None:
    from edge_router.device import gpus

    return next((gpu.architecture for gpu in gpus() if gpu.architecture), None)


def machine_code_compiler() -> str | None:
    """What makes machine code of CUDA source here; None where libraries hold the source alone."""
    from edge_router.compile.gpu.nvrtc import available

    return f"nvrtc {version('nvidia-cuda-nvrtc')}" if available() else None


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

    if spec.kind in GPUS:
        needed = [f"target.build.{spec.kind}", *([] if spec.kind in _CROSS else [f"device_api.{spec.kind}"])]
        if any(tvm.get_global_func(name, allow_missing=True) is None for name in needed):
            raise UnsupportedTarget(spec.kind, f"this TVM was built without it; {_INSTEAD[spec.kind]}")
        near = tvm_target(replace(spec, kind="llvm", gpu=None))
        return tvm.target.Target({"kind": spec.kind, **_arch(spec)}, host=near)
    if spec.kind != "llvm":
        raise UnsupportedTarget(spec.kind, f"the targets are llvm, {', '.join(GPUS)}")
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


def check_layers(kind: str, model_type: str) -> None:
    """That states which layers keep in the place of keys and values, and experts, are computed there.

    Raises `UnsupportedTarget`, `UnsupportedArchitecture`.
    """
    described = architecture(model_type)
    if lacking := described.lacking(kind):
        others = "only the processor's"
        if not described.lacking("webgpu"):
            others += " and WebGPU's"
        raise UnsupportedTarget(
            kind, f"layers of {model_type} {lacking}, which {others} kernels compute so far"
        )


def kernels_of(spec: TargetSpec) -> Kernels:
    """What models are made of there."""
    if spec.kind in GPUS:
        from edge_router.compile.gpu.kernels import GpuKernels

        return GpuKernels(tvm_target(spec), spec.kind, tensor_cores=_generation(spec) >= _TENSOR_CORES)
    from edge_router.compile.kernels.processor import Processor

    return Processor(spec.isa())


def _generation(spec: TargetSpec) -> int:
    """Of a GPU of NVIDIA's: 89; else 0."""
    return int(spec.gpu.removeprefix("sm_")) if spec.gpu else 0


def _arch(spec: TargetSpec) -> dict[str, str]:
    return {"arch": spec.gpu} if spec.gpu else {}


def _hidden(spec: TargetSpec, promised: set[str]) -> list[str]:
    """What LLVM would use for this processor's name, and must not."""
    if spec.machine != "x86_64" or not spec.features:
        return []
    offered = {name.lower().replace("_", "") for name in spec.features}
    return [name for name in _HIDEABLE if name in promised and name not in offered]
