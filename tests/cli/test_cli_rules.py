"""`edge-router rules check`: what a file of rules says, and why."""

from __future__ import annotations

import json
from pathlib import Path

RULES = """
[[rule]]
name = "customers"
words = "acme"
language = "en"
then = "local_only"
[[rule]]
name = "night"
hours = "22:00-06:00"
then = "weak"
[[rule]]
name = "editors"
program = "zed"
metadata = {team = "web"}
then = "strong"
[[rule]]
name = "names"
words = "bluebird"
then = "redact"
"""
KEY = "sk-proj-" + "aB3" * 8


def test_check_explains(cli, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    listed = cli("rules", "check", str(file))
    assert listed.code == 0 and "customers" in listed.out and "words, language" in listed.out
    done = cli(
        "rules", "check", str(file), "What is the bill of Acme for?", "Bluebird", f"{KEY}", "--at", "12:00"
    )
    assert done.code == 0
    assert (
        "  stays here by customers\n  customers (local_only): holds\n  night (weak): does not hold: hours"
        in done.out
    )
    assert "the score decides; hidden from the strong model: what the rule 'names' hides" in done.out
    assert "stays here by the guard: a key or password (OpenAI)" in done.out
    night = cli("rules", "check", str(file), "Why?", "--at", "2026-11-30T23:00", "--json")
    (found,) = json.loads(night.out)
    assert found["outcome"] == "weak by night"
    assert found["rules"][0] == {"rule": "customers", "then": "local_only", "fails": "words"}
    asked = ("--program", "Zed/1.0", "--metadata", "team=web", "--at", "12:00")
    assert "strong by editors" in cli("rules", "check", str(file), "Why?", *asked).out


def test_what_cannot_be_read_is_one_sentence(cli, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("[[rule]]\nthen = 'weak'\npattern = '(?=x)y'\n")
    done = cli("rules", "check", str(file), "Why?")
    assert done.code == 2 and "rule 1: a pattern is not taken: invalid perl operator: (?=" in done.err
    assert done.err.rstrip().endswith("edge-router rules check --help")
    assert cli("rules", "check", str(file), "--metadata", "x").code == 2
