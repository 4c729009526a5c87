"""What was asked, what it saved, and forgetting it."""

from __future__ import annotations

import json
import time

import pytest

from edge_router.chat.events import Usage
from edge_router.ledger import Ledger, Record
from edge_router.types import Decision, Reason, Timings

PRICES = ("--set", "strong.price_in=1", "--set", "strong.price_out=2", "--set", "strong.model=big")
MILLION = 1_000_000
DAY_S = 86_400.0


@pytest.fixture
def answers(paths):
    now = time.time()
    usage, timings = Usage(MILLION, MILLION), Timings(total_ms=1234.5)
    ledger = Ledger(paths.ledger, store_prompts=True)
    for record in (
        Record(Decision("weak", Reason.SCORE, 0.1, 0.3, "mf"), "small", usage, timings, time=now - 2 * DAY_S),
        Record(Decision("strong", Reason.SCORE, 0.9, 0.3, "mf"), "big", usage, timings, prompt="Prove\nit"),
        Record(Decision("strong", Reason.CACHED, caller="anna"), "big", usage, timings),
        Record(Decision("weak", Reason.FORCED), "", None, timings, "EngineFailed"),
    ):
        ledger.record(record)
    ledger.close()


def test_the_last_answers_with_where_and_why(cli, answers):
    lines = cli("history").out.splitlines()
    assert lines[0].split() == ["id", "when", "model", "reason", "score", "tokens", "ms", "prompt"]
    assert lines[1].split() == ["4", "now", "weak", "forced,", "EngineFailed", "-", "-", "1,234", "-"]
    assert lines[3].split() == ["2", "now", "strong", "score", "0.900", "1,000,000", "1,234", "Prove", "it"]
    assert len(lines) == 5 and max(map(len, lines)) <= 80
    for words, ids in (
        (("--to", "strong"), [3, 2]),
        (("--days", "1", "--to", "weak"), [4]),
        (("--caller", "anna"), [3]),
        (("--failed",), [4]),
        (("-n", "1"), [4]),
    ):
        assert [each["id"] for each in json.loads(cli("history", *words, "--json").out)] == ids, words
    assert "prompt" not in cli("history", "--to", "weak").out  # no column of nothing


def test_all_that_is_known_of_one(cli, answers):
    told = cli("history", "2").out
    assert "answered by         big (strong)\n" in told and "Prove\nit" in told
    assert "score 0.900 reaches the threshold 0.300" in told
    found = json.loads(cli("history", "1", "--json").out)
    assert (found["answered_by"], found["score"], found["prompt"]) == ("small", 0.1, None)
    done = cli("history", "9")
    assert done.code == 2 and done.err.rstrip().endswith("edge-router history")


def test_how_much_stayed_here_and_what_that_saved(cli, answers):
    done = cli("usage", *PRICES)
    assert done.out.splitlines()[0] == (
        "3 of 4 answers stayed here (75%), 1 of them given again, saved 6.00; the others cost 3.00."
    )
    assert len(done.out.splitlines()) == 5 and "at the prices of your settings" in done.err
    assert "edge-router history --failed" in done.err
    found = json.loads(cli("usage", *PRICES, "--by", "month", "--json").out)
    assert {"answers": 4, "here": 3, "saved": 6.0, "cost": 3.0}.items() <= found.items()
    assert sum(each["answers"] for each in found["by_month"]) == 4
    assert json.loads(cli("usage", "--caller", "anna", "--json").out)["answers"] == 1


def test_without_prices_it_says_how_to_set_them(cli, answers):
    done = cli("usage")
    assert done.out.startswith("3 of 4 answers stayed here (75%), 1 of them given again.\n")
    assert "edge-router config set strong.price_in=" in done.err
    assert json.loads(cli("usage", "--json").out)["saved"] is None


def test_forgetting_says_what_and_takes_a_yes(cli, answers, paths):
    refused = cli("ledger", "clear")
    assert refused.code == 2 and "--yes" in refused.err
    assert len(Ledger(paths.ledger).recent()) == 4
    assert cli("ledger", "clear", "--older-than", "1", "-y").err == "Removed 1 answer.\n"
    cli("rate", "2", "up")
    assert cli("ledger", "clear", "-y").err == "Removed 3 answers (1 with their prompts, 1 rated).\n"
    assert cli("ledger", "clear", "-y").err == "The ledger holds no such answer.\n"
    assert json.loads(cli("ledger", "clear", "--json").out)["removed"] == 0


def test_a_damaged_ledger_can_be_cleared(cli, paths):
    paths.ledger.parent.mkdir(parents=True, exist_ok=True)
    paths.ledger.write_bytes(b"no database at all, " * 100)
    done = cli("history")
    assert done.code != 0 and "edge-router ledger clear" in done.err
    assert "Removed the damaged file." in cli("ledger", "clear", "--yes").err
    assert not paths.ledger.exists()


def test_where_nothing_was_asked_the_next_command_is_named(cli):
    for words in (("history",), ("usage",)):
        done = cli(*words)
        assert done.code == 0 and done.err.rstrip().endswith("edge-router chat"), words
