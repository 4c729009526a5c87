"""Rules that are read again once their file has changed, and never lost by that."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from edge_router.api.client import Controller
from edge_router.config.settings import Config
from edge_router.control.policy import Names
from edge_router.control.rule_source import RuleSource
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import InvalidRules
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.system.paths import Paths

NAMES = Names(routers={"mf"}, weak={"small"}, strong={"big"})
KEEPS = '[[rule]]\nname = "{}"\nwords = "acme"\nthen = "{}"\n'


class Watched:
    """A source whose time passes as told."""

    def __init__(self, paths: Paths, **settings: object) -> None:
        self.now = self.written = 0.0
        self.file = paths.rules
        config = Config().replace(**settings)
        clock = lambda: self.now  # noqa: E731
        self.source = RuleSource(config, paths, lambda: NAMES, clock, clock)

    def write(self, text: str, ago: float = 0.0) -> None:
        """As somebody does at this moment, or did so many seconds ago; never twice at the same time."""
        self.file.write_text(text, encoding="utf-8")
        self.written = max(self.written + 1e-3, self.now - ago)
        os.utime(self.file, (self.written, self.written))

    def names(self, looks: int = 1) -> list[str]:
        for _ in range(looks):
            self.now += 1.0
            found = self.source.current()
        return [rule.name for rule in found]


@pytest.fixture
def watched(paths: Paths) -> Watched:
    paths.rules.parent.mkdir(parents=True, exist_ok=True)
    paths.rules.write_text(KEEPS.format("a", "local_only"), encoding="utf-8")
    return Watched(paths)


def test_a_change_counts_once_it_has_stayed(watched: Watched) -> None:
    assert watched.names(3) == ["a"]
    watched.write(KEEPS.format("b", "weak"))
    assert watched.names() == ["a"] and watched.names() == ["b"]
    watched.write("")  # an editor has only begun to write
    assert watched.names() == ["b"]
    watched.write(KEEPS.format("c", "local_only"))
    assert watched.names() == ["b"] and watched.names() == ["c"]
    watched.write("")
    assert watched.names(2) == []  # somebody wants none


def test_what_was_written_a_while_ago_counts_for_the_first_question_that_comes(watched: Watched) -> None:
    watched.now = 60.0
    watched.write(KEEPS.format("b", "block"), ago=20.0)
    assert watched.names() == ["b"]
    watched.write(KEEPS.format("c", "block"), ago=-3600.0)  # by a wrong clock
    assert watched.names() == ["b"] and watched.names() == ["c"]


def test_nothing_is_looked_at_between_two_looks(watched: Watched) -> None:
    watched.write(KEEPS.format("b", "weak"))
    for _ in range(5):
        assert [rule.name for rule in watched.source.current()] == ["a"]


@pytest.mark.parametrize("text", ["[[rule", "[[rule]]\nname = 'b'\n", KEEPS.format("b", "nobody")])
def test_what_cannot_be_followed_changes_nothing_and_is_told_once(
    watched: Watched, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    watched.write(text)
    with caplog.at_level(logging.WARNING):
        assert watched.names(6) == ["a"]
    assert [record.message.endswith("the rules before that still hold") for record in caplog.records] == [
        True
    ]
    watched.write(KEEPS.format("b", "big"))
    assert watched.names(2) == ["b"]


def test_a_file_that_is_gone_takes_no_rule_along(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.file.unlink()
    assert watched.names(4) == ["a"]
    assert len(caplog.records) == 1 and "is gone" in caplog.records[0].message
    watched.write(KEEPS.format("b", "weak"))
    assert watched.names(2) == ["b"]


def test_a_file_that_was_not_there_is_read_once_it_is(paths: Paths) -> None:
    paths.rules.parent.mkdir(parents=True, exist_ok=True)
    watched = Watched(paths)
    assert watched.names(2) == []
    watched.write(KEEPS.format("a", "local_only"))
    assert watched.names(2) == ["a"]
    with pytest.raises(InvalidRules):
        Watched(paths, **{"rules.file": str(Path("nowhere.toml").absolute())})


def test_a_controller_follows_it(paths: Paths) -> None:
    with Controller(
        weak=ScriptedEngine(model_id="small"),
        strong=ScriptedEngine(),
        router=ScriptedRouter(0.9),
        paths=paths,
    ) as controller:
        assert controller.route("of Acme").model == "strong"
        rules = controller._pool.egress._rules.__self__  # type: ignore[attr-defined]
        paths.rules.write_text(KEEPS.format("a", "local_only"), encoding="utf-8")
        for _ in range(2):
            rules._next = 0.0
            decision = controller.route("of Acme")
        assert (decision.model, decision.rule) == ("weak", "a")
