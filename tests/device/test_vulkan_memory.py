"""What Vulkan's loader tells of memory: its calls, played by a loader of our own, and the one that is here."""

from __future__ import annotations

import ctypes
from typing import Any

from edge_router.device import vulkan
from edge_router.device.vulkan import VulkanDevice, vulkan_devices

GIB = 1 << 30


class Loader:
    """Devices: (name, vendor, device, extensions, heaps), heaps: (size, flags, budget, usage)."""

    def __init__(self, *devices: Any, refuses: bool = False) -> None:
        self.devices, self.refuses, self.open = devices, refuses, 0

    def vkCreateInstance(self, info: Any, allocator: Any, instance: Any) -> int:
        self.open += 1
        return -9 if self.refuses else 0

    def vkDestroyInstance(self, instance: Any, allocator: Any) -> None:
        self.open -= 1

    def vkEnumeratePhysicalDevices(self, instance: Any, count: Any, handles: Any) -> int:
        count._obj.value = len(self.devices)
        if handles is not None:
            for number in range(len(self.devices)):
                handles[number] = number + 1
        return 0

    def vkGetPhysicalDeviceProperties(self, handle: Any, raw: Any) -> None:
        name, vendor, device, _, _ = self.devices[handle.value - 1]
        numbers = ctypes.cast(raw, ctypes.POINTER(ctypes.c_uint32))
        numbers[2], numbers[3] = vendor, device
        for place, byte in enumerate(name.encode()):
            raw[20 + place] = byte

    def vkEnumerateDeviceExtensionProperties(self, handle: Any, layer: Any, count: Any, found: Any) -> int:
        extensions = self.devices[handle.value - 1][3]
        count._obj.value = len(extensions)
        if found is not None:
            for number, name in enumerate(extensions):
                found[number].name = name
        return 0

    def vkGetPhysicalDeviceMemoryProperties2(self, handle: Any, memory: Any) -> None:
        heaps = self.devices[handle.value - 1][4]
        answer = memory._obj
        answer.properties.heap_count = len(heaps)
        for number, (size, flags, budget, usage) in enumerate(heaps):
            answer.properties.heaps[number].size = size
            answer.properties.heaps[number].flags = flags
            if answer.next:
                told = ctypes.cast(answer.next, ctypes.POINTER(vulkan._Budget)).contents
                told.budget[number], told.usage[number] = budget, usage


def test_what_it_tells() -> None:
    own, host = (12 * GIB, 1, 10 * GIB, 3 * GIB), (64 * GIB, 0, 60 * GIB, 0)
    loader = Loader(
        ("GeForce", 0x10DE, 7, [b"VK_KHR_other", b"VK_EXT_memory_budget"], [own, host, (GIB, 1, 0, GIB)]),
        ("Old", 0x8086, 8, [], [own]),
    )
    assert vulkan_devices(loader) == (
        VulkanDevice("GeForce", 0x10DE, 7, 13 * GIB, 7 * GIB),
        VulkanDevice("Old", 0x8086, 8, 12 * GIB, None),
    )
    assert loader.open == 0


def test_nothing_to_be_told(monkeypatch: Any) -> None:
    assert vulkan_devices(Loader()) == ()
    assert vulkan_devices(Loader(refuses=True)) == ()
    monkeypatch.setattr(vulkan, "_NAMES", ("no such library",))
    assert vulkan_devices() == ()


def test_the_loader_that_is_here() -> None:
    for device in vulkan_devices():
        assert device.name
        assert device.memory_total > 0
        assert device.memory_free is None or 0 <= device.memory_free <= device.memory_total
