"""`bench decision`: what is measured, and how it is told."""

from __future__ import annotations

from edge_router import ScriptedRouter
from edge_router.bench.decision import LENGTH, bench_decision, prose, sample_rules
from edge_router.bench.response_cache import bench_response_cache
from edge_router.config.sections import GuardConfig
from edge_router.config.settings import Config


def test_before_are_measured_beside_the_decision() -> None:
    found = bench_decision(ScriptedRouter(0.5), GuardConfig(), rounds=3)
    told = found.to_dict()
    assert told["rules"] == len(sample_rules()) == 15 and told["characters"] == 2000
    prompts = told["prompts"]
    assert isinstance(prompts, dict) and list(prompts) == ["prose", "code", "German"]
    for kind, row in prompts.items():
        assert 0 < row["before_p50_ms"] <= row["before_p95_ms"], kind
    assert {each.n for each in found.before.values()} == {3}


def test_an_answer_given_again_is_measured_beside_the_decision() -> None:
    router = ScriptedRouter(0.5)
    told = bench_response_cache(router, prose(), Config(), rounds=3).to_dict()
    assert told["characters"] == LENGTH and len(router.calls) == 2 + 23  # two to be kept, and each decision
    for way in ("decision_p50_ms", "disk_p50_ms", "disk_p95_ms", "memory_p50_ms", "memory_p95_ms"):
        assert isinstance(told[way], float) and told[way] > 0, way  # type: ignore[operator]
