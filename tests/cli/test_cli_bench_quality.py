"""`edge-router bench quality`: its table, and what it finds of the demo model as it ships."""

from __future__ import annotations

import json

import pytest

from edge_router.bench.quality import FIRST_SEED, AnswerQuality
from edge_router.cli.verbs import bench_quality


@pytest.mark.slow
def test_the_demo_model_does_not_run_away(cli, built_home, monkeypatch):
    """As shipped, with other prompts and seeds than its sampling was chosen by; the README has the figures."""
    monkeypatch.setenv("EDGE_ROUTER_HOME", str(built_home))
    done = cli("bench", "quality", "--json", "-y")
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["found"]
    assert found["answers"] == 48 and found["asked"] == 120
    assert found["looping"] <= 1 and found["away"] <= 1 and found["right"] >= 60, found


def test_the_verb_measures_each_side_and_prints_a_row_for_it(cli, monkeypatch):
    seen = []

    def fake(engine, name, *, seeds, at_once, progress):
        seen.append((name, list(seeds), at_once))
        return AnswerQuality(name, 48, 47, 0, 1, 120, 80, 60.4), []

    class Models:
        def __init__(self, config):
            seen.append((config.weak.quantization, config.weak.quantizer, config.weak.context_window_size))

        def weak(self):
            return None

        def close(self):
            pass

    monkeypatch.setattr("edge_router.bench.quality.measure", fake)
    monkeypatch.setattr(bench_quality, "make_ready", lambda *arguments, **options: None)
    monkeypatch.setattr("edge_router.cli.session.Session.pool", lambda self, config: Models(config))
    done = cli("bench", "quality", "--against", "round", "--against", "q0f16", "--seeds", "2")
    assert done.code == 0, done.err
    assert [line.split()[-1] for line in done.out.splitlines()] == ["tokens", "60", "60", "60"]
    assert "q4f16_1 by gptq   47 of 48" in done.out
    seeds = [FIRST_SEED, FIRST_SEED + 1]
    assert seen == [
        (None, None, 1024), ("q4f16_1 by gptq", seeds, 8),
        (None, "round", 1024), ("q4f16_1 by round", seeds, 8),
        ("q0f16", None, 1024), ("q0f16", seeds, 8),
    ]  # fmt: skip
    given = cli("bench", "quality", "--json", "-o", "weak.max_sequences=2")
    assert json.loads(given.out)["found"][0]["right"] == 80 and seen[-1] == (
        "q4f16_1 by gptq",
        [11, 12, 13],
        2,
    )
    assert cli("bench", "quality", "--against", "nosuch").code == 2
