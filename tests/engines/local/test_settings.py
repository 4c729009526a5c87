"""What the configuration and a model's card say of an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest, Need
from edge_router.config.settings import Config
from edge_router.control.pool import Pool
from edge_router.engines.base import Capabilities
from edge_router.engines.local.settings import settle
from edge_router.store.tool_skill import LEAST, Skill, keep
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress


def settled(
    paths: Paths, *, can_call: bool = True, card_thinks: bool = False, **weak: object
) -> SimpleNamespace:
    engine = SimpleNamespace(
        capabilities=Capabilities(learned_tools=can_call),
        prompts=SimpleNamespace(beginning=lambda request: range(200)),
    )
    card = SimpleNamespace(name="small", max_context=99, thinking=card_thinks)
    compiled = SimpleNamespace(card=card, weights_key="abc", library_key="def", config={})
    named = {key if "." in key else f"weak.{key}": value for key, value in weak.items()}
    config = Config.load(environ={}, overrides=named)
    settle(engine, compiled, config, paths, SilentProgress())  # type: ignore[arg-type]
    return engine


def test_tools_are_called_where_that_was_measured_or_is_wished(tmp_path: Path) -> None:
    paths = Paths.under(tmp_path)
    assert not settled(paths).calls_tools and settled(paths, tools="yes").calls_tools
    for share, good in ((1.0, True), (0.5, False)):
        keep(Skill("SmolLM2-135M-Instruct", 80, **dict.fromkeys(LEAST, share)), paths, "abc")
        assert settled(paths).calls_tools is good
        assert not settled(paths, can_call=False).calls_tools and not settled(paths, tools="no").calls_tools
        assert (Need.TOOLS in Pool(Config(), paths=paths).weak_serves) is good  # before it is loaded


def test_only_what_is_marked_is_kept_and_nothing_private_or_found_by_the_guard(tmp_path: Path) -> None:
    paths, text = Paths.under(tmp_path), "You are the assistant of the harbour office. " * 20
    plain = ChatRequest((Message("system", text), Message("user", "Who?")))
    cache, control = replace(plain, keep="cache"), replace(plain, keep="cache_control")
    for settings, marked in (
        ({}, (cache,)),
        ({"ledger.enabled": False}, ()),
        ({"ledger.enabled": False, "weak.keep_prefix": "marked"}, (cache,)),
        ({"weak.keep_prefix": "off"}, ()),
        ({"weak.keep_prefix": "cache_control"}, (cache, control)),
        ({"weak.keep_prefix": "system"}, (cache, control, plain)),
    ):
        keeper = settled(paths, **settings).keeper

        def kept(request: ChatRequest, keeper: Any = keeper) -> bool:
            return keeper is not None and keeper.of(request, list(range(300))) is not None

        for request in (plain, cache, control):
            assert kept(request) is (request in marked), (settings, request.keep)
            secret = f"{text} The key is AKIA{'Q7ZK4M2N8P1R6S3T'}."
            for never in (
                replace(request, private=True),
                replace(request, raw_prompt=text),
                replace(request, messages=(Message("system", secret), *request.messages[1:])),
            ):
                assert not kept(never), (settings, never)
            answer = replace(request, messages=(*request.messages[:1], Message("user", secret)))
            assert kept(answer) is (request in marked)  # what is said behind it is not kept


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
