"""The planner against a real process, on the demo model; and what is made of the numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_router.bench import memory as bench_memory
from edge_router.bench.memory import SETTINGS, SHAPES, Outcome, Setting, Stage, measure
from edge_router.config.settings import Config
from edge_router.errors import GenerationFailed
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress

PLANNED = {
    "parameters": 70,
    "kv_cache": 20,
    "workspace": 10,
    "router": 0,
    "runtime": 98,
    "margin": 2,
    "total": 200,
}


def outcome(peak: int, allocated: int | None = 99) -> Outcome:
    return Outcome("m", Setting(512, 64, 2), PLANNED, (Stage("full context", peak, peak, allocated),))


@pytest.mark.parametrize(("peak", "holds"), [(200, True), (190, True), (189, False), (201, False)])
def test_a_plan_holds_from_below_and_nearly(peak: int, holds: bool) -> None:
    found = outcome(peak)
    assert found.holds is holds
    assert found.to_dict()["share"] == peak / 200
    assert found.to_dict()["holds"] is holds


def test_what_was_allocated_is_held_against_the_model_alone() -> None:
    assert outcome(200).allocated_share == 0.99
    assert outcome(200, None).allocated_share is None
    assert outcome(200, None).to_dict()["allocated_share"] is None


def test_the_matrix_is_as_wide_as_promised() -> None:
    settings = [setting for of_model in SETTINGS.values() for setting in of_model]
    assert len(settings) >= 24 and len(SETTINGS) == 3 and set(SHAPES) == set(SETTINGS) - {"demo"}
    for name, least, most in (("context", 512, 8192), ("chunk", 64, 2048), ("conversations", 1, 4)):
        values = [getattr(setting, name) for setting in settings]
        assert (min(values), max(values)) == (least, most), name
    assert all(setting.chunk <= setting.context for setting in settings)


@pytest.mark.parametrize("setting", [Setting(512, 512), Setting(1024, 512)], ids=str)
def test_the_demo_model_takes_what_was_planned(built_model: Any, built_home: Path, setting: Setting) -> None:
    config = Config().replace(**{"weak.threads": 2})
    found = measure(built_model, "demo", setting, config, Paths.under(built_home))
    assert found.holds, found.to_dict()
    assert [stage.name for stage in found.stages] == ["loaded", "longest prefill", "full context"]
    peaks = [stage.peak for stage in found.stages]
    assert peaks == sorted(peaks)
    if found.allocated_share is not None:
        assert 0.97 < found.allocated_share < 1.03, found.to_dict()


def test_a_process_that_breaks_says_why(built_model: Any, paths: Paths, tmp_path: Path) -> None:
    missing = replace(built_model, library=tmp_path / "nowhere.so")
    with pytest.raises(GenerationFailed, match="nowhere"):
        measure(missing, "demo", Setting(512, 64), Config(), paths)


def test_each_library_is_built_once_and_each_setting_measured(
    monkeypatch: pytest.MonkeyPatch, paths: Paths
) -> None:
    built, measured = [], []

    def compiled(name: str, chunk: int, *rest: object) -> Any:
        built.append((name, chunk))
        return SimpleNamespace(card=SimpleNamespace(name="Demo-1"))

    def measure_(compiled: Any, title: str, setting: Setting, *rest: object) -> Outcome:
        measured.append((title, setting))
        return outcome(195)

    monkeypatch.setattr(bench_memory, "_compiled", compiled)
    monkeypatch.setattr(bench_memory, "measure", measure_)
    settings = {
        "demo": (Setting(512, 64), Setting(1024, 64), Setting(1024, 512)),
        "other": (Setting(512, 64),),
    }
    found = list(bench_memory.bench_memory(Config(), paths, SilentProgress(), settings))
    assert len(found) == 4 and built == [("demo", 64), ("demo", 512), ("other", 64)]
    assert [title for title, _ in measured] == ["Demo-1"] * 3 + ["other"]


def test_random_models_are_made_once_and_can_be_compiled(
    built_model: Any, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_router.catalog import find_model
    from edge_router.compile.readers.mlc import records

    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape = {**small, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 49152}
    monkeypatch.setattr(bench_memory, "SHAPES", {"small": shape})
    compiled = bench_memory._compiled
    monkeypatch.setattr(bench_memory, "_compiled", lambda *arguments: built_model)
    folder = bench_memory._random_model("small", Config(), paths, SilentProgress())
    assert bench_memory._random_model("small", Config(), paths, SilentProgress()) == folder
    held = records(folder, hashes=True)
    assert any("embed_tokens" in str(record) for record in held)
    card = find_model(str(folder))
    assert card.config["hidden_size"] == 64 and card.context_window_size <= 8192
    config = json.loads((folder / "mlc-chat-config.json").read_text(encoding="utf-8"))
    assert config["quantization"] == "q4f16_1" and (folder / "tokenizer.json").is_file()
    assert callable(compiled)


@pytest.mark.slow
def test_the_whole_matrix_holds(built_home: Path) -> None:
    """Every setting within 5 % of its plan, none above it; what the README's table says."""
    config = Config().replace(**{"weak.threads": 2})
    found = list(bench_memory.bench_memory(config, Paths.under(built_home), SilentProgress()))
    assert len(found) == 24
    broken = [outcome.to_dict() for outcome in found if not outcome.holds]
    assert not broken
