"""`decide`: typed questions from the command line, as a table, as bars and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from table import each

from edge_router.api.client import Controller
from edge_router.cli.calibrate import typed_questions
from edge_router.cli.session import Session
from edge_router.cli.verbs.decide import BAR, _asked
from edge_router.cli.verbs.decide import app as decide_app
from edge_router.config.settings import Config
from edge_router.engines.scripted import ScriptedEngine
from edge_router.errors import UnknownModel, WeightsUnavailable
from edge_router.questions.inquiry import Inquiry
from edge_router.questions.question import Choice, Question, Scale, YesNo

ASK = (
    *("--choice", "Whose is it? billing, technical,sales", "--yes-no", "Is it urgent?"),
    *("--score", "How angry: calm,furious"),
)


def judge(inquiry: Inquiry, question: Question) -> tuple[float, ...]:
    return (0.25, 0.75) if question.size == 2 else (0.125, 0.75, 0.125)


@pytest.fixture
def decided(cli: Any, models: Any) -> Callable[..., Any]:
    models.weak = ScriptedEngine(model_id="small", context_window_size=100, serves=(), judge=judge)
    return cli


def test_a_table_says_what_each_question_came_to(decided: Any, models: Any) -> None:
    done = decided("decide", "My invoice is wrong.", *ASK)
    assert done.code == 0 and done.err == ""
    head, *rows = done.out.splitlines()
    assert head.split() == ["question", "answer", "probability", "confidence", "model", "reason"]
    assert [row.split()[-5:] for row in rows] == [
        ["technical", "0.750", "0.625", "small", "uncalibrated"],
        ["yes", "0.750", "0.500", "small", "uncalibrated"],
        ["furious", "0.750", "0.500", "small", "uncalibrated"],
    ]
    (inquiry,) = models.weak.inquiries
    assert inquiry.state[0].text == "My invoice is wrong."
    assert inquiry.questions == (
        Choice(None, "Whose is it?", ("billing", "technical", "sales")),
        YesNo(None, "Is it urgent?"),
        Scale(None, "How angry", ("calm", "furious")),
    )


def test_json_is_what_the_server_would_say(decided: Any) -> None:
    body = json.loads(decided("decide", "--json", *ASK, stdin="My invoice is wrong.\n").out)
    assert [answer["type"] for answer in body["answers"]] == ["choice", "predicate", "score"]
    assert body["answers"][0]["choice"] == "technical" and body["usage"]["input_tokens"] > 0


def test_on_a_terminal_bars_are_drawn(decided: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_router.cli.verbs.decide.drawn", lambda: True)
    done = decided("decide", "My invoice is wrong.", *ASK)
    lines = done.out.splitlines()
    assert lines[0] == "Whose is it?"
    assert lines[2] == f"  technical  {'█' * 18}{'·' * (BAR - 18)} 0.750"
    assert "small, confidence 0.62: how sure is sure enough was not measured yet" in done.err


def test_bars_fit_a_narrow_window(decided: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_router.cli.verbs.decide.drawn", lambda: True)
    monkeypatch.setattr("edge_router.cli.verbs.decide.window", lambda: 50)
    done = decided("decide", "hi", "--choice", f"short,{'long ' * 20}")
    assert done.code == 0 and [len(line) for line in done.out.splitlines()[1:]] == [50, 50], done.out
    assert "  long long long …  █" in done.out


def test_a_named_model_answers_and_a_private_text_stays(decided: Any, models: Any) -> None:
    done = decided("decide", "hi", "--yes-no", "Is it?", "-m", "strong")
    assert "big" in done.out and "forced" in done.out
    done = decided("decide", "hi", "--yes-no", "Is it?", "-m", "strong", "--private")
    assert done.code != 0 and "private" in done.err


def test_a_text_that_is_too_long_is_refused_or_cut(decided: Any, models: Any) -> None:
    text = "word " * 200
    refused = decided("decide", text, "--yes-no", "Is it?", "-m", "weak")
    assert refused.code != 0 and "add --cut, which" in refused.err
    done = decided("decide", text, "--yes-no", "Is it?", "-m", "weak", "--cut")
    assert done.code == 0 and "100 tokens were left out" in done.err


def test_what_the_weak_model_cannot_is_told(decided: Any, models: Any) -> None:
    models.weak = ScriptedEngine(before_verdicts=[WeightsUnavailable("m", "no network")])
    done = decided("decide", "hi", "--yes-no", "Is it?", "-m", "weak")
    assert done.code == 1 and "no network" in done.err


@each(
    "words, told",
    [
        (("hi",), "there is no question"),
        (("--yes-no", "Is it?"), "nothing to ask about"),
        (("hi", "--score", "one"), "2 to 10 levels"),
        (("hi", "--choice", "a,,b"), "--choice: 'a,,b' has an empty label"),
        (("hi", "--choice", "Whose is it?"), "--choice: 'Whose is it?' lists nothing"),
        (("hi", "--choice", "a,b,a"), "--choice: 'a,b,a': 'a' stands there twice"),
        (("hi", "--yes-no", ""), "--yes-no: '': must say what is asked"),
    ],
)
def test_what_is_no_question_is_said(decided: Any, words: tuple[str, ...], told: str) -> None:
    done = decided("decide", *words)
    assert done.code == 2, done
    assert told in done.err, done.err


@each(
    "text, asked, listed",
    [
        ("a,b", "", ["a", "b"]),
        ("Which? a, b", "Which?", ["a", "b"]),
        ("Which: a,b", "Which", ["a", "b"]),
        ("Is it: so? a,b", "Is it: so?", ["a", "b"]),
        ("9:40,10:20", "", ["9:40", "10:20"]),
    ],
)
def test_the_words_before_a_list_are_the_question(text: str, asked: str, listed: list[str]) -> None:
    assert _asked(text) == (asked, listed)


@pytest.fixture
def measured_model(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    """A model that was built, as far as calibration is concerned; sure of what is right."""
    engine = ScriptedEngine(model_id="small", judge=lambda inquiry, question: (0.1, 0.9))
    engine.capabilities = replace(engine.capabilities, weights="key")
    monkeypatch.setattr(engine, "close", lambda: None)  # one pool after the other uses it

    monkeypatch.setattr("edge_router.control.pool.load_weak", lambda *given: engine)
    monkeypatch.setattr(
        "edge_router.cli.calibrate.typed_questions.make_ready", lambda *arguments, **named: None
    )
    monkeypatch.setattr("edge_router.cli.chat.building.weights_key", lambda config, paths: "key")
    return engine


def labels(tmp_path: Path, count: int, wrong: int = 0) -> str:
    file = tmp_path / "labels.jsonl"
    rows = [
        {"state": str(n), "type": "noul", "instructions": "Is it?", "answer": n >= wrong}
        for n in range(count)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def test_calibrate_finds_and_keeps_how_sure_is_sure_enough(
    cli: Any, measured_model: ScriptedEngine, tmp_path: Path
) -> None:
    done = cli("calibrate", "--decisions", labels(tmp_path, 100), "--max-error", "0.05")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split("  ")[0] == "yes or no" and "100.0%" in done.out
    with Controller(weak=measured_model, strong=ScriptedEngine(model_id="big", judge=None)) as controller:
        (given,) = controller.decide("s", [YesNo(None, "Is it?")]).given
    assert (given.model, given.decision.threshold) == ("small", 0.0)
    shown = cli("replay", "--decisions")
    assert shown.code == 0 and shown.out.count("yes or no") >= 6 and "*" in shown.out
    assert "of 1 texts in the ledger 0 went on" in shown.err
    assert "yes or no: of the answers that stay at most 5.0% are wrong" in done.err
    assert "while there is no strong model" in done.err
    body = json.loads(cli("replay", "--decisions", "--json").out)
    assert body["replay"][0] == {"type": "yes_no", "bound": 0.0, "stay": 1.0, "wrong": 0.0, "in_force": True}


def test_calibrate_says_how_many_labels_are_missing(
    cli: Any, measured_model: ScriptedEngine, tmp_path: Path
) -> None:
    done = cli("calibrate", "--decisions", labels(tmp_path, 40))
    assert done.code == 0 and "19 labels are missing" in done.err and "95 % certainty" not in done.err
    done = cli("calibrate", "--decisions", labels(tmp_path, 100, wrong=50))
    assert "none stays" in done.err
    body = json.loads(cli("calibrate", "--json", "--decisions", labels(tmp_path, 100, wrong=50)).out)
    assert body["types"]["yes_no"]["missing"] == 0
    big = ScriptedEngine(model_id="big", judge=lambda inquiry, question: (0.5, 0.5))
    with Controller(weak=measured_model, strong=big) as controller:
        (given,) = controller.decide("s", [YesNo(None, "Is it?")]).given
    assert (given.model, str(given.decision.reason)) == ("big", "confidence")
    gone = cli("calibrate", "--decisions", str(tmp_path / "none.jsonl"))
    assert gone.code == 1 and gone.err.endswith("is told by: edge-router calibrate --help\n"), gone.err
    alone = cli("calibrate", "--max-error", "0.1")
    assert alone.code == 2 and "--decisions FILE" in alone.err


def test_replay_of_what_was_never_measured_says_what_to_do(cli: Any, measured_model: ScriptedEngine) -> None:
    done = cli("replay", "--decisions")
    assert done.code == 2 and "calibrate --decisions FILE" in done.err and "models list" not in done.err


def test_what_lies_in_a_local_server_is_measured_and_replayed(
    cli: Any, measured_model: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(config: Config, paths: object) -> str:
        raise UnknownModel(config.weak.model, ())

    monkeypatch.setattr("edge_router.cli.chat.building.weights_key", unknown)
    served = ("-o", "weak.engine=remote", "-o", "weak.model=small")
    assert cli("calibrate", "--decisions", labels(tmp_path, 100), *served).code == 0
    done = cli("replay", "--decisions", *served)
    assert done.code == 0 and "yes or no" in done.out, done.err


def test_doctor_tells_how_sure_is_sure_enough(
    cli: Any, measured_model: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**settings: object) -> str:
        given = Config().replace(**{name.replace("__", "."): value for name, value in settings.items()})
        found = typed_questions.check(Session(typer.Context(typer.main.get_command(decide_app))), given)
        return "\n".join(f"{each.state} {each.text}" for each in found)

    assert "all answers stay" in told() and "there is no strong model" in told()
    assert cli("calibrate", "--decisions", labels(tmp_path, 100)).code == 0
    assert "yes or no from 0.00 (of these at most 5.0% wrong)" in told(strong__model="big")
    monkeypatch.delenv("ASKED_KEY", raising=False)
    url = "http://user:secret@127.0.0.1:9/v1"
    text = told(questions__base_url=url, questions__model="jev", questions__api_key_env="ASKED_KEY")
    assert "to jev at http://127.0.0.1:9/v1 (decisions)" in text and "secret" not in text
    assert "note ASKED_KEY is not set" in text
    near = told(questions__base_url=url, questions__model="jev", questions__local=True)
    assert "(decisions), which gets private ones, too: it is on this machine" in near
    far = told(questions__base_url="http://192.0.2.1/v1", questions__model="jev", questions__local=True)
    assert "bad nowhere" in far and "edge-router config set questions.local=false" in far
