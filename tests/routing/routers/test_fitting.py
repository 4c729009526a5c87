"""The default threshold fits the weak model, where a strong one could be asked instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_router.api.client import Controller
from edge_router.catalog import find_model, model_cards, parse_router_card, router_cards
from edge_router.config.settings import Config
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import InvalidRouter
from edge_router.routing.routers import routers
from edge_router.routing.routers.fitting import (
    QUANTILES,
    default_threshold,
    measured,
    quantile,
    strength_of,
    typical_traffic,
)
from edge_router.routing.routers.onnx import OnnxRouter
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.routing.thresholds.typical import TYPICAL

pytestmark = pytest.mark.integration

HARD = (
    "Prove that there are infinitely many primes.",
    "Show that the square root of 2 is irrational.",
    "Write a Python function that merges two sorted lists.",
    "Solve for x: 3x^2 - 7x + 2 = 0",
)
STRONG = {"strong__model": "big"}


@pytest.mark.parametrize("name", sorted(router_cards()))
def test_each_shipped_router_knows_how_its_scores_of_typical_prompts_lie(name):
    card = router_cards()[name]
    assert len(card.typical_scores) == QUANTILES
    assert measured(OnnxRouter(card)) == pytest.approx(card.typical_scores, abs=0.02)  # processors differ


def test_a_tiny_model_is_left_few_prompts_and_a_large_one_most(paths):
    def share(model):
        config = Config().replace(**{"strong.model": "big", "weak.model": model})
        router = routers().get("mf")(threads=1)
        sent = typical_traffic(router, default_threshold(router, config))
        return sum(kind.strong for kind in sent) / sum(kind.n for kind in sent)

    demo, small, large = map(share, ("SmolLM2-135M-Instruct", "Llama-3.2-3B-Instruct", "gemma-2-9b-it"))
    assert demo > small > large
    for model, found in (("SmolLM2-135M-Instruct", demo), ("gemma-2-9b-it", large)):
        strength = strength_of(find_model(model))
        assert strength is not None and found == pytest.approx(1 - strength, abs=0.03)


def test_hard_prompts_leave_the_demo_model_and_an_easy_one_stays(paths):
    with Controller(paths=paths, **STRONG) as client:
        assert [client.route(prompt).model for prompt in HARD] == ["strong"] * len(HARD)
        assert client.route("What is the capital of France?").model == "weak"


def test_every_router_that_names_no_threshold_gets_the_fitting_one(paths):
    with Controller(paths=paths, **STRONG) as client:
        for name in router_cards():
            decision = client.route(HARD[0], model=f"router-{name}")
            assert decision.model == "strong" and decision.threshold < router_cards()[name].default_threshold
        assert client.route(HARD[0], model="router-mf-0.297").threshold == 0.297


@pytest.mark.parametrize(
    ("settings", "threshold"),
    [
        ({}, 0.297384),  # nobody to send anything to
        ({**STRONG, "router__threshold": 0.4}, 0.4),
        ({**STRONG, "router__strong_share": 0.3}, 0.297384),  # where the tracker begins
        ({**STRONG, "router__name": "length"}, 0.5),
    ],
)
def test_what_the_user_set_and_what_is_not_known_stays(paths, settings, threshold):
    client = Controller(paths=paths, **settings)
    assert client.route("hi").threshold == pytest.approx(threshold)


def test_a_model_that_nobody_knows_leaves_the_router_its_own(paths):
    router = routers().get("mf")(threads=1)
    config = Config().replace(**{"weak.model": "nosuch"})
    assert default_threshold(router, config) == router.default_threshold


def test_an_engine_and_a_router_of_the_program_s_own_keep_the_router_s_default(paths):
    engine = ScriptedEngine("hello")
    with Controller(paths=paths, weak=engine, **STRONG) as client:
        assert client.route("hi").threshold == pytest.approx(0.297384)
    router = ScriptedRouter(0.6, default_threshold=0.55)
    with Controller(paths=paths, router=router, strong=engine) as client:
        assert client.route("hi").threshold == 0.55


def test_a_card_says_its_strength_and_size_says_it_for_the_others(tmp_path):
    cards = model_cards()
    assert strength_of(cards["SmolLM2-135M-Instruct"]) == 0.25
    assert strength_of(replace(cards["Qwen3-8B"], strength=0.1)) == 0.1
    by_size = ["Llama-3.2-1B-Instruct", "Llama-3.2-3B-Instruct", "Qwen3-8B", "gemma-2-9b-it"]
    found = [strength_of(cards[name]) for name in by_size]
    assert found == sorted(found) and 0.3 < found[0] < 0.5 and 0.7 < found[-1] < 0.8
    assert all(0.25 <= (strength_of(card) or 0) <= 0.9 for card in cards.values())
    assert strength_of(replace(cards["Qwen3-8B"], config={})) is None


@pytest.mark.parametrize(("share", "score"), [(0.0, 0.1), (0.25, 0.2), (0.5, 0.3), (0.75, 0.6), (1.0, 0.9)])
def test_quantiles_are_met_between_their_steps(share, score):
    assert quantile((0.1, 0.3, 0.9), share) == pytest.approx(score)


@pytest.mark.parametrize("scores", ["[0.3]", "[0.3, 0.2]", '[0.1, "0.2"]', "[0.1, 1.5]", "0.5"])
def test_a_router_s_card_with_other_numbers_is_refused(tmp_path, scores):
    folder = tmp_path / "mine"
    folder.mkdir()
    text = 'name = "mine"\ngraph = "g"\ntokenizer = "t"\ndefault_threshold = 0.5\nmax_tokens = 8\n'
    for name in ("g", "t"):
        (folder / name).write_text("", encoding="utf-8")
    (folder / "card.toml").write_text(f"{text}typical_scores = {scores}\n", encoding="utf-8")
    with pytest.raises(InvalidRouter, match="typical_scores"):
        parse_router_card(folder)


def test_typical_prompts_are_many_and_of_many_kinds():
    texts = [text for kind in TYPICAL.values() for text in kind]
    assert len(texts) == len(set(texts)) >= 60 and len(TYPICAL) >= 6
    assert all(len(kind) >= 6 for kind in TYPICAL.values())
