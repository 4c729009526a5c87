"""The GPUs that can be seen without loading a runtime or touching a device; for `doctor` and the planner."""

from __future__ import annotations

import ctypes
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from edge_router.records import dataclass

Maker = Literal["nvidia", "amd", "intel", "apple", "other"]
_PCI_MAKERS: dict[str, Maker] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_MEMORY_CLOCK = 2  # NVML_CLOCK_MEM
_NVML_NAMES = ("libnvidia-ml.so.1", "nvml.dll")
_VULKAN_NAMES = ("libvulkan.so.1", "vulkan-1.dll", "libvulkan.1.dylib", "libMoltenVK.dylib")


@dataclass(frozen=True, slots=True)
class Gpu:
    """Memory in bytes, None where it is not told; `architecture` is CUDA's, such as "sm_89".

    `bandwidth` is what its memory can be read at, bytes per second, by its bus and clock.
    """

    name: str
    maker: Maker
    memory_total: int | None = None
    memory_free: int | None = None
    architecture: str | None = None
    driver: str | None = None
    bandwidth: float | None = None


def gpus(*, system: str | None = None, root: Path = Path("/"), nvml: Any = None) -> tuple[Gpu, ...]:
    """Every GPU in sight. `system`, `root` and `nvml` are what tests put in the machine's place."""
    system = system or platform.system()
    if system == "Darwin":
        return parse_displays(_run(["/usr/sbin/system_profiler", "SPDisplaysDataType"]))
    found = list(_nvidia(nvml if nvml is not None else _load(_NVML_NAMES)))
    if system == "Linux":
        known = {gpu.maker for gpu in found}
        found += [gpu for gpu in _drm(root) if gpu.maker not in known]
        if not found:
            found += _nvidia_proc(root)
    return tuple(found)


def vulkan_loader() -> str | None:
    """The name of the Vulkan loader that is installed; whether a driver stands behind it is not asked."""
    for name in _VULKAN_NAMES:
        if _load((name,)) is not None:
            return name
    return None


def parse_displays(text: str) -> tuple[Gpu, ...]:
    """`system_profiler SPDisplaysDataType`; Apple's own GPUs share the machine's memory and state none."""
    found = []
    for block in re.split(r"(?=^[ \t]+Chipset Model:)", text, flags=re.MULTILINE)[1:]:
        facts = dict(re.findall(r"^[ \t]+([^:\n]+):[ \t]*(.*?)[ \t\r]*$", block, re.MULTILINE))
        name = facts["Chipset Model"]
        lowered = name.lower() + facts.get("Vendor", "").lower()
        maker: Maker = next((m for m in _PCI_MAKERS.values() if m in lowered), "other")
        memory = re.match(r"(\d+) (MB|GB)", next((v for k, v in facts.items() if k.startswith("VRAM")), ""))
        size = int(memory[1]) << (30 if memory[2] == "GB" else 20) if memory else None
        found.append(Gpu(name, "apple" if "apple" in lowered else maker, size))
    return tuple(found)


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _nvidia(nvml: Any) -> Iterator[Gpu]:
    """Through the driver's management library, which starts no CUDA context. 0 means success."""
    if nvml is None or nvml.nvmlInit_v2() != 0:
        return
    try:
        count = ctypes.c_uint()
        driver = _nvml_text(nvml.nvmlSystemGetDriverVersion)
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return
        for index in range(count.value):
            device, memory = ctypes.c_void_p(), _Memory()
            if nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != 0:
                continue
            told = nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
            major, minor = ctypes.c_int(), ctypes.c_int()
            capability = nvml.nvmlDeviceGetCudaComputeCapability(
                device, ctypes.byref(major), ctypes.byref(minor)
            )
            yield Gpu(
                name=_nvml_text(nvml.nvmlDeviceGetName, device) or "NVIDIA GPU",
                maker="nvidia",
                memory_total=memory.total if told else None,
                memory_free=memory.free if told else None,
                architecture=f"sm_{major.value}{minor.value}" if capability == 0 else None,
                driver=driver,
                bandwidth=_bandwidth(nvml, device),
            )
    finally:
        nvml.nvmlShutdown()


def _bandwidth(nvml: Any, device: Any) -> float | None:
    """Bits of the bus times its clock, twice: all graphics memory sends at both edges of the clock."""
    width = _nvml_number(nvml, "nvmlDeviceGetMemoryBusWidth", device)
    megahertz = _nvml_number(nvml, "nvmlDeviceGetMaxClockInfo", device, ctypes.c_int(_MEMORY_CLOCK))
    return width / 8 * megahertz * 1e6 * 2 if width and megahertz else None


def _nvml_number(nvml: Any, name: str, *before: Any) -> int | None:
    """Older libraries lack some functions."""
    number, function = ctypes.c_uint(), getattr(nvml, name, None)
    return number.value if function is not None and function(*before, ctypes.byref(number)) == 0 else None


def _nvml_text(function: Any, *before: Any) -> str | None:
    buffer = ctypes.create_string_buffer(128)
    if function(*before, buffer, ctypes.c_uint(len(buffer))) != 0:
        return None
    return buffer.value.decode("utf-8", "replace")


def _nvidia_proc(root: Path) -> Iterator[Gpu]:
    """Where the driver is there and its management library is not, as in some containers."""
    for file in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        model = re.search(r"^Model:\s*(.+?)\s*$", _text(file), re.MULTILINE)
        yield Gpu(model[1] if model else "NVIDIA GPU", "nvidia")


def _drm(root: Path) -> Iterator[Gpu]:
    """The kernel's list of graphics cards; amdgpu also states its memory."""
    for device in sorted((root / "sys/class/drm").glob("card[0-9]*/device")):
        if "-" in device.parent.name:  # a connector of a card
            continue
        vendor = _text(device / "vendor")
        maker = _PCI_MAKERS.get(vendor)
        if maker is None:  # the display of a virtual machine, a server's management chip
            continue
        total, used = (_number(device / f"mem_info_vram_{word}") for word in ("total", "used"))
        name = _text(device / "product_name") or f"{maker.upper()} GPU {_text(device / 'device')}".strip()
        free = total - used if total is not None and used is not None else None
        yield Gpu(name, maker, total, free)


def _number(file: Path) -> int | None:
    text = _text(file)
    return int(text) if text.isdigit() else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _load(names: tuple[str, ...]) -> Any:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
