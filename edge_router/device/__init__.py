"""What this machine is: processor, memory, GPUs. The only package that asks it."""

from __future__ import annotations

from edge_router.device.graphics import Gpu, gpus, vulkan_loader
from edge_router.device.machine import Host, free_memory, host

__all__ = ["Gpu", "Host", "free_memory", "gpus", "host", "vulkan_loader"]
