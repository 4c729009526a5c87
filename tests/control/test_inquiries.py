"""Typed questions, with scripted models: who answers each of them, why, and what never leaves."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from table import each

from edge_router import AsyncController, Choice, Scale, YesNo
from edge_router.api.client import Controller
from edge_router.chat.events import Finished, RefusalDelta
from edge_router.chat.message import Image, Message
from edge_router.chat.request import ChatRequest, JsonOutput, TextOutput
from edge_router.config.settings import Config
from edge_router.engines.scripted import ScriptedEngine, Verdict
from edge_router.errors import (
    BudgetSpent,
    Cancelled,
    ContextOverflow,
    EdgeRouterError,
    GenerationFailed,
    InternalError,
    InvalidRequest,
    StrongFailed,
    StrongNotConfigured,
    StrongRefused,
    StrongUnreachable,
    UnsupportedRequest,
    WeightsUnavailable,
    Withheld,
)
from edge_router.ledger import Ledger
from edge_router.questions.answer import ChoiceAnswer, NoAnswer, ScaleAnswer, YesNoAnswer
from edge_router.questions.bounds import Bounds
from edge_router.questions.inquiry import Inquiry
from edge_router.questions.question import Question
from edge_router.system.paths import Paths
from edge_router.types import Reason

TEAM = Choice("team", "Which team?", ("billing", "technical", "sales"))
URGENT = YesNo("urgent", "Is it urgent?")
ANGER = Scale("anger", "How angry?", ("calm", "annoyed", "furious"))
ALL = (TEAM, URGENT, ANGER)
STATE = "My invoice is wrong."
SURE: dict[str | None, Verdict] = {
    "team": (0.9, 0.05, 0.05),
    "urgent": (0.45, 0.55),
    "anger": (0.8, 0.1, 0.1),
}
BOUNDS = Bounds(yes_no=0.5, choice=0.5, scale=0.5)


def judge(verdicts: dict[str | None, Verdict]) -> Callable[[Inquiry, Question], Verdict]:
    return lambda inquiry, question: verdicts[question.name]


def weak(verdicts: dict[str | None, Verdict] = SURE, **fields: Any) -> ScriptedEngine:
    return ScriptedEngine(model_id="small", serves=(), judge=judge(verdicts), **fields)


def strong(verdicts: dict[str | None, Verdict] | None = None) -> ScriptedEngine:
    return ScriptedEngine(model_id="big", judge=judge(verdicts or {"urgent": (0.02, 0.98)}))


def told(answers: Any) -> list[tuple[str | None, str, str]]:
    return [(each.name, each.model, str(each.decision.reason)) for each in answers.given]


def test_what_the_weak_model_says_is_typed() -> None:
    with Controller(weak=weak()) as controller:
        answers = controller.decide(STATE, ALL)
    team, urgent, anger = answers
    assert isinstance(team, ChoiceAnswer) and team.choice == "billing"
    assert isinstance(urgent, YesNoAnswer) and urgent.yes and urgent.probability == 0.55
    assert isinstance(anger, ScaleAnswer) and anger.score == pytest.approx(0.3)
    assert answers["anger"] is not None and answers["team"] == answers[0]
    assert told(answers) == [(each.name, "small", "uncalibrated") for each in ALL]
    assert answers.usage.prompt_tokens == 4 + 2 + 3 + 2
    assert answers.model == "small" and answers.decision.model == "weak"


def test_two_questions_stay_and_one_is_sent_on() -> None:
    small, big = weak(), strong()
    with Controller(weak=small, strong=big, bounds=BOUNDS) as controller:
        answers = controller.decide(STATE, ALL)
    assert told(answers) == [
        ("team", "small", "confidence"),
        ("urgent", "big", "confidence"),
        ("anger", "small", "confidence"),
    ]
    assert [each.questions for each in big.inquiries] == [(URGENT,)]
    assert isinstance(answers["urgent"], YesNoAnswer) and answers["urgent"].probability == 0.98
    sent = answers.given[1].decision
    assert (sent.model, sent.threshold) == ("strong", 0.5)
    assert sent.confidence == pytest.approx(0.1)  # the weak model's
    assert answers.decision.model == "strong" and answers.model == "big"
    assert answers.usage.prompt_tokens == (4 + 7) + (4 + 3)


def test_no_strong_model_is_a_reason_to_stay_too() -> None:
    with Controller(weak=weak(), bounds=BOUNDS) as controller:
        assert told(controller.decide(STATE, ALL))[1] == ("urgent", "small", "strong_unavailable")


def test_a_budget_that_is_spent_keeps_them_here() -> None:
    config = Config().replace(
        **{"strong.price_in": 1e6, "strong.price_out": 1e6, "strong.monthly_budget": 0.0001}
    )
    big = strong()
    with Controller(config, weak=weak(), strong=big, bounds=BOUNDS) as controller:
        assert told(controller.decide(STATE, ALL))[1] == ("urgent", "big", "confidence")  # which it pays
        assert told(controller.decide(STATE, ALL))[1] == ("urgent", "small", "budget")
    assert len(big.inquiries) == 1


@each(
    "bounds, reasons, row",
    [
        (Bounds(), ("uncalibrated", "uncalibrated", "uncalibrated"), "uncalibrated"),
        (Bounds(choice=0.5), ("confidence", "uncalibrated", "uncalibrated"), "confidence"),
    ],
)
def test_what_has_no_bound_stays_and_says_so(bounds: Bounds, reasons: Sequence[str], row: str) -> None:
    big, config = strong(), Config().replace(**{"ledger.enabled": True})
    with Controller(config, weak=weak(), strong=big, bounds=bounds) as controller:
        answers = controller.decide(STATE, ALL)
        (kept,) = [each for each in Ledger(Paths.default().ledger).records() if each.id == answers.record_id]
    assert [str(each.decision.reason) for each in answers.given] == [*reasons]
    assert str(kept.decision.reason) == row
    assert not big.inquiries and not big.calls


@each("model, expected", [("weak", "small"), ("strong", "big"), ("small", "small"), ("big", "big")])
def test_a_named_model_answers_all(model: str, expected: str) -> None:
    big = strong({"team": (1, 0, 0), "urgent": (0, 1), "anger": (1, 0, 0)})
    with Controller(weak=weak(), strong=big, bounds=BOUNDS) as controller:
        answers = controller.decide(STATE, ALL, model=model)
    assert told(answers) == [(each.name, expected, "forced") for each in ALL]


@each(
    "settings, private, reason",
    [({"offline": True}, False, "offline"), ({}, True, "private")],
)
def test_what_must_not_leave_stays_and_says_why(
    settings: dict[str, object], private: bool, reason: str
) -> None:
    big = strong()
    with Controller(Config(), weak=weak(), strong=big, bounds=BOUNDS, **settings) as controller:
        answers = controller.decide(STATE, ALL, private=private)
        assert told(answers) == [
            ("team", "small", "confidence"),
            ("urgent", "small", reason),
            ("anger", "small", "confidence"),
        ]
        assert not answers.decision.would_escalate  # `upgrade` asks for words
        with pytest.raises(InvalidRequest):
            controller.decide(STATE, ALL, private=True, model="strong")
    assert not big.inquiries and not big.calls


KEY = "ghp_" + "A1b2C3d4E5" * 3 + "f6G7h8"


@each(
    "state, questions",
    [
        (f"My key is {KEY}", (URGENT,)),
        ({"key": KEY}, (URGENT,)),
        (STATE, (YesNo("urgent", f"Is {KEY} a key?"),)),
        (STATE, (YesNo("urgent", "Is it?", yes=KEY),)),
    ],
)
def test_a_key_keeps_all_questions_here(state: object, questions: Sequence[Question]) -> None:
    big = strong()
    with Controller(Config(), weak=weak(), strong=big, bounds=BOUNDS) as controller:
        answers = controller.decide(state, questions)
        assert told(answers) == [("urgent", "small", "guard")]
        assert answers.given[0].decision.found
        with pytest.raises(Withheld):
            controller.decide(state, questions, model="strong")
    assert not big.inquiries and not big.calls


def test_what_is_hidden_from_the_strong_model_is_hidden_in_options_too() -> None:
    big = ScriptedEngine(model_id="big", judge=lambda inquiry, question: (0.1, 0.9))
    pick = Choice("urgent", "Whose is it?", ("ann@example.com", "bob@example.com"))
    with Controller(
        Config(), weak=weak({"urgent": (0.5, 0.5)}), strong=big, bounds=BOUNDS, guard__emails="redact"
    ) as controller:
        answers = controller.decide("Write to bob@example.com.", [pick])
    assert isinstance(answers[0], ChoiceAnswer) and answers[0].choice == "bob@example.com"
    assert "example.com" not in str(big.inquiries)


@each(
    "error, reason",
    [
        (StrongUnreachable("http://example", "no route"), Reason.STRONG_UNAVAILABLE),
        (StrongFailed("big", 500, "no"), Reason.STRONG_UNAVAILABLE),
        (StrongRefused("big", 400, "state", "too long"), Reason.STRONG_UNAVAILABLE),
        (BudgetSpent(1), Reason.BUDGET),
    ],
)
def test_a_strong_model_that_fails_leaves_the_weak_ones_answer(
    error: EdgeRouterError, reason: Reason
) -> None:
    big = ScriptedEngine(model_id="big", before_verdicts=[error])
    with Controller(weak=weak(), strong=big, bounds=BOUNDS) as controller:
        answers = controller.decide(STATE, ALL)
    assert told(answers)[1] == ("urgent", "small", str(reason))
    assert answers.fallback_cause is error
    assert isinstance(answers["urgent"], YesNoAnswer) and answers["urgent"].probability == 0.55


def test_a_question_that_the_strong_model_declines_keeps_the_weak_ones_answer() -> None:
    big = ScriptedEngine([RefusalDelta("No."), Finished("stop")], model_id="big", judge=None)
    with Controller(weak=weak(), strong=big, bounds=BOUNDS) as controller:
        answers = controller.decide(STATE, ALL)
    assert told(answers)[1] == ("urgent", "small", "strong_unavailable") and len(big.calls) == 1
    assert isinstance(answers["urgent"], YesNoAnswer) and answers["urgent"].probability == 0.55


def test_a_weak_model_that_fails_is_replaced_for_all() -> None:
    def small() -> ScriptedEngine:
        return weak(before_verdicts=[WeightsUnavailable("m", "no network")])

    with Controller(weak=small(), strong=strong(SURE), bounds=BOUNDS) as controller:
        answers = controller.decide(STATE, ALL)
    assert told(answers) == [(each.name, "big", "weak_unavailable") for each in ALL]
    with Controller(weak=small()) as controller, pytest.raises(WeightsUnavailable):
        controller.decide(STATE, ALL)


def test_a_defect_sends_nothing_on() -> None:
    def broken(inquiry: Inquiry, question: Question) -> Verdict:
        raise ZeroDivisionError

    big = strong(SURE)
    with (
        Controller(weak=ScriptedEngine(judge=broken), strong=big, bounds=BOUNDS) as controller,
        pytest.raises(InternalError),
    ):
        controller.decide(STATE, ALL)
    assert not big.inquiries and not big.calls


@each("verdict", [(0.2, 0.3, 0.5), (1.0,)])
def test_an_answer_of_another_form_is_none(verdict: tuple[float, ...]) -> None:
    with Controller(weak=weak({"urgent": verdict})) as controller, pytest.raises(GenerationFailed):
        controller.decide(STATE, [URGENT])


def test_a_state_that_is_too_long_goes_on_or_is_cut_or_is_refused() -> None:
    long, small, big = "word " * 20, weak(context_window_size=10), strong(SURE)
    with Controller(weak=small, strong=big) as controller:
        assert told(controller.decide(long, ALL))[0] == ("team", "big", "context_overflow")
        cut = controller.decide(long, ALL, truncation="middle")
        assert (cut.cut, told(cut)[0][1]) == (10, "small")
    with Controller(weak=weak(context_window_size=10)) as controller:
        with pytest.raises(ContextOverflow) as refused:
            controller.decide(long, ALL)
    assert refused.value.param == "state"


def test_images_go_where_they_are_read() -> None:
    state = [Message("user", [Image("data:image/png;base64,AAAA")])]
    with Controller(weak=weak(), strong=strong(SURE)) as controller:
        assert told(controller.decide(state, ALL))[0] == ("team", "big", "needs_media")
    with Controller(weak=weak()) as controller, pytest.raises(UnsupportedRequest, match="reads text only"):
        controller.decide(state, ALL)


def test_a_weak_model_that_answers_no_questions_lets_the_strong_one() -> None:
    with Controller(weak=ScriptedEngine(judge=None, serves=()), strong=strong(SURE)) as controller:
        assert told(controller.decide(STATE, ALL))[0] == ("team", "big", "needs_tools")
    with Controller(weak=ScriptedEngine(judge=None, serves=())) as controller:
        with pytest.raises(UnsupportedRequest, match="answers no typed questions"):
            controller.decide(STATE, ALL)
        with pytest.raises(StrongNotConfigured):
            controller.decide(STATE, ALL, model="strong")


WRITTEN = {
    "q1": {"number": 2, "certainty": 0.8},
    "q2": {"probability": 0.25},
    "q3": {"number": 3, "certainty": 1},
}


def test_a_strong_model_that_only_writes_is_asked_in_words() -> None:
    big = ScriptedEngine(json.dumps(WRITTEN), model_id="big", judge=None)
    with Controller(weak=weak(), strong=big) as controller:
        team, urgent, anger = controller.decide(STATE, ALL, model="strong")
    assert isinstance(team, ChoiceAnswer) and team.choice == "technical"
    assert team.probabilities == pytest.approx((0.1, 0.8, 0.1))
    assert isinstance(urgent, YesNoAnswer) and urgent.probability == 0.25
    assert isinstance(anger, ScaleAnswer) and anger.score == 2
    (request,) = big.calls
    assert isinstance(request.output, JsonOutput)
    assert set(request.output.schema["required"]) == {"q1", "q2", "q3"}  # type: ignore[index,call-overload]
    for words in (STATE, "Which team?", "billing", "Is it urgent?", "furious"):
        assert any(words in message.text for message in request.messages), words


@each(
    "member",
    [
        None,
        {"number": 4, "certainty": 1},
        {"number": 0, "certainty": 1},
        {"number": "1", "certainty": 1},
        {"number": 1},
        {"number": 1, "certainty": 2},
        {"number": True, "certainty": 1},
        [],
    ],
)
def test_what_is_not_understood_in_what_it_writes_is_no_answer(member: object) -> None:
    big = ScriptedEngine(json.dumps({**WRITTEN, "q1": member}), model_id="big", judge=None)
    with Controller(weak=weak(), strong=big) as controller:
        answers = controller.decide(STATE, ALL, model="strong")
    assert isinstance(answers["team"], NoAnswer) and isinstance(answers["urgent"], YesNoAnswer)


@each("form", ["```json\n{}\n```", "Sure: {}.", "{}"])
def test_words_around_what_is_written_do_not_matter(form: str) -> None:
    written = {**WRITTEN, "q3": {"number": 3.0, "certainty": 1}}
    big = ScriptedEngine(form.replace("{}", json.dumps(written)), model_id="big", judge=None)
    with Controller(weak=weak(), strong=big) as controller:
        _, urgent, anger = controller.decide(STATE, ALL, model="strong")
    assert isinstance(urgent, YesNoAnswer) and urgent.probability == 0.25
    assert isinstance(anger, ScaleAnswer) and anger.score == 2


def test_an_endpoint_that_takes_no_form_is_asked_without_one() -> None:
    refused = StrongRefused("big", 400, "response_format", "unavailable now")
    big = ScriptedEngine(refused, json.dumps(WRITTEN), model_id="big", judge=None)
    with Controller(weak=weak(), strong=big) as controller:
        assert isinstance(controller.decide(STATE, ALL, model="strong")["team"], ChoiceAnswer)
    assert [type(call.output) for call in big.calls] == [JsonOutput, TextOutput]
    big = ScriptedEngine(StrongRefused("big", 400, "model", "none"), model_id="big", judge=None)
    with Controller(weak=weak(), strong=big) as controller, pytest.raises(StrongRefused):
        controller.decide(STATE, ALL, model="strong")


def test_what_is_no_json_at_all_is_a_failure_and_a_refusal_is_no_answer() -> None:
    big = ScriptedEngine("I think so.", [RefusalDelta("No."), Finished("stop")], model_id="big", judge=None)
    with Controller(weak=weak(), strong=big) as controller:
        with pytest.raises(GenerationFailed, match="not JSON"):
            controller.decide(STATE, ALL, model="strong")
        assert list(controller.decide(STATE, [URGENT], model="strong")) == [NoAnswer(URGENT, "No.")]


def test_the_ledger_has_a_row_for_each_model_that_was_asked() -> None:
    config = Config().replace(**{"ledger.enabled": True})
    with Controller(config, weak=weak(), strong=strong(), bounds=BOUNDS) as one:
        answers = one.decide(STATE, ALL)
        assert answers.record_id is not None
        rows = Ledger(Paths.default().ledger).records()
    assert sorted((row.model, row.decision.model, str(row.decision.reason)) for row in rows) == [
        ("big", "strong", "confidence"),
        ("small", "weak", "confidence"),
    ]


@each(
    "questions, field",
    [
        ([], "questions"),
        ([YesNo("a", "?")] * 401, "questions"),
        ([URGENT, URGENT], "questions[0].name"),
        ([YesNo("a", "  ")], "questions[0].instructions"),
        ([Choice("a", "?", ())], "questions[0].options"),
        ([Choice("a", "?", [str(n) for n in range(256)])], "questions[0].options"),
        ([Choice("a", "?", ["x", "y", "x"])], "questions[0].options[2].value"),
        ([Choice("a", "?", ["x", " "])], "questions[0].options[1].value"),
        ([Scale("a", "?", ["x"])], "questions[0].levels"),
        ([Scale("a", "?", [str(n) for n in range(11)])], "questions[0].levels"),
        ([Scale("a", "?", ["x", "x"])], "questions[0].levels[1].label"),
    ],
)
def test_what_is_no_question_is_refused_by_its_field(questions: list[Question], field: str) -> None:
    with Controller(weak=weak()) as controller, pytest.raises(InvalidRequest) as refused:
        controller.decide(STATE, questions)
    assert refused.value.param == field


def test_a_text_and_a_truth_may_look_alike() -> None:
    both = Choice("team", "?", ("true", True))
    with Controller(weak=weak({"team": (0.2, 0.8)})) as controller:
        (answer,) = controller.decide(STATE, {"team": both})
    assert isinstance(answer, ChoiceAnswer) and answer.choice is True


@each("state", [float("nan"), {"a": object()}, {"a": {1, 2}}])
def test_what_is_no_json_is_no_state(state: object) -> None:
    with Controller(weak=weak()) as controller, pytest.raises(InvalidRequest) as refused:
        controller.decide(state, ALL)
    assert refused.value.param == "state"


def test_it_ends_when_it_is_cancelled() -> None:
    never, cancel = threading.Event(), threading.Event()
    small = weak(before_verdicts=[never])
    with Controller(weak=small) as controller:
        timer = threading.Timer(0.02, cancel.set)
        timer.start()
        with pytest.raises(Cancelled):
            controller.decide(STATE, ALL, cancel=cancel)


def test_the_event_loop_does_not_wait_for_it() -> None:
    gate = threading.Event()
    small = weak(before_verdicts=[gate])

    async def work() -> None:
        async with AsyncController(weak=small) as controller:
            asked = asyncio.ensure_future(controller.decide(STATE, ALL))
            while not small.inquiries:
                await asyncio.sleep(0)
            gate.set()
            assert (await asked)["urgent"] is not None
            gate.clear()
            left = asyncio.ensure_future(controller.decide(STATE, ALL))
            while len(small.inquiries) < 2:
                await asyncio.sleep(0)
            left.cancel()
            with pytest.raises(asyncio.CancelledError):
                await left

    asyncio.run(work())


def test_rules_hold_for_questions_too(tmp_path: Any) -> None:
    file = tmp_path / "rules.toml"
    for word, then, model in (("invoice", "strong", "big"), ("urgent", "local_only", "small")):
        file.write_text(f'[[rule]]\nname = "mine"\nwords = ["{word}"]\nthen = "{then}"\n')
        with Controller(weak=weak(), strong=strong(SURE), bounds=BOUNDS, rules__file=str(file)) as controller:
            answers = controller.decide(STATE, ALL)
        assert {each.model for each in answers.given} == {model}, then
        assert answers.given[1].decision.rule == "mine", then


def test_requests_that_are_chats_know_nothing_of_it() -> None:
    with Controller(weak=weak(), strong=strong(), bounds=BOUNDS, router=None) as controller:
        request = ChatRequest((Message("user", "hi"),), target="weak")
        assert controller.start(request).decision.reason is Reason.FORCED
