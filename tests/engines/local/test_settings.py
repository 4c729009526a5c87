"""What the configuration and a model's card say of an engine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from edge_router.chat.request import Need
from edge_router.config.settings import Config
from edge_router.control.pool import Pool
from edge_router.engines.base import Capabilities
from edge_router.engines.local.settings import settle
from edge_router.store.tool_skill import LEAST, Skill, keep
from edge_router.system.paths import Paths


def settled(
    paths: Paths, *, can_call: bool = True, card_thinks: bool = False, **weak: object
) -> SimpleNamespace:
    engine = SimpleNamespace(capabilities=Capabilities(learned_tools=can_call), prompts=SimpleNamespace())
    card = SimpleNamespace(max_context=99, thinking=card_thinks)
    compiled = SimpleNamespace(card=card, weights_key="abc", config={})
    settle(
        engine, compiled, Config.load(environ={}, overrides={f"weak.{k}": v for k, v in weak.items()}), paths
    )  # type: ignore[arg-type]
    return engine


def test_tools_are_called_where_that_was_measured_or_is_wished(tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    assert not settled(paths).calls_tools and settled(paths, tools="yes").calls_tools
    for share, good in ((1.0, True), (0.5, False)):
        keep(Skill("SmolLM2-135M-Instruct", 80, **dict.fromkeys(LEAST, share)), paths, "abc")
        assert settled(paths).calls_tools is good
        assert not settled(paths, can_call=False).calls_tools and not settled(paths, tools="no").calls_tools
        assert (Need.TOOLS in Pool(Config(), paths=paths).weak_serves) is good  # before it is loaded


def test_thoughts_are_the_cards_or_as_is_wished(tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    for card, wish, thinks in (
        (False, None, False),
        (True, None, True),
        (True, False, False),
        (False, True, True),
    ):
        assert settled(paths, card_thinks=card, thinking=wish).prompts.thinks is thinks, (card, wish)


@pytest.mark.parametrize(("tools", "likely"), [("yes", True), ("no", False), ("auto", False)])
def test_what_is_likely_before_a_model_is_loaded(tmp_path: Path, tools: str, likely: bool) -> None:
    config = Config.load(environ={}, overrides={"weak.tools": tools})
    served = Pool(config, paths=Paths.under(tmp_path)).weak_serves
    assert (Need.TOOLS in served) is likely and Need.JSON in served
