"""What the weak model was planned to take and what the process takes, for /metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edge_router.device.process import peak_bytes, resident_bytes
from edge_router.metrics.counters import Gauge, Labels
from edge_router.vram import PARTS, Plan


def memory_gauges(plan: Callable[[], Plan | None], loaded: Callable[[], bool]) -> tuple[Gauge, ...]:
    """`plan` is the weak model's, None where there is none; `loaded`: whether it is in memory now."""

    def planned() -> Iterator[tuple[Labels, float]]:
        current = plan()
        if current is not None:
            yield from (((part,), current.bytes(part)) for part in PARTS)

    def budget() -> Iterator[tuple[Labels, float]]:
        current = plan()
        if current is not None:
            yield (), current.budget

    def over() -> Iterator[tuple[Labels, float]]:
        current = plan()
        if current is not None:
            yield (), peak_bytes() - current.total

    def single(read: Callable[[], float]) -> Callable[[], Iterator[tuple[Labels, float]]]:
        return lambda: iter((((), read()),))

    return (
        Gauge("edge_router_memory_planned_bytes", "The weak model's memory as planned.", ("part",), planned),
        Gauge("edge_router_memory_budget_bytes", "What the plan may take.", (), budget),
        Gauge("edge_router_memory_resident_bytes", "What the process holds.", (), single(resident_bytes)),
        Gauge("edge_router_memory_peak_bytes", "The most that it has held.", (), single(peak_bytes)),
        Gauge("edge_router_memory_over_plan_bytes", "The peak less the plan; below 0 is well.", (), over),
        Gauge(
            "edge_router_weak_loaded",
            "1 while the weak model is in memory.",
            (),
            single(lambda: int(loaded())),
        ),
    )
