"""`edge-router upgrade`: what is listed, asked, shown, and goes on after an interruption."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from table import each

from edge_router.cli.verbs.upgrade import moment
from edge_router.errors import StrongUnreachable
from edge_router.ledger import Ledger
from edge_router.system.paths import Paths

pytestmark = pytest.mark.integration  # some seconds of writing to disk

KEEP = ("--set", "ledger.store_prompts=true")
PRICED = ("--set", "strong.price_in=1e6", "--set", "strong.price_out=1e6")


@pytest.fixture
def kept(cli: Any, models: Any) -> None:
    """Three hard questions that were asked offline."""
    for number in (1, 2, 3):
        assert cli("chat", *KEEP, "--offline", f"a hard one {number}").code == 0


def test_what_is_to_be_bettered_is_listed(cli: Any, kept: None) -> None:
    done = cli("upgrade")
    lines = done.out.splitlines()
    assert done.code == 0 and len(lines) == 4
    assert "offline" in lines[1] and "a hard one 1" in lines[1]
    assert done.err.rstrip().endswith("edge-router upgrade --all")
    listed = json.loads(cli("upgrade", "--json", "--dry-run", *PRICED).out)
    assert [each["id"] for each in listed] == [1, 2, 3]
    assert all(each["cost_at_most"] > 0 and each["state"] == "open" for each in listed)


def test_all_or_some_are_asked_and_both_answers_shown(cli: Any, models: Any, kept: None) -> None:
    models.strong.queue("better 2", "better 1", "better 3")
    one = cli("upgrade", "2")
    assert "2: a hard one 2\n-- small:\nYou said: a hard one 2\n-- big:\nbetter 2\n" in one.out
    rest = [json.loads(line) for line in cli("upgrade", "--all", "--json").out.splitlines()]
    assert [(each["id"], each["better"]) for each in rest] == [(1, "better 1"), (3, "better 3")]
    shown = cli("upgrade", "--done")
    assert shown.out.count("-- big:") == 3 and shown.code == 0
    assert len(json.loads(cli("upgrade", "--done", "--json").out)) == 3
    assert "No answer here waits" in cli("upgrade", "--all").err
    again = cli("upgrade", "2")
    assert "better 2" in again.out and len(models.strong.calls) == 3  # it costs no second time


def test_an_error_ends_the_run_and_the_same_command_goes_on(cli: Any, models: Any, kept: None) -> None:
    models.strong.queue("better 1", StrongUnreachable("http://there", "refused"))
    failed = cli("upgrade", "--all")
    assert failed.code == 1 and "better 1" in failed.out
    assert "2 answers left; the same command goes on from there" in failed.err
    again = cli("upgrade", "--all")
    assert again.code == 0 and again.out.count("-- big:") == 2


def test_what_another_program_asks_about_is_left_to_it_and_told(cli: Any, paths: Paths, kept: None) -> None:
    ledger = Ledger(paths.ledger)
    assert ledger.upgrades.claim(2)
    done = cli("upgrade", "--all")
    assert done.code == 0 and done.out.count("-- big:") == 2
    assert "1 answer left; another program asks about it now" in done.err
    ledger.upgrades.release(2)
    assert cli("upgrade", "--all").out.count("-- big:") == 1


def test_the_cost_is_bounded(cli: Any, models: Any, kept: None) -> None:
    done = cli("upgrade", "--all", "--max-cost", "0.5", *PRICED)
    assert done.code == 0 and "3 answers left; more could cost above 0.5" in done.err
    unpriced = cli("upgrade", "--all", "--max-cost", "1")
    assert unpriced.code == 2 and "strong.price_in" in unpriced.err and not models.strong.calls


@each(
    "settings, command",
    [
        ((), "edge-router config set ledger.store_prompts=true"),
        (("--set", "ledger.enabled=false"), "config set ledger.store_prompts=true ledger.enabled=true"),
        ((*KEEP, "--set", "ledger.upgrade=off"), "edge-router config set ledger.upgrade=ask"),
    ],
)
def test_where_nothing_is_kept_it_is_said_how(
    cli: Any, models: Any, paths: Paths, settings: tuple[str, ...], command: str
) -> None:
    Ledger(paths.ledger).clear()
    assert cli("chat", *settings, "--offline", "a hard one").code == 0
    done = cli("upgrade", *settings)
    assert (done.code, done.out) == (0, "") and done.err.rstrip().endswith(command)
    assert json.loads(cli("upgrade", *settings, "--json").out) == []


@each(
    "words, said",
    [
        (("9",), "keeps no answer 9"),
        (("9",), "see them with: edge-router upgrade --dry-run"),
        (("1", "--all"), "either name answers"),
        (("--since", "soon"), "neither like 3d"),
        (("x",), "valid integer"),
        (("--all", "-o", "offline=true"), "config set offline=false"),
    ],
)
def test_what_cannot_be_asked(cli: Any, kept: None, words: tuple[str, ...], said: str) -> None:
    done = cli("upgrade", *words)
    assert done.code == 2 and said in done.err, done.err


def test_moments() -> None:
    assert moment("90m", 6000.0) == 600.0 and moment("2 d", 200_000.0) == 27_200.0
    assert moment("1970-01-02T00:00:00+00:00", 0.0) == 86_400.0
    with pytest.raises(typer.BadParameter):
        moment("", 0.0)


SCRIPT = """
import sys
from edge_router.cli import session
from edge_router.cli.main import main
from edge_router.api.client import Controller
from edge_router.engines.scripted import ScriptedEngine
from edge_router.routing.routers.scripted import ScriptedRouter

def make(config, paths, progress):
    return Controller(
        config,
        paths=paths,
        weak=ScriptedEngine(model_id="small"),
        strong=ScriptedEngine(default="better", model_id="big"),
        router=ScriptedRouter(0.9, name="mf"),
    )

session.make_controller = make
main()
"""


def test_on_a_terminal_each_is_asked_about(terminal: Any, cli: Any, kept: None) -> None:
    shown = terminal("upgrade", script=SCRIPT)
    shown.wait_for("3 left. Ask the strong model?")
    shown.type("n\n")
    shown.wait_for("a hard one 2")
    shown.wait_for("2 left. Ask the strong model?")
    shown.type("y\n")
    shown.wait_for("-- big:")
    shown.wait_for("1 left. Ask the strong model?")
    shown.type("q\n")
    assert shown.end()[0] == 0
    states = [row["state"] for row in json.loads(cli("upgrade", "1", "3", "--json", "--dry-run").out)]
    assert states == ["declined", "open"]
    assert [row["id"] for row in json.loads(cli("upgrade", "--done", "--json").out)] == [2]
