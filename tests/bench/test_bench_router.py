from __future__ import annotations

import pytest

from edge_router.bench.latency import Latency
from edge_router.bench.router import LENGTHS, bench_router, sample
from edge_router.routing.routers import routers


def test_the_built_in_prompts_have_every_length() -> None:
    assert [len(text) for text in sample()] == list(LENGTHS)


def test_a_graph_s_parts_are_measured_apart() -> None:
    found = bench_router(routers().get("static")(), ["Why?", "x" * 250] * 5)
    assert (found.router, found.provider, found.whole.n) == ("static", "CPUExecutionProvider", 10)
    assert found.inputs is not None
    assert found.graph is not None
    assert found.inputs.n == found.graph.n == 10
    assert [(upper, latency.n) for upper, latency in found.by_length] == [(100, 5), (300, 5)]
    shown = found.to_dict()
    assert {"router", "provider", "p50_ms", "p95_ms", "p99_ms"} <= set(shown)


def test_a_router_without_a_graph_has_no_parts() -> None:
    found = bench_router(routers().get("length")(), ["a"] * 3)
    assert found.inputs is None
    assert found.provider == "none"
    assert "graph_p50_ms" not in found.to_dict()


def test_percentiles() -> None:
    found = Latency.of([i / 1000 for i in range(101)])
    assert (found.n, found.p50, found.p95, found.p99) == (101, *map(pytest.approx, (50, 95, 99)))
