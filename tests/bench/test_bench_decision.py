"""`bench decision`: what is measured, and how it is told."""

from __future__ import annotations

from edge_router import ScriptedRouter
from edge_router.bench.decision import bench_decision, sample_rules
from edge_router.config import GuardConfig


def test_rules_and_guard_are_measured_beside_the_decision() -> None:
    found = bench_decision(ScriptedRouter(0.5), GuardConfig(), rounds=3)
    told = found.to_dict()
    assert told["rules"] == len(sample_rules()) == 15 and told["characters"] == 2000
    prompts = told["prompts"]
    assert isinstance(prompts, dict) and list(prompts) == ["prose", "code", "German"]
    for kind, row in prompts.items():
        assert 0 < row["rules_and_guard_p50_ms"] <= row["rules_and_guard_p95_ms"], kind
    assert {each.n for each in found.before.values()} == {3}
