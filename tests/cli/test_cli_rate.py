"""Thumbs up and down."""

from __future__ import annotations

import json

import pytest

from edge_router.ledger import Ledger, Record
from edge_router.routing.labels.reading import read_labelled
from edge_router.types import Decision, Reason


@pytest.fixture
def answers(paths):
    ledger = Ledger(paths.ledger, store_prompts=True)
    for tier, prompt in (("weak", "a\nb"), ("strong", "c"), ("weak", None), ("weak", "d")):
        ledger.record(Record(Decision(tier, Reason.SCORE, 0.5, 0.5, "mf"), f"my-{tier}", prompt=prompt))
    ledger.close()


def test_the_last_answer_or_any_by_its_id(cli, answers):
    assert "4: up, an answer of my-weak" in cli("rate", "up").err
    assert "1: down" in cli("rate", "1", "down").err
    assert json.loads(cli("rate", "2", "up", "--json").out)["answered_by"] == "my-strong"
    assert cli("rate", "3", "down").err.rstrip().endswith("edge-router config set ledger.store_prompts=true")
    lines = [line.split() for line in cli("rate").out.splitlines()]
    assert lines[1:] == [
        ["4", "weak", "up", "d"],
        ["3", "weak", "down", "-"],
        ["2", "strong", "up", "c"],
        ["1", "weak", "down", "a", "b"],
    ]
    assert [fact["rating"] for fact in json.loads(cli("rate", "--json").out)] == [1, -1, 1, -1]


def test_labels_are_made_of_the_weak_models_answers(cli, answers, tmp_path):
    for words in (("1", "down"), ("2", "up"), ("3", "up"), ("4", "up")):
        cli("rate", *words)
    file = tmp_path / "thumbs.jsonl"
    done = cli("rate", "--export", str(file))
    assert "2 of 4 rated answers are labels now" in done.err
    data = read_labelled(file)
    assert data.prompts == ("a\nb", "d")
    assert data.weak.tolist() == [0, 1] and data.strong.tolist() == [1, 1]
    assert "edge-router train --adapt" in done.err
    report = json.loads(cli("rate", "--export", str(file), "--json").out)
    assert report == {"labels": 2, "rated": 4, "output": str(file)}


def test_where_there_is_no_label_it_is_said_how_there_would_be(cli, answers, tmp_path):
    cli("rate", "3", "down")
    said = cli("rate", "--export", str(tmp_path / "none.jsonl")).err
    assert "0 of 1" in said and "train" not in said
    assert said.rstrip().endswith("edge-router config set ledger.store_prompts=true")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("9", "up"), "no answer 9"),
        (("good",), "up or down"),
        (("x", "up"), "up or down"),
        (("1", "2", "up"), "up or down"),
        (("up", "--export", "a.jsonl"), "either rate an answer"),
        (("--export", "a.csv"), "must end in .jsonl"),
    ],
)
def test_what_cannot_be_rated(cli, answers, words, said):
    done = cli("rate", *words)
    assert done.code == 2 and said in done.err


def test_before_anything_was_asked_the_next_command_is_named(cli):
    verbs = (
        *(("rate", "up"), ("rate",)),
        *(("replay", "--threshold", "0.3"), ("calibrate", "--strong-share", "0.3", "--ledger")),
    )
    for words in verbs:
        done = cli(*words)
        assert "ask something first: edge-router chat" in " ".join(done.err.split()), words
        assert done.code == (0 if words == ("rate",) else 2), words
        done = cli(*words, "--set", "ledger.enabled=false")
        assert "edge-router config set ledger.enabled=true" in " ".join(done.err.split()), words
