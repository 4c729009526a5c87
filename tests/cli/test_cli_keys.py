"""`keys`: a key is printed once, and nothing but its hash is written."""

from __future__ import annotations

import json

from edge_router.callers.keys import Keys
from edge_router.config import Config


def test_a_key_is_made_printed_once_and_kept_as_a_hash(cli, home):
    file = home / "config.toml"
    file.write_text("# mine\n[weak]\nthreads = 3\n", encoding="utf-8")
    made = cli("keys", "new", "anna")
    key = made.out.strip()
    assert made.code == 0 and key.startswith("sk-er-") and key not in made.err
    text = file.read_text(encoding="utf-8")
    assert "# mine" in text and "threads = 3" in text and key not in text
    assert Keys.of(Config.load().callers, environ={}).find([key.encode()]) == (True, "anna")
    other = cli("keys", "new", "ben").out.strip()
    keys = Keys.of(Config.load().callers, environ={})
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
    assert Keys.of(Config.load().callers, environ={}).find([key.encode()]) == (True, "anna")
    again = cli("keys", "new", "anna", "--yes").out.strip()
    keys = Keys.of(Config.load().callers, environ={})
    assert keys.find([key.encode()]) == (False, None) and keys.find([again.encode()]) == (True, "anna")
    assert cli("keys", "new", "an na").code == 2


def test_what_a_caller_may_is_listed(cli, home, monkeypatch):
    settings = ("callers.a.models=weak,auto", "callers.a.api_key_env=KEY_OF_A", "callers.a.concurrency=2")
    assert cli("config", "set", *settings).code == 0
    told = " ".join(cli("keys", "list").out.splitlines()[-1].split())
    assert told == "a in KEY_OF_A, which is not set models weak,auto, concurrency 2"
    monkeypatch.setenv("KEY_OF_A", "0123456789abcdef")
    done = cli("keys", "list")
    assert "which is not set" not in done.out and "0123456789abcdef" not in done.out
