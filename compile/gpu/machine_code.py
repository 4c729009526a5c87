"""Machine code beside its source: how a library carries both, and what a library holds.

TVM's wheel can make a CUDA module without a driver, but only of source, to be compiled where it is loaded.
So machine code travels as the source's last lines, comments, one for each architecture: whoever loads the
library without knowing of it compiles the source, and edge_router takes what is of the GPU's architecture.
Nothing here imports TVM.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from edge_router.records import dataclass

_MARK = "//edge_router machine code"
_LINE = re.compile(rb"//edge_router machine code (sm_\d+[a-z]?) ([A-Za-z0-9+/=]+)")
_METAL = re.compile(rb"#include <metal_stdlib>")
_METAL_KERNEL = re.compile(rb"\nkernel void ([A-Za-z0-9_]+)\(")
_CUDA_KERNEL = re.compile(
    rb'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?([A-Za-z0-9_]+)\([^;{]*\{'
)
_EM_CUDA = 190  # of ELF files: the machine
_FLAGS = struct.Struct("<I")
_ELF_MACHINE, _ELF_FLAGS = 18, 48  # where they lie in a 64-bit header


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """`kind`: "cubin", "cuda" (source) or "metal" (source). `architecture` of machine code only."""

    kind: str
    kernels: tuple[str, ...]
    code: bytes
    architecture: str | None = None


def with_machine_code(source: str, codes: Mapping[str, bytes]) -> str:
    """`codes`: by architecture."""
    lines = [f"{_MARK} {name} {base64.b64encode(code).decode()}" for name, code in codes.items()]
    return "\n".join([source.rstrip(), *lines, ""])


def machine_code(source: str, architecture: str) -> bytes | None:
    """What was put there for this architecture."""
    found = (line for line in _LINE.finditer(source.encode()) if line[1].decode() == architecture)
    line = next(found, None)
    return None if line is None else base64.b64decode(line[2])


def device_code(library: Path) -> tuple[DeviceCode, ...]:
    """What a library holds for GPUs."""
    content, found = library.read_bytes(), []
    for line in _LINE.finditer(content):
        cubin = base64.b64decode(line[2])
        found.append(DeviceCode("cubin", _symbols(cubin), cubin, architecture(cubin)))
    if kernels := tuple(name.decode() for name in _CUDA_KERNEL.findall(content)):
        found.append(DeviceCode("cuda", kernels, b""))
    if _METAL.search(content):
        kernels = tuple(name.decode() for name in _METAL_KERNEL.findall(content))
        found.append(DeviceCode("metal", kernels, b""))
    return tuple(found)


def architecture(cubin: bytes) -> str | None:
    """What machine code says of itself; None where it is no machine code of NVIDIA's."""
    if (
        cubin[:4] != b"\x7fELF"
        or int.from_bytes(cubin[_ELF_MACHINE : _ELF_MACHINE + 2], "little") != _EM_CUDA
    ):
        return None
    (flags,) = _FLAGS.unpack_from(cubin, _ELF_FLAGS)
    return f"sm_{flags >> 8 & 0xFF}"


def _symbols(cubin: bytes) -> tuple[str, ...]:
    """The kernels, by the names of their sections."""
    return tuple(sorted({name.decode() for name in re.findall(rb"\0\.text\.([A-Za-z0-9_]+)(?=\0)", cubin)}))
