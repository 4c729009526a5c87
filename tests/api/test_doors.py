"""What the command line can, as functions: they return what it prints, and print nothing."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

import edge_router
from edge_router import Controller, ScriptedEngine
from edge_router.api import model_plans
from edge_router.chat.events import Usage
from edge_router.config.settings import Config
from edge_router.errors import (
    CannotCalibrate,
    ConfigError,
    InvalidData,
    InvalidInput,
    InvalidLabels,
    StrongNotConfigured,
    UnknownModel,
    UnknownName,
    WeightsUnavailable,
)
from edge_router.ledger import Ledger, NothingRecorded, Record
from edge_router.types import Decision, Reason

pytestmark = pytest.mark.integration

MODEL = "SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def silence(capfd):
    yield
    assert capfd.readouterr() == ("", "")


def test_a_plan_is_what_the_command_line_prints():
    found = edge_router.plan(MODEL, gpu="RTX 3060", weak__context_window_size=1024)
    facts = found.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["model"], facts["device"], facts["fits"]) == (MODEL, "cuda", True)
    assert facts["context_window_size"] == found.shown.settings.context_window_size == 1024
    assert facts["budget_bytes"] == found.room.budget == 11059 << 20
    with pytest.raises(FrozenInstanceError):
        found.here = True


def test_what_an_argument_says_counts_above_the_gpu():
    given = {"weak__device": "vulkan", "weak__vram_budget": "2GiB"}
    for found in (
        edge_router.plan(MODEL, gpu="RTX 3060", **given),
        edge_router.plan(
            MODEL, Config().replace(**{"weak.device": "vulkan", "weak.vram_budget": "2GiB"}), gpu="RTX 3060"
        ),
    ):
        assert (found.room.device, found.room.budget) == ("vulkan", 2 << 30)
        assert (found.bandwidth, found.source) == (360e9, "RTX 3060, as its maker says")


def test_plans_are_of_every_card_the_best_first():
    found = edge_router.plans(gpu="RTX 3060")
    assert len(found) > 20 and found[0].best is not None
    fits = [each.best is not None for each in found]
    assert fits == sorted(fits, reverse=True)


def test_what_only_the_processor_computes_is_listed_for_it_alone():
    """Qwen3-30B-A3B has experts; it would fit on the GPU, too."""
    memory = {"weak__vram_budget": "40GiB"}
    on_gpu, here = (
        {plan.card.name for plan in edge_router.plans(weak__device=device, **memory)}
        for device in ("cuda", "cpu")
    )
    assert here - on_gpu == {"Qwen3-30B-A3B"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"model": "no-such-model"}, UnknownModel),
        ({"model": "hf:nobody/nothing"}, WeightsUnavailable),
        ({"model": MODEL, "gpu": "RTX 3600"}, UnknownName),
        ({"model": MODEL, "gpu": "M2 Pro"}, ConfigError),
        ({"model": MODEL, "bandwidth": "80%"}, ConfigError),
        ({"model": MODEL, "weak__vram_budget": "much"}, ConfigError),
        ({"model": MODEL, "weak__vram": "1GiB"}, ConfigError),
    ],
)
def test_what_cannot_be_planned_is_one_of_our_errors(arguments, error):
    with pytest.raises(error):
        edge_router.plan(**arguments)


def test_a_proposal_can_be_taken():
    found = edge_router.propose(weak__device="cuda", weak__vram_budget="3GiB")
    assert found is not None and found.plan.asked.fits
    config = Config().replace(**found.settings)
    assert config.weak.model == found.plan.shown.model
    assert all(each.best is not None for each in found.larger)
    assert edge_router.propose(weak__device="cuda", weak__vram_budget="100MiB") is None


def test_no_older_model_is_proposed_where_its_successor_fits(paths, monkeypatch):
    monkeypatch.setattr(model_plans, "room_bandwidth", lambda room, paths: 34e9)  # where 7B are slow
    found = edge_router.propose(weak__device="cpu", weak__vram_budget="12GiB", paths=paths)
    assert found is not None
    names = {each.card.name for each in found.larger}
    assert (
        "Mistral-7B-Instruct-v0.3" in names
        and not {"Mistral-7B-Instruct-v0.2", "Qwen2.5-7B-Instruct"} & names
    )


def test_what_was_chosen_is_not_proposed_again():
    found = edge_router.propose(
        weak__device="cuda",
        weak__vram_budget="8GiB",
        weak__model="Qwen3-1.7B",
        weak__context_window_size=1024,
    )
    assert found is not None and set(found.settings) <= {"weak.model", "weak.prefill_chunk_size"}


PROMPTS = [f"What is {number} and {number}?" for number in range(30)]


def test_a_threshold_is_calibrated_on_prompts_and_remembered(paths, tmp_path):
    found = edge_router.calibrate(0.3, PROMPTS, paths=paths)
    assert (found.found.wanted, found.found.n, found.problem) == (0.3, 30, None)
    assert found.found.low < found.found.share < found.found.high
    assert found.to_dict()["router"] == found.router == "mf" and paths.calibration.is_file()
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS))
    assert edge_router.calibrate(0.3, file, paths=paths) == found
    assert edge_router.calibrate(0.3, str(file), paths=paths) == found


def test_the_thresholds_of_several_models(paths):
    models = {"endpoints.a.models": ("large",), "endpoints.b.models": ("larger",)}
    config = Config().replace(**models)
    shares = {"weak": 0.5, "large": 0.3, "larger": 0.2}
    found = edge_router.calibrate_tiers(PROMPTS, config, shares=shares, paths=paths)
    assert [tier.model for tier in found.found.tiers] == list(shares)
    assert found.found.cost is None and found.to_dict()["router"] == "mf"
    priced = config.replace(
        **{f"endpoints.{name}.price_{way}": 1.0 for name in "ab" for way in ("in", "out")},
        tiers=found.found.tiers,
    )
    paid = edge_router.calibrate_tiers(PROMPTS, priced, price=0.0002, paths=paths)
    assert paid.found.cost == pytest.approx(0.0002, rel=0.2)
    for arguments in ({}, {"shares": shares, "price": 1.0}, {"shares": {"weak": 1.0}}, {"price": 0.01}):
        with pytest.raises(InvalidInput):
            edge_router.calibrate_tiers(PROMPTS, config, paths=paths, **arguments)


def test_what_the_ledger_holds_is_replayed_and_calibrated_on(paths):
    for door in (edge_router.replay, edge_router.calibrate):
        with pytest.raises(NothingRecorded):
            door(0.5, paths=paths)
    ledger = Ledger(paths.ledger)
    for score in (0.1, 0.2, 0.3, 0.8):
        model = "strong" if score >= 0.5 else "weak"
        ledger.record(Record(Decision(model, Reason.SCORE, score, 0.5, "mf"), model, Usage(1000, 100)))
    ledger.close()
    found = edge_router.replay(0.25, paths=paths)
    assert (found.found.n, found.found.before.strong, found.found.after.strong) == (4, 1, 2)
    assert found.to_dict()["to_strong"] == 1 and not found.priced
    assert edge_router.replay(paths=paths).found.threshold == 0.5  # as it was decided
    assert edge_router.replay(0.25, paths=paths, strong__price_in=1.0, strong__price_out=1.0).priced
    assert edge_router.calibrate(0.5, paths=paths).found.n == 4
    assert edge_router.calibrate(0.5, paths=paths, last=2).found.n == 2
    with pytest.raises(NothingRecorded):
        edge_router.replay(0.25, paths=paths, caller="anna")
    for wrong in (4, -0.1, float("nan")):
        with pytest.raises(InvalidInput, match="the threshold is"):
            edge_router.replay(wrong, paths=paths)


def test_routers_are_evaluated_beside_the_controls(paths, tmp_path):
    file = tmp_path / "labels.jsonl"
    lines = [{"prompt": text, "weak_score": n % 2, "strong_score": 1} for n, text in enumerate(PROMPTS)]
    file.write_text("\n".join(map(json.dumps, lines)))
    found = edge_router.evaluate(file, paths=paths)
    (metrics,) = found.found.groups.values()
    assert set(metrics) == {"mf", "length", "random", "oracle"} and not found.times
    assert found.to_dict() == found.found.to_dict()
    timed = edge_router.evaluate([file], routers=["length"], sample=10, latency=True, paths=paths)
    assert set(timed.times) == {"length"} and timed.times["length"].n == 10
    with pytest.raises(InvalidData):
        edge_router.evaluate(tmp_path / "none.jsonl", paths=paths)
    with pytest.raises(UnknownName):
        edge_router.evaluate(file, routers=["no-such-router"], paths=paths)


def test_prompts_are_labelled_with_a_controller_of_ones_own(paths, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": f"{n}+{n}", "answer": str(2 * n)}) for n in range(3)))
    weak, strong = ScriptedEngine("0", "no", "no"), ScriptedEngine("0", "2", "4", model_id="big")
    with Controller(weak=weak, strong=strong, paths=paths) as controller:
        found = edge_router.label(file, "exact", controller=controller, limit=2)
        assert found.output == tmp_path / "prompts.labels.jsonl"
        assert (found.found.scores, found.found.new, found.priced) == (((1.0, 1.0), (0.0, 1.0)), 2, False)
        whole = edge_router.label(str(file), "exact", controller=controller)  # goes on
        assert (whole.found.new, whole.to_dict()["labelled"], whole.to_dict()["output"]) == (
            1,
            3,
            str(found.output),
        )
        for arguments in ({"output": file}, {"output": tmp_path / "a.csv"}, {"budget": 1.0}):
            with pytest.raises(InvalidInput):
                edge_router.label(file, "exact", controller=controller, **arguments)
    with pytest.raises(StrongNotConfigured):
        edge_router.label(file, "exact", paths=paths)


@pytest.fixture
def built_weak(monkeypatch):
    """In the place of a model that was built here."""
    engine = ScriptedEngine(model_id="small", judge=lambda inquiry, question: (0.1, 0.9))
    engine.capabilities = replace(engine.capabilities, weights="key")
    monkeypatch.setattr("edge_router.control.pool.load_weak", lambda *given: engine)
    return engine


def test_typed_questions_are_calibrated_on_labels(paths, tmp_path, built_weak):
    file = tmp_path / "labels.jsonl"
    one = {"state": "s", "type": "noul", "instructions": "Is it?", "answer": True}
    file.write_text("\n".join([json.dumps(one)] * 100))
    found = edge_router.calibrate_questions(file, paths=paths, max_error=0.05)
    assert (found.model, found.found["yes_no"].bound, found.found["yes_no"].wrong) == ("small", 0.0, 0)
    with pytest.raises(InvalidLabels):
        edge_router.calibrate_questions(tmp_path / "none.jsonl", paths=paths)


def test_a_model_that_cannot_be_calibrated_says_why(paths, built_weak):
    with pytest.raises(CannotCalibrate, match="tells of no tools"):
        edge_router.calibrate_tools(paths=paths)
    with pytest.raises(InvalidInput):
        edge_router.calibrate_confidence(0.3, paths=paths, tokens=17)


def test_a_diagnosis_is_what_doctor_prints(home, paths):
    found = edge_router.diagnose(offline=True, weak__threads=2)
    by_name = {(each.section, each.name): each for each in found.findings}
    assert "weak.threads=2 (argument)" in by_name["Configuration", "changed"].text
    assert by_name["Router", "mf"].state == "ok"
    assert found.to_dict()["ok"] is found.ok is True
    assert {each["state"] for each in found.to_dict()["findings"]} == {each.state for each in found.findings}


def test_a_broken_configuration_is_a_finding_and_no_error(home):
    (home / "config.toml").write_text("[weak]\nthreads = 'many'\n")
    found = edge_router.diagnose(offline=True)
    assert not found.ok and [each.name for each in found.findings if each.state == "bad"] == ["file"]
    assert edge_router.diagnose(Config(), offline=True).findings[-1].section != "Configuration"
