"""`calibrate --tools`: what is shown, and what is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_router.chat.events import Finished, ToolCallStart
from edge_router.engines.scripted import ScriptedEngine
from edge_router.store.tool_skill import find


class Built(ScriptedEngine):
    """One that was built here and has learned to call tools, which it does whenever it can."""

    def __init__(self):
        super().__init__(
            default=lambda request: [ToolCallStart(0, "c", request.tools[0].name), Finished("tool_calls")],
            model_id="small",
        )
        self.capabilities = replace(self.capabilities, weights="abc", learned_tools=True)

    def close(self):
        """It is asked again."""


@pytest.fixture
def weak(models, monkeypatch):
    monkeypatch.setattr("edge_router.cli.calibrate.tool_calling.make_ready", lambda *given, **options: None)
    monkeypatch.setattr("edge_router.control.pool.load_weak", lambda *given: models.weak)
    models.weak = Built()
    return models.weak


def test_what_is_found_is_told_and_kept(cli, weak, paths):
    done = cli("calibrate", "--tools")
    assert done.code == 0 and "none is called where none fits" in done.out and "0.0%" in done.out
    assert "small goes on leaving tools to the strong model" in done.err
    kept = find(paths, "abc")
    assert kept is not None and not kept.passed and kept.refusals == 0
    report = json.loads(cli("calibrate", "--tools", "--json").out)
    assert report["passed"] is False and report["cases"] == 80 and report["model"] == "small"


def test_a_model_that_cannot_is_told_so(cli, weak):
    weak.capabilities = replace(weak.capabilities, learned_tools=False)
    done = cli("calibrate", "--tools")
    assert done.code == 1 and done.err.startswith(
        "error: small cannot be calibrated: its chat template tells"
    )
    assert done.err.rstrip().endswith("edge-router models list")
    weak.capabilities = replace(weak.capabilities, weights=None)
    assert "built here" in cli("calibrate", "--tools").err


def test_another_model_is_calibrated_by_its_name(cli, weak, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "edge_router.cli.verbs.calibrate.calibrate_tools", lambda session, config, **how: asked.append(config)
    )
    assert cli("calibrate", "--tools", "-m", "SmolLM2-360M-Instruct").code == 0
    assert asked[0].weak.model == "SmolLM2-360M-Instruct"
    done = cli("calibrate", "--tools", "-m", "smollm2-360m")
    assert done.code == 2 and "SmolLM2-360M-Instruct" in done.err


def test_a_share_is_needed_for_everything_else(cli):
    done = cli("calibrate", "--ledger")
    assert done.code == 2 and "--strong-share" in done.err
