"""The memory planner: pure arithmetic from a model's shape to windows that fit a budget."""

from __future__ import annotations

from edge_router.vram.backends import BACKENDS, Backend, backend
from edge_router.vram.estimate import NO_WINDOW, Place, Settings, estimate, weight_bytes
from edge_router.vram.planner import Plan, Planner, Remedy, WindowRequest
from edge_router.vram.products import PARTS, Product, total
from edge_router.vram.shapes import ModelShape

__all__ = [
    "BACKENDS",
    "NO_WINDOW",
    "PARTS",
    "Backend",
    "ModelShape",
    "Place",
    "Plan",
    "Planner",
    "Product",
    "Remedy",
    "Settings",
    "WindowRequest",
    "backend",
    "estimate",
    "total",
    "weight_bytes",
]
