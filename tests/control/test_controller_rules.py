"""The user's own rules, asked before any score: where a query goes, what is told and what is written down."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from edge_router.api.client import Controller
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.config.sections import GuardConfig
from edge_router.config.settings import Config
from edge_router.control.egress import Egress
from edge_router.control.reasons import why
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import Blocked, GenerationFailed, InvalidRules, StrongUnreachable, Withheld
from edge_router.guard.detectors import MachineIdentity
from edge_router.guard.inspection import Guard
from edge_router.ledger import Ledger
from edge_router.routing.routers.scripted import ScriptedRouter
from edge_router.routing.rules.file import parse_rules
from edge_router.system.paths import Paths
from edge_router.types import Reason

EASY, HARD = 0.1, 0.9
RULES = """
[[rule]]
name = "proofs"
words = "prove"
then = "strong"
[[rule]]
name = "chat"
words = ["hi", "hello"]
then = "weak"
[[rule]]
name = "careful"
words = "perhaps"
then = "router-scripted-0.95"
[[rule]]
name = "customers"
words = "acme"
then = "local_only"
[[rule]]
name = "project"
pattern = '(?i)blue ?bird'
then = "redact"
[[rule]]
name = "visitors"
program = "visitor"
then = "redact"
[[rule]]
name = "bombs"
words = "bomb"
message = "Ask the desk."
then = "block"
"""


def weak(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="small", serves=())


def strong(*replies: Reply) -> ScriptedEngine:
    return ScriptedEngine(*replies, model_id="big")


@pytest.fixture
def rules(paths: Paths) -> Path:
    paths.rules.write_text(RULES)
    return paths.rules


def test_rules_decide_before_the_score(rules: Path, paths: Paths) -> None:
    for text, score, model, reason, rule, scored in (
        ("Prove it.", EASY, "strong", Reason.RULE, "proofs", False),
        ("hi", HARD, "weak", Reason.RULE, "chat", False),
        ("perhaps", HARD, "weak", Reason.SCORE, "careful", True),
        ("Why?", HARD, "strong", Reason.SCORE, None, True),
        ("Acme's bill", HARD, "weak", Reason.RULE, "customers", True),
        ("Prove it to Acme.", EASY, "weak", Reason.RULE, "customers", False),
    ):
        with Controller(weak=weak(), strong=strong(), router=ScriptedRouter(score)) as controller:
            decision = controller.chat.completions.create(messages=text).decision
            assert controller.route(text) == decision, text
        assert (decision.model, decision.reason, decision.rule) == (model, reason, rule), text
        assert (decision.score is not None) is scored, text
        record = Ledger(paths.ledger).recent(1)[0]
        assert (record.decision.rule, record.decision.reason) == (rule, reason), text
    assert why(decision) == "a rule of yours says so (rule 'customers')"
    assert decision.to_dict()["rule"] == "customers"


def test_a_model_by_name_is_the_callers_and_protection_is_not(rules: Path, paths: Paths) -> None:
    big = strong()
    with Controller(weak=weak(), strong=big, router=ScriptedRouter(HARD)) as controller:
        create = controller.chat.completions.create
        assert create(messages="hi", model="strong").decision.reason is Reason.FORCED
        assert create(messages="hi", model="router-scripted-0.1").decision.rule == "chat"
        with pytest.raises(Withheld, match="the rule 'customers' says so"):
            create(messages="Acme", model="strong")
        for model in ("auto", "weak", "strong"):
            with pytest.raises(Blocked, match=r"'bombs' lets nobody answer this: Ask the desk\."):
                create(messages="How is a bomb made?", model=model)
    assert [call.messages[0].text for call in big.calls] == ["hi"]
    blocked, *_, withheld = Ledger(paths.ledger).recent(4)
    assert (blocked.error, blocked.decision.rule) == ("Blocked", "bombs")
    assert (withheld.error, withheld.decision.rule) == ("Withheld", "customers")


def test_another_model_steps_in_as_ever_but_not_past_protection(rules: Path) -> None:
    fails = GenerationFailed("tvm", "boom")
    with Controller(weak=weak(fails), strong=strong("S"), router=ScriptedRouter(EASY)) as controller:
        assert controller.chat.completions.create(messages="hi").text == "S"
    unreachable = StrongUnreachable("http://example", "no route")
    with Controller(weak=weak("W"), strong=strong(unreachable), router=ScriptedRouter(EASY)) as controller:
        assert controller.chat.completions.create(messages="Prove it.").text == "W"
    big = strong()
    with Controller(weak=weak(fails), strong=big, router=ScriptedRouter(HARD)) as controller:
        with pytest.raises(GenerationFailed):
            controller.chat.completions.create(messages="hi from Acme")
    assert big.calls == []


def test_what_a_rule_hides_is_put_back(rules: Path) -> None:
    big = strong()
    with Controller(weak=weak(), strong=big, router=ScriptedRouter(HARD)) as controller:
        reply = controller.chat.completions.create(messages="Is Blue Bird late, and bluebird?")
    assert big.calls[0].messages[0].text == "Is [HIDDEN_1] late, and [HIDDEN_2]?"
    assert reply.text == "You said: Is Blue Bird late, and bluebird?"
    assert reply.decision.found == ("what the rule 'project' hides, 2 times",)


def test_what_a_rule_hides_may_be_written_in_any_letters() -> None:
    rules = parse_rules('[[rule]]\nwords = ["секрет", "café"]\nthen = "redact"\n', Path("rules.toml"))
    egress = Egress(Guard(GuardConfig()), lambda: rules)
    for text, hidden in (
        ("Это секрет.", "Это [HIDDEN_1]."),
        ("Се\u200bкрет", "[HIDDEN_1]"),
        ("Un café", "Un [HIDDEN_1]"),
    ):
        assert egress.released(ChatRequest((Message("user", text),)))[0].messages[0].text == hidden
    with pytest.raises(Withheld, match="what the rule '1' hides"):  # its accent is a letter of its own
        egress.released(ChatRequest((Message("user", "Un cafe\u0301"),)))


def test_a_rule_without_words_hides_all_that_the_guard_knows(rules: Path) -> None:
    egress = Egress(Guard(GuardConfig(), MachineIdentity("/home/ann", ())), lambda: parse_rules(RULES, rules))
    request = ChatRequest((Message("user", "ann@example.org"),), program="Visitor/1.0")
    assert egress.released(request)[0].messages[0].text == "[EMAIL_1]"
    with pytest.raises(Withheld):  # it makes nothing laxer
        egress.released(ChatRequest((Message("user", "4111 1111 1111 1111"),), program="Visitor/1.0"))


def test_hours_are_those_of_the_clock() -> None:
    rules = parse_rules('[[rule]]\nhours = "22:00-06:00"\nthen = "local_only"\n', Path("rules.toml"))
    request = ChatRequest((Message("user", "Hello."),))
    for hour, kept in ((23, True), (5, True), (6, False), (12, False)):
        egress = Egress(Guard(GuardConfig()), lambda: rules, lambda hour=hour: datetime(2026, 11, 30, hour))
        assert (egress.judge(request).local_only is not None) is kept, hour
        if kept:
            with pytest.raises(Withheld):  # at the door, too, whoever asks
                egress.released(request)


def test_a_file_that_cannot_be_followed_lets_nothing_begin(paths: Paths, tmp_path: Path) -> None:
    for text, said in (
        ("[[rule]]\nthen = 'week'\n", "there is no model named 'week'; nearest: weak, or block, local_only"),
        ("[[rule]]\nthen = 'router-scripted-7'\n", "must be between 0 and 1"),
        ("[[rule]]\n", "then is missing"),
    ):
        paths.rules.write_text(text)
        with pytest.raises(InvalidRules) as error:
            Controller(weak=weak(), strong=strong(), router=ScriptedRouter(HARD))
        assert said in str(error.value)
    with pytest.raises(InvalidRules, match="cannot be read"):
        Controller(Config().replace(**{"rules.file": str(tmp_path / "none.toml")}), weak=weak())
    other = tmp_path / "mine.toml"
    other.write_text("[[rule]]\nthen = 'small'\n")
    with Controller(Config().replace(**{"rules.file": str(other)}), weak=weak()) as controller:
        assert controller.route("Why?").reason is Reason.RULE
