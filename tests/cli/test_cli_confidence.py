"""`calibrate --confidence`, with a weak model that knows about half of the answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from edge_router.api.client import Controller
from edge_router.chat.events import HiddenState, TextDelta, TokenLogprob
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.engines.scripted import ScriptedEngine
from edge_router.routing.confidence import gate_store
from edge_router.routing.confidence.gate import Gate, LogisticRegression
from edge_router.routing.confidence.known_questions import questions
from edge_router.routing.routers.scripted import ScriptedRouter

KEY = "c" * 32
SCRIPTED = ("-o", "weak.engine=scripted", "-o", "router.name=length")
KNOWN = {question.text: question.answer for question in questions(400)}


def half(request):
    """Right, sure of it and showing it in its state, or wrong and unsure, by a hash of the question."""
    text = request.messages[-1].text
    right = hashlib.blake2b(text.encode(), digest_size=1).digest()[0] % 2
    said = TokenLogprob("x", -0.1 if right else -1.5, b"x")
    return [
        HiddenState((float(right), 1.0, 0.5)),
        TextDelta(KNOWN.get(text, "yes") if right else "?", (said,)),
    ]


@pytest.fixture
def weak(monkeypatch):
    engine = ScriptedEngine(model_id="small", default=half)
    engine.capabilities = replace(engine.capabilities, weights=KEY, vocab_size=3)
    engine.close = lambda: None
    monkeypatch.setattr("edge_router.control.pool.load_weak", lambda *given: engine)
    return engine


def calibrate(cli, *more):
    return cli("calibrate", "--confidence", "--strong-share", "0.5", *SCRIPTED, *more)


def test_the_table_the_bound_and_the_gate(cli, weak, paths):
    done = calibrate(cli, "--questions", "120", "--tokens", "4")
    assert done.code == 0, done.err
    rows = {line.split("  ")[0]: line for line in done.out.splitlines()}
    assert list(rows)[1:5] == ["random", "length", "score", "score + said"]
    assert "1.000" in rows["said + probe"] and "weak.min_confidence=0." in done.err
    assert "of 120 answers right" in done.err and "120 prompts are few" in done.err
    gate = gate_store.find(paths, KEY)
    assert gate is not None and (gate.tokens, gate.anchors) == (4, (0, 1, 2))
    assert gate.chance((1.0, 1.0, 0.5), (-0.1,)) > 0.9 > 0.1 > gate.chance((0.0, 1.0, 0.5), (-1.5,))
    asked = len(weak.calls)
    report = json.loads(calibrate(cli, "--questions", "120", "--json").out)
    assert len(weak.calls) == asked and report["tokens"] == 8 and report["n"] == 120
    assert 0.4 < report["right"] < 0.6 and report["signals"]["probe"]["auroc"] == 1.0
    assert cli("artifacts", "list").out.count("confidence") == 1


def test_own_questions(cli, weak, paths, tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": f"is it {n}?", "truth": "yes"}) for n in range(150)))
    done = calibrate(cli, "--prompts", str(file), "--answers", "truth", "--tokens", "0")
    assert done.code == 0 and len(weak.calls) == 150 and "said" not in done.out, done.err
    assert len(weak.calls[0].messages) == 1 and gate_store.find(paths, KEY).tokens == 0


def test_ctrl_c_loses_nothing(cli, weak, paths):
    def stops(request):
        if len(weak.calls) == 50:
            raise KeyboardInterrupt
        return half(request)

    weak._default = stops
    done = calibrate(cli, "--questions", "120")
    assert done.code == 130 and "the same command goes on" in done.err
    weak._default = half
    assert calibrate(cli, "--questions", "120").code == 0 and len(weak.calls) == 50 + 120 - 49


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--ledger",), "the ledger has no known answers"),
        (("--tokens", "17"), "--tokens can be 16 at most"),
        (("--questions", "3"), "--questions"),
    ],
)
def test_what_does_not_go_together(cli, weak, more, said):
    done = calibrate(cli, *more)
    assert done.code == 2 and said in done.err


def test_a_model_that_was_not_built_here_cannot_be_calibrated(cli, weak):
    weak.capabilities = replace(weak.capabilities, weights=None)
    done = calibrate(cli)
    assert done.code == 1 and "only a weak model that was built here" in done.err


def test_the_weak_model_as_a_router_is_evaluated_on_a_sample(cli, weak, tmp_path):
    file = tmp_path / "labels.csv"
    rows = [f"question {n},{n % 2},1,{'one' if n < 30 else 'two'}" for n in range(40)]
    file.write_text("\n".join(["prompt,weak_score,strong_score,benchmark", *rows]))
    arguments = ("evaluate", str(file), "--router", "causal_llm", *SCRIPTED, "--json")
    report = json.loads(cli(*arguments, "--sample", "20").out)
    assert [report[group]["causal_llm"]["n"] for group in ("one", "two")] == [20, 10]
    assert 0 < report["one"]["causal_llm"]["apgr"] < 1
    table = cli("bench", "router", "--router", "causal_llm", *SCRIPTED)
    assert table.code == 0 and table.out.startswith("causal_llm on none")


def test_without_a_weak_model_its_judgement_is_an_error_that_says_what_to_do(cli, tmp_path):
    done = cli("route", "hello", "--model", "router-causal_llm-0.5", "-o", "weak.build=false")
    assert done.code == 1 and "edge-router compile" in done.err


def test_chat_tells_that_the_weak_model_was_unsure_and_no_more(cli, monkeypatch):
    def controller(config, paths, progress):
        weak = ScriptedEngine(default=half, model_id="small", serves=())
        gate = Gate(
            1,
            (),
            LogisticRegression((), 0.0),
            LogisticRegression((9.0, 0.0), 5.0),
            LogisticRegression((0.0, 0.0, 0.0), 0.0),
        )
        strong, router = ScriptedEngine("Surely.", model_id="big"), ScriptedRouter(0.1)
        return Controller(config, weak=weak, strong=strong, router=router, gate=gate, paths=paths)

    monkeypatch.setattr("edge_router.cli.session.make_controller", controller)
    monkeypatch.setattr("edge_router.cli.chat.building.is_ready", lambda config, paths: True)
    unsure = next(text for text in KNOWN if not half(request(text))[1].text.isalnum())
    done = cli("chat", unsure, "-o", "weak.min_confidence=0.5")
    assert (done.code, done.out) == (0, "Surely.\n")
    assert "big (strong): the weak model was unsure" in done.err and "could not answer" not in done.err


def request(text):
    return ChatRequest((Message("user", text),))
