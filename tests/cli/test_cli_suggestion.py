"""From the demo model to one that fits this machine: said by `chat` and `doctor`, with a command that works."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from edge_router.api import model_plans
from edge_router.cli.chat import suggestion as suggesting
from edge_router.cli.chat.suggestion import DEMO, Suggestion, suggestion
from edge_router.config.settings import Config
from edge_router.device import host
from edge_router.device.bandwidth import bandwidth_file, best_bandwidth
from edge_router.engines.scripted import ScriptedEngine
from edge_router.vram import budget

GIB = 1 << 30


@pytest.fixture
def machine(monkeypatch):
    """machine(bytes): what the planner sees, and what the suggestion is remembered by."""

    def prepare(memory):
        here = replace(host(ask_llvm=lambda: ("generic", ())), memory_free=memory, memory_total=memory)
        monkeypatch.setattr(budget, "host", lambda place: here)
        monkeypatch.setattr(suggesting, "host", lambda place: here)
        monkeypatch.setattr(model_plans, "room_bandwidth", lambda room, paths: 100e9)

    return prepare


@pytest.mark.parametrize(
    ("memory", "model"), [(24 * GIB, "Qwen3-30B-A3B"), (8 * GIB, "Qwen3-8B"), (GIB, "Qwen2.5-0.5B-Instruct"), (400 << 20, None)]
)  # fmt: skip
def test_the_largest_model_that_fits_is_suggested(machine, paths, memory, model):
    machine(memory)
    found = suggestion(Config(), paths)
    assert (found.model if found else None) == model
    kept = json.loads((paths.artifacts / "suggestion.json").read_text(encoding="utf-8"))
    assert kept["model"] == (model or DEMO)


def test_it_is_looked_for_once_until_the_machine_changes(machine, paths, monkeypatch):
    machine(8 * GIB)
    looks = []
    found = suggesting._looked
    monkeypatch.setattr(suggesting, "_looked", lambda *given: looks.append(1) or found(*given))
    assert suggestion(Config(), paths) == suggestion(Config(), paths) and len(looks) == 1
    machine(24 * GIB)
    assert suggestion(Config(), paths) is not None and len(looks) == 2
    assert suggestion(Config(), paths, look=True) is not None and len(looks) == 3
    best_bandwidth(2, bandwidth_file(paths), "here", measure=lambda threads: 200e9)  # as `plan` finds it
    assert suggestion(Config(), paths) == suggestion(Config(), paths) and len(looks) == 4
    for damage in ("", "[]", '{"key": 1}', "\x00"):
        (paths.artifacts / "suggestion.json").write_text(damage, encoding="utf-8")
        assert suggestion(Config(), paths) is not None


def test_whoever_chose_a_model_hears_nothing(machine, paths):
    machine(8 * GIB)
    for model in ("Qwen3-0.6B", DEMO):
        assert suggestion(Config().replace(**{"weak.model": model}), paths) is None


def test_a_speed_that_is_not_known_is_not_said():
    assert Suggestion("A", "").words() == "A fits this machine: edge-router config set weak.model=A"
    assert "at up to 9 tokens/s" in Suggestion("A", "9 tokens/s").words()


def command_in(text):
    found = re.search(r"edge-router (config set weak\.model=\S+)", text)
    assert found, text
    return found[1].split()


def test_the_demo_model_s_answer_ends_with_the_way_to_a_real_one(cli, models, machine):
    machine(8 * GIB)
    models.weak = ScriptedEngine(model_id=DEMO, context_window_size=100, serves=())
    last = cli("chat", "an easy one").err.splitlines()[-1]
    assert last.startswith("This was the demo model; Qwen3-8B fits this machine")
    assert "demo" not in cli("chat", "a hard one").err  # the strong model's
    assert "demo" not in cli("-q", "chat", "an easy one").err
    assert "demo" not in cli("chat", "an easy one", "--json").err
    conversation = cli("chat", stdin="an easy one").err
    assert conversation.count("This was the demo model") == 1
    assert cli(*command_in(last)).code == 0
    assert Config.load().weak.model == "Qwen3-8B"
    assert "demo" not in cli("chat", "an easy one").err


def test_another_engine_s_answer_does_not(cli, models, machine):
    machine(8 * GIB)
    assert "demo" not in cli("chat", "an easy one").err


@pytest.mark.integration
def test_doctor_names_it_and_the_command(cli, machine):
    machine(8 * GIB)
    findings = json.loads(cli("doctor", "--offline", "--json").out)["findings"]
    (demo,) = [item for item in findings if item["name"] == "demo"]
    assert demo["state"] == "note" and "Qwen3-8B fits this machine" in demo["text"]
    assert cli(*command_in(demo["text"])).code == 0
    findings = json.loads(cli("doctor", "--offline", "--json").out)["findings"]
    assert not [item for item in findings if item["name"] == "demo"]
