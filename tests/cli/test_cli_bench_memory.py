"""`bench memory`: the table, the JSON and the exit code; the measuring is tested where it is done."""

from __future__ import annotations

import json

import pytest

from edge_router.bench.memory import SETTINGS, Outcome, Setting, Stage

MIB = 1 << 20
PLANNED = {
    "parameters": 72 * MIB,
    "kv_cache": 20 * MIB,
    "workspace": 8 * MIB,
    "router": 0,
    "runtime": 98 * MIB,
    "margin": 2 * MIB,
    "total": 200 * MIB,
}


@pytest.fixture
def measured(monkeypatch):
    """measured(*peaks in MiB): what the settings will have taken; the list of models asked for comes back."""
    asked = []

    def prepare(*peaks, allocated=100 * MIB):
        def bench_memory(config, paths, progress, settings):
            asked.append((config.weak.threads, tuple(settings)))
            for peak in peaks:
                stage = Stage("full context", peak * MIB, peak * MIB, allocated)
                yield Outcome("demo", Setting(512, 64, 2), PLANNED, (stage,))

        monkeypatch.setattr("edge_router.bench.memory.bench_memory", bench_memory)
        return asked

    return prepare


def test_the_table_and_its_verdict(cli, measured):
    asked = measured(199, 195)
    done = cli("bench", "memory", "--threads", "2")
    assert done.code == 0 and asked == [(2, tuple(SETTINGS))]
    lines = done.out.splitlines()
    assert lines[0].split()[:4] == ["model", "context", "chunk", "conversations"]
    assert lines[1].split() == [*("demo", "512", "64", "2"), *("200", "MiB", "199", "MiB", "99.5%", "100.0%")]
    assert "2 of 2 settings within 5% of their plan, 0 above it (lowest 97.5%, highest 99.5%)." in done.out
    assert "99.5%" in done.err and cli("bench", "memory", "-q").err == ""


def test_a_plan_that_does_not_hold_is_an_error(cli, measured):
    measured(195, 201)
    done = cli("bench", "memory")
    assert done.code == 1 and "1 of 2 settings within 5% of their plan, 1 above it" in done.out
    measured(180, allocated=None)
    done = cli("bench", "memory")
    assert done.code == 1 and done.out.splitlines()[1].split()[-1] == "-"


def test_json(cli, measured):
    measured(196)
    report = json.loads(cli("bench", "memory", "--json").out)
    assert report["holds"] and report["within"] == 0.05
    (setting,) = report["settings"]
    assert setting["peak_bytes"] == 196 * MIB and setting["share"] == 0.98
    assert setting["context_window_size"] == 512 and setting["planned_bytes"]["total"] == 200 * MIB


def test_some_of_the_models_only(cli, measured):
    asked = measured(196)
    assert cli("bench", "memory", "--model", "random-wide", "-m", "demo").code == 0
    assert asked == [(None, ("demo", "random-wide"))]
    done = cli("bench", "memory", "--model", "huge")
    assert done.code == 2 and "huge" in done.err
