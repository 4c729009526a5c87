"""Planned and held memory, as the server's /metrics shows them."""

from __future__ import annotations

import gc
import weakref

from edge_router.api.client import Controller
from edge_router.engines.base import Restarts
from edge_router.engines.scripted import ScriptedEngine
from edge_router.metrics.counters import Metrics
from edge_router.metrics.memory import memory_gauges
from edge_router.vram import PARTS, Plan, Settings
from edge_router.vram.products import product

MIB = 1 << 20


class Planned(ScriptedEngine):
    """A scripted model that says how much memory it was given."""

    plan = Plan(
        "small",
        1 << 30,
        Settings("q4f16_1", 512, 64),
        (product("parameters", "weights", bytes=70 * MIB), product("kv_cache", "pages", bytes=20 * MIB)),
    )
    loaded = False


def lines(metrics: Metrics) -> dict[str, float]:
    shown = [line for line in metrics.render().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in shown)}


def test_without_a_plan_only_the_process_is_shown() -> None:
    metrics = Metrics()
    metrics.add(*memory_gauges(lambda: None, lambda: False))
    found = lines(metrics)
    assert 10 * MIB < found["edge_router_memory_resident_bytes{}"] < 1 << 40
    assert found["edge_router_memory_peak_bytes{}"] >= found["edge_router_memory_resident_bytes{}"] - MIB
    assert found["edge_router_weak_loaded{}"] == 0
    assert not any("planned" in name or "over" in name for name in found)
    assert "# TYPE edge_router_memory_peak_bytes gauge" in metrics.render()


def test_a_controller_shows_its_weak_models_plan() -> None:
    with Controller(weak=Planned(), router__name="length") as controller:
        found = lines(controller.metrics)
    planned = {part: found[f'edge_router_memory_planned_bytes{{part="{part}"}}'] for part in PARTS}
    assert planned == dict.fromkeys(PARTS, 0) | {"parameters": 70 * MIB, "kv_cache": 20 * MIB}
    peak = found["edge_router_memory_peak_bytes{}"]
    assert abs(found["edge_router_memory_over_plan_bytes{}"] - (peak - 90 * MIB)) < MIB
    assert found["edge_router_weak_loaded{}"] == 0


def test_how_often_its_process_was_started_again_is_shown_where_it_has_one() -> None:
    class Model(ScriptedEngine):
        restarts = Restarts("running", 3)

    for weak, shown in ((Model(), 3), (ScriptedEngine(), None)):
        with Controller(weak=weak, router__name="length") as controller:
            assert lines(controller.metrics).get("edge_router_weak_restarts{}") == shown


def test_a_model_that_says_nothing_counts_as_loaded() -> None:
    with Controller(weak=ScriptedEngine(), router__name="length") as controller:
        found = lines(controller.metrics)
    assert found["edge_router_weak_loaded{}"] == 1
    assert not any("planned" in name for name in found)


def test_the_gauges_keep_no_controller_alive() -> None:
    controller = Controller(weak=ScriptedEngine(), router__name="length")
    controller.close()
    gone = weakref.ref(controller)
    del controller
    gc.collect()
    assert gone() is None
