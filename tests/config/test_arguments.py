"""Settings as keyword arguments: each there is, its type, and what they lay over."""

from __future__ import annotations

from inspect import signature
from typing import get_type_hints

import pytest

from edge_router.api.client import Controller, ControllerArguments
from edge_router.config.arguments import SettingArguments, configured
from edge_router.config.settings import Config, keys
from edge_router.errors import ConfigError


def test_every_setting_is_a_keyword_argument() -> None:
    assert [name.replace("__", ".") for name in SettingArguments.__annotations__] == list(keys())


def test_every_argument_of_a_controller_is_one_of_the_async_one() -> None:
    own = {name for name, each in signature(Controller).parameters.items() if each.kind != each.VAR_KEYWORD}
    assert own == set(ControllerArguments.__annotations__) - set(SettingArguments.__annotations__)


def test_the_types_are_those_of_the_settings() -> None:
    hints = get_type_hints(SettingArguments)
    assert (hints["weak__threads"], hints["strong__model"], hints["offline"]) == (
        int | None,
        str | None,
        bool,
    )


def test_arguments_lie_over_a_configuration_or_over_the_file(home) -> None:
    assert configured(Config(), {"weak__threads": 2}).weak.threads == 2
    (home / "config.toml").write_text("[weak]\nthreads = 3\n[router]\nname = 'bert'\n")
    found = configured(None, {"weak__threads": 2})
    assert (found.weak.threads, found.router.name) == (2, "bert")
    assert (found.origin("weak.threads"), found.origin("router.name")) == (
        "argument",
        str(home / "config.toml"),
    )


def test_one_that_is_not_known_is_named() -> None:
    with pytest.raises(ConfigError, match=r"weak\.thread"):
        configured(Config(), {"weak__thread": 2})  # type: ignore[typeddict-unknown-key]
