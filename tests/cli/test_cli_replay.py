"""`replay`, and what is said when the traffic has changed."""

from __future__ import annotations

import json

import pytest

from edge_router.chat.events import Usage
from edge_router.cli.verbs.serve import _drift
from edge_router.config.settings import Config
from edge_router.ledger import Ledger, Record
from edge_router.types import Decision, Reason

PRICED = ("-o", "strong.price_in=10", "-o", "strong.price_out=30")


@pytest.fixture
def traffic(paths):
    """Ten answers with the scores 0.0 to 0.9, threshold 0.5, their prompts kept."""
    ledger = Ledger(paths.ledger, store_prompts=True)
    for index in range(10):
        tier = "strong" if index >= 5 else "weak"
        decision = Decision(tier, Reason.SCORE, index / 10, 0.5, "mf")
        ledger.record(Record(decision, tier, Usage(1000, 100), prompt=f"prompt\n{index}", time=1e9 + index))
    ledger.close()


def test_replay_says_what_moves_and_what_it_costs(cli, traffic):
    done = cli("replay", "--threshold", "0.8", "--moved", "2", *PRICED)
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[1] == ["as", "it", "was", "5", "50.0%", "0.0650"]
    assert lines[2] == ["from", "0.8", "on", "2", "20.0%", "0.0260"]
    assert ["6", "weak", "0.500", "prompt", "5"] in lines and len(lines) == 3 + 1 + 3
    assert "10 answers: 0 would move to the strong model, 3 to the weak one" in done.err


def test_without_a_threshold_the_one_that_holds_counts(cli, traffic):
    assert "from 0.5 on" in cli("replay").out  # what the ledger's last decision went by
    assert "from 0.4 on" in cli("replay", "--set", "router.threshold=0.4").out


def test_replay_as_json(cli, traffic):
    found = json.loads(cli("replay", "--threshold", "0.3", "--json", "--moved", "1").out)
    assert (found["n"], found["to_strong"], found["to_weak"], found["kept"]) == (10, 2, 0, 0)
    assert found["after"] == {"strong": 7, "strong_share": 0.7, "cost": None}
    assert found["moved"] == [{"id": 4, "to": "strong", "score": 0.3, "prompt": "prompt\n3"}]


def test_replay_tells_what_was_given_again(cli, traffic, paths):
    ledger = Ledger(paths.ledger)
    for tier in ("weak", "strong", "strong"):
        ledger.record(Record(Decision(tier, Reason.CACHED), tier, Usage(1000, 100, 1000)))
    ledger.close()
    done = cli("replay", "--threshold", "0.8", *PRICED)
    assert "10 answers: 0 would move" in done.err  # and no more
    assert "3 more were given again, 2 of them the strong model's, which would have cost 0.0260" in done.err
    told = json.loads(cli("replay", "--threshold", "0.8", "--json").out)
    assert told["n"] == 10 and told["given_again"] == {"answers": 3, "strong": 2, "cost": None}


def test_replay_without_prices_says_which_keys_they_are(cli, traffic):
    assert "strong.price_in" in cli("replay", "--threshold", "0.3").err


def test_replay_says_what_sessions_have_spared(cli, traffic, paths):
    assert "conversations" not in cli("replay", "--threshold", "0.3").err
    held = Decision("weak", Reason.SESSION, 0.6, 0.5, "mf", held="prompt", held_tokens=1500)
    Ledger(paths.ledger).record(Record(held, "weak", Usage(2000, 100)))
    done = cli("replay", "--threshold", "0.3", *PRICED)
    assert "stayed with their model once" in done.err
    assert "1,500 tokens not read again, which would have cost 0.0150" in done.err


def test_replay_of_nothing(cli, traffic):
    assert "no decision of static" in cli("replay", "--threshold", "0.3", "--router", "static").err
    assert cli("replay", "--threshold", "0.3", "--days", "1").code == 2


@pytest.mark.integration
def test_changed_traffic_is_told_by_doctor_and_at_the_start(cli, paths, tmp_path):
    sample = tmp_path / "prompts.txt"
    sample.write_text("\n".join("word " * (n % 50 + 1) for n in range(400)), encoding="utf-8")
    found = cli("calibrate", "--strong-share", "0.3", "--prompts", str(sample), "--router", "length")
    threshold = found.out.strip()
    settings = ("-o", "router.name=length", "-o", f"router.threshold={threshold}")

    def findings() -> list[dict[str, str]]:
        report = json.loads(cli("doctor", "--offline", "--json", *settings).out)
        return [finding for finding in report["findings"] if finding["name"] == "drift"]

    def ask(score: float) -> None:
        ledger = Ledger(paths.ledger)
        for _ in range(120):
            ledger.record(Record(Decision("weak", Reason.SCORE, score, 0.5, "length"), "small"))
        ledger.close()

    assert findings() == []
    ask(0.95)
    (finding,) = findings()
    assert finding["state"] == "note" and "sends 100% of the last 120 queries" in finding["text"]
    assert "edge-router calibrate --ledger --last 120 --strong-share 0.3" in finding["text"]
    config = Config().replace(**{"router.name": "length", "router.threshold": float(threshold)})
    assert "the traffic has changed" in (_drift(config, paths) or "")
    assert _drift(Config(), paths) is None
    paths.ledger.write_bytes(b"not a database, but long enough to be looked at" * 100)
    assert _drift(config, paths) is None


def test_a_place_that_cannot_be_written_still_calibrates(cli, paths, tmp_path, monkeypatch):
    from edge_router.errors import NotWritable
    from edge_router.routing.thresholds import drift

    def refuse(file, base):
        raise NotWritable(file)

    monkeypatch.setattr(drift, "save", refuse)
    sample = tmp_path / "prompts.txt"
    sample.write_text("a\nbb\n", encoding="utf-8")
    done = cli("calibrate", "--strong-share", "0.5", "--prompts", str(sample), "--router", "length")
    assert done.code == 0 and float(done.out) >= 0 and "the sample is not remembered" in done.err
