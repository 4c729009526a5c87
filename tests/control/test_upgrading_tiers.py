"""Answers bettered where there are more than two models: by whom."""

from __future__ import annotations

from typing import Any

import pytest

from edge_router import Config, Controller, ScriptedEngine, ScriptedRouter

pytestmark = pytest.mark.integration  # it writes to disk, and opens sockets


def test_of_several_stronger_models_the_one_that_the_score_wanted_betters_it(strong_server: Any) -> None:
    """Or the next that its caller may use, upwards first."""
    told: dict[str, object] = {"ledger.store_prompts": True, "tiers": "0:weak,0.3:a,0.6:b,0.9:c"}
    for name in "abc":
        told |= {f"endpoints.{name}.base_url": strong_server.url(), f"endpoints.{name}.models": [f"m-{name}"]}
    told |= {"callers.low.models": ["weak", "a"], "callers.ends.models": ["weak", "a", "c"]}
    told |= {"callers.plain.models": ["auto"]}

    def made(**more: Any) -> Controller:
        config = Config().replace(**told, offline=more.pop("offline", False))
        return Controller(config, weak=ScriptedEngine(), router=ScriptedRouter(float), **more)

    rows = (
        ("0.4", None, "m-a"),
        ("0.7", None, "m-b"),
        ("0.95", None, "m-c"),
        ("0.95", "low", "m-a"),
        ("0.7", "ends", "m-c"),
        ("0.7", "plain", "m-b"),
    )
    with made(offline=True) as controller:
        for text, caller, _ in rows:
            named = {} if caller is None else {"caller": caller}
            controller.chat.completions.create(messages=text, **named)  # type: ignore[call-overload]
    with made() as controller:
        assert [each.better_model for each in controller.upgrade()] == [model for *_, model in rows]


def test_a_strong_model_of_the_programs_own_has_no_tiers() -> None:
    told = {"ledger.store_prompts": True, "endpoints.a.models": ["m"], "tiers": "0:weak,0.3:a"}
    config = Config().replace(**told)
    for offline in (True, False):
        controller = Controller(
            config.replace(offline=offline),
            weak=ScriptedEngine(),
            strong=ScriptedEngine("S", model_id="big"),
            router=ScriptedRouter(0.9),
        )
        with controller:
            if offline:
                controller.chat.completions.create(messages="hard")
            else:
                assert [each.better for each in controller.upgrade()] == ["S"]
