"""`doctor --memory`: the moments of a real process, and what is made of one that breaks its plan."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from edge_router.bench import memory as bench_memory
from edge_router.bench.memory import FULL, LOADED, PREFILLED, Outcome, Setting, Stage
from edge_router.cli.chat import building

MIB = 1 << 20


def test_the_demo_model_as_it_is_configured(program, environment, built_home):
    env = {**environment, "EDGE_ROUTER_HOME": str(built_home)}
    done = program("doctor", "--memory", "--offline", "-o", "weak.threads=2", env=env, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "SmolLM2-135M-Instruct: context 4096, prefill chunk 512, conversations 1"
    assert [line.split("  ")[0] for line in lines[3:7]] == [LOADED, PREFILLED, FULL, "at most"]
    assert lines[-1].startswith("The plan holds: 9")


@pytest.fixture
def measured(monkeypatch):
    """What a process will have taken, in MiB: after loading, after the longest prefill, at the end."""

    def prepare(*held):
        planned = {"parameters": 70, "kv_cache": 40, "workspace": 10, "router": 0, "runtime": 80, "margin": 4}
        planned = {part: count * MIB for part, count in planned.items()}
        planned["total"] = sum(planned.values())
        stages = [
            Stage(name, count * MIB, max(held) * MIB, None)
            for name, count in zip((LOADED, PREFILLED, FULL), held, strict=True)
        ]
        outcome = Outcome("demo", Setting(4096, 1024), planned, tuple(stages))

        windows = {"context_window_size": 4096, "prefill_chunk_size": 1024}
        compiled = SimpleNamespace(config=windows, card=SimpleNamespace(name="demo"))
        monkeypatch.setattr(building, "is_ready", lambda config, paths: True)
        monkeypatch.setattr("edge_router.engines.tvm.engine.built", lambda *arguments: compiled)
        monkeypatch.setattr(bench_memory, "measure", lambda *arguments: outcome)

    return prepare


def test_each_moment_is_held_against_its_part_of_the_plan(cli, measured):
    measured(148, 171, 199)
    done = cli("doctor", "--memory")
    assert done.code == 0
    rows = [line.split("  ") for line in done.out.splitlines()[2:7]]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["moment", "planned", "held", "difference"],
        [LOADED, "150 MiB", "148 MiB", "-2.0 MiB"],
        [PREFILLED, "170 MiB", "171 MiB", "+1.0 MiB"],
        [FULL, "200 MiB", "199 MiB", "-1.0 MiB"],
        ["at most", "204 MiB", "199 MiB", "-5.0 MiB"],
    ]
    assert "The plan holds: 97.5% of it was taken, a margin of 4.0 MiB among it." in done.out


def test_a_plan_that_does_not_hold(cli, measured):
    measured(148, 171, 230)
    done = cli("doctor", "--memory")
    assert done.code == 1 and "The plan does not hold: 112.7%" in done.out


def test_json(cli, measured):
    measured(148, 171, 199)
    report = json.loads(cli("doctor", "--memory", "--json").out)
    assert report["holds"] and [stage["name"] for stage in report["stages"]] == [LOADED, PREFILLED, FULL]


def test_other_engines_are_not_measured(cli):
    done = cli("doctor", "--memory", "-o", "weak.engine=scripted")
    assert done.code == 1 and "only the memory of the engine tvm is measured" in done.err
