"""Prices from the package genai-prices, as it is; where it is not installed nothing is known."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from edge_router.chat.events import Usage
from edge_router.config.listed_prices import is_here, listed
from edge_router.config.settings import Config
from edge_router.engines.fleet.endpoints import strong_endpoints
from edge_router.errors import ConfigError
from edge_router.routing.thresholds.prices import Prices

ANTHROPIC = "https://api.anthropic.com/v1"
needs_list = pytest.mark.skipif(not is_here(), reason="no package genai-prices: pip install -e '.[prices]'")


@needs_list
def test_what_the_list_knows() -> None:
    for models, base_url, known in (
        (["gpt-4.1"], None, True),
        (["gpt-4.1"], "https://api.openai.com/v1", True),
        (["gpt-4.1", "gpt-4.1-mini"], None, True),
        (["gpt-4.1", "no-such-model"], None, False),  # one of them could cost anything
        (["no-such-model"], None, False),
        (["gpt-4.1"], "http://127.0.0.1:8000/v1", False),  # a server of one's own
        (["gpt-4.1"], "https://llm.example.org/v1", False),
        (["deepseek-chat"], "https://api.deepseek.com/v1", True),
        ([], None, False),
    ):
        found = listed(models, base_url)
        assert (found is not None) is known, (models, base_url)
        if found is not None:
            assert found.source.startswith("genai-prices 0.") and " of 20" in found.source
            assert found.steps[0].start == 0 and found.steps[0].price_in > 0, models
    dearest, one = listed(["gpt-4.1-mini", "gpt-4.1"], None), listed(["gpt-4.1"], None)
    assert dearest is not None and one is not None and dearest.steps == one.steps


@needs_list
def test_a_longer_prompt_may_cost_more_for_all_its_tokens() -> None:
    config = Config().replace(**{"strong.model": "claude-sonnet-4-5", "strong.base_url": ANTHROPIC})
    prices = Prices.of(config.strong)
    assert prices is not None and prices.steps[0].start == 200_000
    short, long = (prices.cost(Usage(tokens, 0)) / tokens for tokens in (200_000, 200_001))
    assert long > 1.5 * short
    assert Prices.highest(config) == prices


@needs_list
def test_the_users_own_price_wins() -> None:
    listed_one = Config().replace(**{"strong.model": "gpt-4.1"})
    own = listed_one.replace(**{"strong.price_in": 7.0})
    assert (Prices.of(own.strong), Prices.of(listed_one.strong, own=True)) == (Prices(7.0, 0.0), None)
    by_list = Prices.of(listed_one.strong)
    assert by_list is not None and by_list.source is not None and by_list.price_in != 7.0
    several = listed_one.replace(**{"endpoints.a.models": ["gpt-4.1-mini"], "endpoints.b.models": ["mine"]})
    priced = {each.name: each.prices is not None for each in strong_endpoints(several)}
    assert priced == {"strong": True, "a": True, "b": False}
    assert all(each.prices is None for each in strong_endpoints(several, own_prices=True))


@needs_list
def test_a_budget_needs_no_price_that_the_list_knows() -> None:
    Config().replace(**{"strong.model": "gpt-4.1", "strong.monthly_budget": 5.0})
    with pytest.raises(ConfigError, match=r"needs strong\.price_in"):
        Config().replace(**{"strong.model": "mine", "strong.monthly_budget": 5.0})
    with pytest.raises(ConfigError, match=r"endpoints\.b\.price_in"):
        Config().replace(
            **{
                "endpoints.a.models": ["gpt-4.1"],
                "endpoints.b.models": ["gpt-4.1"],
                "endpoints.b.base_url": "https://llm.example.org/v1",
                "strong.monthly_budget": 5.0,
            }
        )


def test_without_the_package_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # as where it is not installed

    def absent(name: str) -> Any:
        return None

    monkeypatch.setattr("edge_router.config.listed_prices.find_spec", absent)
    assert not is_here() and listed(["gpt-4.1"], None) is None
    with pytest.raises(ConfigError, match=r"needs strong\.price_in"):
        Config().replace(**{"strong.model": "gpt-4.1", "strong.monthly_budget": 5.0})
