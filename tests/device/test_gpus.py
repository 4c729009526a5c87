"""GPUs that can be seen: a management library of our own making, files, and texts."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from edge_router.device import Gpu, gpus, vulkan_loader

GIB = 1 << 30


class Nvml:
    """The calls of libnvidia-ml that we make, answered for `names`; `failing` ones return an error."""

    def __init__(self, *names: str, failing: tuple[str, ...] = ()) -> None:
        self.names, self.failing, self.running = names, failing, False

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "failing"):
            return lambda *args: 999
        return object.__getattribute__(self, name)

    def nvmlInit_v2(self) -> int:
        self.running = True
        return 0

    def nvmlShutdown(self) -> int:
        self.running = False
        return 0

    def nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> int:
        buffer.value = b"550.54"
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.names)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        device._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetName(self, device: Any, buffer: Any, size: Any) -> int:
        buffer.value = self.names[device.value - 1].encode()
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.free, memory._obj.used = 12 * GIB, 9 * GIB, 3 * GIB
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = 8, 9
        return 0


class Wide(Nvml):
    """The RTX 4090's bus of 384 bits at 10.5 GHz."""

    def nvmlDeviceGetMemoryBusWidth(self, device: Any, width: Any) -> int:
        width._obj.value = 384
        return 0

    def nvmlDeviceGetMaxClockInfo(self, device: Any, kind: Any, clock: Any) -> int:
        assert kind.value == 2
        clock._obj.value = 10501
        return 0


def test_the_bandwidth_of_its_memory(tmp_path: Path) -> None:
    (gpu,) = gpus(system="Linux", root=tmp_path, nvml=Wide("NVIDIA GeForce RTX 4090"))
    assert gpu.bandwidth == pytest.approx(1008e9, rel=0.001)
    for name in ("nvmlDeviceGetMemoryBusWidth", "nvmlDeviceGetMaxClockInfo"):
        (gpu,) = gpus(system="Linux", root=tmp_path, nvml=Wide("A", failing=(name,)))
        assert gpu.bandwidth is None


def test_nvidia_through_its_management_library(tmp_path: Path) -> None:
    nvml = Nvml("NVIDIA GeForce RTX 4070", "NVIDIA L4")
    first, second = gpus(system="Linux", root=tmp_path, nvml=nvml)
    assert first == Gpu("NVIDIA GeForce RTX 4070", "nvidia", 12 * GIB, 9 * GIB, "sm_89", "550.54")
    assert second.name == "NVIDIA L4" and not nvml.running
    assert gpus(system="Windows", root=tmp_path, nvml=nvml) == (first, second)


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        (("nvmlInit_v2",), ()),
        (("nvmlDeviceGetCount_v2",), ()),
        (("nvmlDeviceGetHandleByIndex_v2",), ()),
        (
            ("nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetCudaComputeCapability"),
            (Gpu("NVIDIA GPU", "nvidia", driver="550.54"),),
        ),
        (("nvmlSystemGetDriverVersion",), (Gpu("A", "nvidia", 12 * GIB, 9 * GIB, "sm_89"),)),
    ],
)
def test_what_the_library_refuses_is_left_out(
    tmp_path: Path, failing: tuple[str, ...], expected: tuple[Gpu, ...]
) -> None:
    assert gpus(system="Linux", root=tmp_path, nvml=Nvml("A", failing=failing)) == expected


def tree(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


def test_the_kernels_own_list(tmp_path: Path) -> None:
    drm = "sys/class/drm"
    root = tree(
        tmp_path,
        {
            f"{drm}/card0/device/vendor": "0x1002",
            f"{drm}/card0/device/product_name": "Radeon RX 7800 XT",
            f"{drm}/card0/device/mem_info_vram_total": str(16 * GIB),
            f"{drm}/card0/device/mem_info_vram_used": str(2 * GIB),
            f"{drm}/card1/device/vendor": "0x8086",
            f"{drm}/card1/device/device": "0x7d55",
            f"{drm}/card2/device/vendor": "0x1a03",  # a server's management chip
            f"{drm}/card0-HDMI-A-1/device/vendor": "0x1002",
        },
    )
    amd, intel = gpus(system="Linux", root=root, nvml=Nvml(failing=("nvmlInit_v2",)))
    assert amd == Gpu("Radeon RX 7800 XT", "amd", 16 * GIB, 14 * GIB)
    assert intel == Gpu("INTEL GPU 0x7d55", "intel")


def test_nvidia_without_its_library(tmp_path: Path) -> None:
    where = "proc/driver/nvidia/gpus/0000:01:00.0/information"
    root = tree(tmp_path, {where: "Model: \t\t NVIDIA GeForce RTX 3060\nIRQ:   154"})
    silent = Nvml(failing=("nvmlInit_v2",))
    assert gpus(system="Linux", root=root, nvml=silent) == (Gpu("NVIDIA GeForce RTX 3060", "nvidia"),)


DISPLAYS = """Graphics/Displays:

    Apple M2 Pro:

      Chipset Model: Apple M2 Pro
      Type: GPU
      Total Number of Cores: 19
      Vendor: Apple (0x106b)
      Metal Support: Metal 3

    AMD Radeon Pro 5300M:

      Chipset Model: AMD Radeon Pro 5300M
      VRAM (Total): 4 GB
      Vendor: AMD (0x1002)
"""


def test_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_router.device.graphics._run", lambda command: DISPLAYS)
    assert gpus(system="Darwin") == (
        Gpu("Apple M2 Pro", "apple"),
        Gpu("AMD Radeon Pro 5300M", "amd", 4 * GIB),
    )


def test_this_machine_answers_whatever_it_has() -> None:
    for gpu in gpus():
        assert gpu.name and (gpu.memory_total is None or gpu.memory_total > 0)
    if not Path("/usr/sbin/system_profiler").exists():
        assert gpus(system="Darwin") == ()


def test_the_vulkan_loader_is_named_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def only(present: str | None) -> None:
        def load(name: str) -> object:
            if name != present:
                raise OSError(name)
            return object()

        monkeypatch.setattr(ctypes, "CDLL", load)

    only("vulkan-1.dll")
    assert vulkan_loader() == "vulkan-1.dll"
    only(None)
    assert vulkan_loader() is None
