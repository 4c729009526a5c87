"""`keys`: a key is printed once, and nothing but its hash is written."""

from __future__ import annotations

import json

import pytest

from edge_router.callers.keys import KeyRing
from edge_router.chat.events import Usage
from edge_router.config.settings import Config
from edge_router.ledger import Ledger, Record
from edge_router.types import Decision, Reason


def test_a_key_is_made_printed_once_and_kept_as_a_hash(cli, home):
    file = home / "config.toml"
    file.write_text("# mine\n[weak]\nthreads = 3\n", encoding="utf-8")
    made = cli("keys", "new", "anna")
    key = made.out.strip()
    assert made.code == 0 and key.startswith("sk-er-") and key not in made.err
    text = file.read_text(encoding="utf-8")
    assert "# mine" in text and "threads = 3" in text and key not in text
    assert KeyRing.of(Config.load().callers, environ={}).find([key.encode()]) == (True, "anna")
    other = cli("keys", "new", "ben").out.strip()
    keys = KeyRing.of(Config.load().callers, environ={})
    assert keys.find([other.encode()]) == (True, "ben") and keys.find([key.encode()]) == (True, "anna")
    for asked in (
        ("config", "show"),
        ("config", "show", "--json"),
        ("keys", "list"),
        ("keys", "list", "--json"),
    ):
        done = cli(*asked)
        assert done.code == 0 and key not in done.out + done.err, asked
        assert Config.load().callers[0].key_hash not in done.out, asked
    assert json.loads(cli("keys", "list", "--json").out) == {
        "anna": {"key": "hashed"},
        "ben": {"key": "hashed"},
    }


def test_a_key_is_replaced_only_on_demand(cli, home):
    key = cli("keys", "new", "anna").out.strip()
    refused = cli("keys", "new", "anna")
    assert refused.code == 2 and "--yes" in refused.err and refused.out == ""
    assert KeyRing.of(Config.load().callers, environ={}).find([key.encode()]) == (True, "anna")
    again = cli("keys", "new", "anna", "--yes").out.strip()
    keys = KeyRing.of(Config.load().callers, environ={})
    assert keys.find([key.encode()]) == (False, None) and keys.find([again.encode()]) == (True, "anna")
    assert cli("keys", "new", "an na").code == 2


def test_what_a_caller_may_is_listed(cli, home, monkeypatch):
    settings = ("callers.a.models=weak,auto", "callers.a.api_key_env=KEY_OF_A", "callers.a.concurrency=2")
    assert cli("config", "set", *settings).code == 0
    told = " ".join(cli("keys", "list").out.splitlines()[-1].split())
    assert told == "a in KEY_OF_A, which is not set models weak,auto, concurrency 2"
    assert json.loads(cli("keys", "list", "--json").out)["a"]["models"] == ["weak", "auto"]
    monkeypatch.setenv("KEY_OF_A", "0123456789abcdef")
    done = cli("keys", "list")
    assert "which is not set" not in done.out and "0123456789abcdef" not in done.out


def test_what_each_caller_has_used(cli, paths):
    ledger = Ledger(paths.ledger)
    for caller, tier, reason, error in (
        ("anna", "strong", Reason.SCORE, None),
        ("anna", "weak", Reason.SCORE, "GenerationFailed"),
        ("anna", "strong", Reason.CACHED, None),
        (None, "strong", Reason.SCORE, None),
    ):
        decision = Decision(tier, reason, 0.5, 0.5, "mf", caller=caller)
        ledger.record(Record(decision, tier, Usage(1000, 500), error=error))
    ledger.close()
    prices = ("-o", "strong.price_in=10", "-o", "strong.price_out=30")
    rows = [line.split() for line in cli("keys", "usage", *prices).out.splitlines()]
    assert rows[1:] == [["anna", "3", "2", "1", "3,000", "0.0250"], ["-", "1", "1", "0", "1,500", "0.0250"]]
    found = json.loads(cli("keys", "usage", "--json").out)
    told = {"answers": 3, "strong": 2, "errors": 1, "tokens": 3000, "cost": None}
    assert found["anna"] == {**told, "again": 1, "away": 1, "here": 2, "saved": None}
    replayed = json.loads(cli("replay", "--threshold", "0.9", "--caller", "anna", "--json").out)
    assert replayed["n"] == 3
    assert "for ben" in cli("replay", "--threshold", "0.9", "--caller", "ben").err


@pytest.mark.integration
def test_doctor_shows_callers_and_no_key(cli, monkeypatch):
    key = cli("keys", "new", "anna").out.strip()
    settings = (
        "strong.price_in=1",
        "strong.price_out=1",
        "callers.anna.daily_budget=2",
        "callers.ben.models=weak",
    )
    assert cli("config", "set", *settings, "callers.eve.api_key_env=KEY_OF_EVE").code == 0
    done = cli("doctor", "--offline", "--json")
    found = {each["name"]: each for each in json.loads(done.out)["findings"] if each["section"] == "Callers"}
    assert "key hashed" in found["anna"]["text"] and "0.0000 of 2 spent this day" in found["anna"]["text"]
    assert "edge-router keys new ben" in found["ben"]["text"] and found["ben"]["state"] == "note"
    assert "KEY_OF_EVE, which is not set" in found["eve"]["text"]
    assert found["keys"]["state"] == "bad" and "KEY_OF_EVE" in found["keys"]["text"]
    assert key not in done.out and "sha256" not in done.out


@pytest.mark.integration
def test_route_says_where_a_callers_prompts_would_go(cli):
    settings = ("callers.anna.model=weak", "callers.anna.models=weak", "router.name=length")
    assert cli("config", "set", *settings).code == 0
    assert json.loads(cli("route", "hi", "--caller", "anna", "--json").out)[0]["caller"] == "anna"
    refused = cli("route", "hi", "--caller", "anna", "--model", "strong")
    assert refused.code and "edge-router keys list" in refused.err
    assert "ben" in cli("route", "hi", "--caller", "ben").err
