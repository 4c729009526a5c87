"""What the command line can, as functions: they return what it prints, and print nothing."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

import edge_router
from edge_router.config.settings import Config
from edge_router.errors import ConfigError, UnknownModel, UnknownName, WeightsUnavailable

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


def test_what_was_chosen_is_not_proposed_again():
    found = edge_router.propose(
        weak__device="cuda",
        weak__vram_budget="8GiB",
        weak__model="Qwen3-1.7B",
        weak__context_window_size=1024,
    )
    assert found is not None and set(found.settings) <= {"weak.model", "weak.prefill_chunk_size"}
