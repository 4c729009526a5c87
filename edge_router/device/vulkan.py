"""How much memory Vulkan's devices have, and how much of it is free; WebGPU does not tell.

Asked of the loader itself, without a device being made. VK_EXT_memory_budget tells what this process may
still take; where a driver lacks it, the size alone is known.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

from edge_router.records import dataclass

_NAMES = ("libvulkan.so.1", "vulkan-1.dll", "libvulkan.1.dylib", "libMoltenVK.dylib")
_BUDGET_EXTENSION = b"VK_EXT_memory_budget"
_DEVICE_LOCAL = 1
_API_1_1 = (1 << 22) | (1 << 12)
_APPLICATION_INFO, _INSTANCE_INFO = 0, 1  # VkStructureType
_MEMORY_PROPERTIES_2, _MEMORY_BUDGET = 1000059006, 1000237000
_PROPERTIES_BYTES = 4096  # more than VkPhysicalDeviceProperties takes


@dataclass(frozen=True, slots=True)
class VulkanDevice:
    """`memory_total` of its own heaps, in bytes; `memory_free` is None where the driver does not tell."""

    name: str
    vendor: int
    device: int
    memory_total: int
    memory_free: int | None


def vulkan_devices(loader: Any = None) -> tuple[VulkanDevice, ...]:
    """Empty where there is no loader or it refuses. `loader` is what tests put in its place."""
    vulkan = loader if loader is not None else _load()
    if vulkan is None:
        return ()
    application = _Application(_APPLICATION_INFO, None, b"edge_router", 0, None, 0, _API_1_1)
    create = _InstanceInfo(_INSTANCE_INFO, None, 0, ctypes.pointer(application), 0, None, 0, None)
    instance = ctypes.c_void_p()
    if vulkan.vkCreateInstance(ctypes.byref(create), None, ctypes.byref(instance)) != 0:
        return ()
    try:
        return tuple(_device(vulkan, handle) for handle in _handles(vulkan, instance))
    finally:
        vulkan.vkDestroyInstance(instance, None)


def _load() -> Any:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _handles(vulkan: Any, instance: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
    count = ctypes.c_uint32()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    handles = (ctypes.c_void_p * count.value)()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
    return (ctypes.c_void_p(handle) for handle in handles[: count.value])


def _device(vulkan: Any, handle: ctypes.c_void_p) -> VulkanDevice:
    """VkPhysicalDeviceProperties begins with five numbers (the third and fourth are ids), then the name."""
    raw = (ctypes.c_uint8 * _PROPERTIES_BYTES)()
    vulkan.vkGetPhysicalDeviceProperties(handle, raw)
    numbers = ctypes.cast(raw, ctypes.POINTER(ctypes.c_uint32))
    name = bytes(raw[20:276]).split(b"\0")[0].decode("utf-8", "replace")
    known = _has_budget(vulkan, handle)
    budget = _Budget(_MEMORY_BUDGET, None)
    memory = _Memory2(
        _MEMORY_PROPERTIES_2, ctypes.cast(ctypes.pointer(budget), ctypes.c_void_p) if known else None
    )
    vulkan.vkGetPhysicalDeviceMemoryProperties2(handle, ctypes.byref(memory))
    heaps = [
        number
        for number in range(memory.properties.heap_count)
        if memory.properties.heaps[number].flags & _DEVICE_LOCAL
    ]
    free = sum(max(0, budget.budget[number] - budget.usage[number]) for number in heaps)
    total = sum(memory.properties.heaps[number].size for number in heaps)
    return VulkanDevice(name, numbers[2], numbers[3], total, free if known else None)


def _has_budget(vulkan: Any, handle: ctypes.c_void_p) -> bool:
    count = ctypes.c_uint32()
    vulkan.vkEnumerateDeviceExtensionProperties(handle, None, ctypes.byref(count), None)
    extensions = (_Extension * count.value)()
    vulkan.vkEnumerateDeviceExtensionProperties(handle, None, ctypes.byref(count), extensions)
    return any(extension.name == _BUDGET_EXTENSION for extension in extensions)


# ---- Vulkan's structures -----------------------------------------------------------------------------------


class _Application(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("version", ctypes.c_uint32),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_uint32),
        ("api", ctypes.c_uint32),
    )


class _InstanceInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.POINTER(_Application)),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


class _MemoryType(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint32), ("heap", ctypes.c_uint32))


class _Heap(ctypes.Structure):
    _fields_ = (("size", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("padding", ctypes.c_uint32))


class _Memory(ctypes.Structure):
    _fields_ = (
        ("type_count", ctypes.c_uint32),
        ("types", _MemoryType * 32),
        ("heap_count", ctypes.c_uint32),
        ("heaps", _Heap * 16),
    )


class _Budget(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("budget", ctypes.c_uint64 * 16),
        ("usage", ctypes.c_uint64 * 16),
    )


class _Memory2(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("next", ctypes.c_void_p), ("properties", _Memory))


class _Extension(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 256), ("version", ctypes.c_uint32))
