"""Typed questions on a model here: what is read, how often, and that nothing else changes an answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from edge_router.chat.events import Finished
from edge_router.chat.message import Image, Message
from edge_router.chat.request import ChatRequest, ReasoningOptions
from edge_router.engines.base import answered
from edge_router.engines.local.deciding import _apart
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.prompt import Prompter
from edge_router.errors import Cancelled, ContextOverflow, InvalidRequest, UnsupportedRequest
from edge_router.prompts.answer_format import AnswerFormat, ThoughtMarks
from edge_router.prompts.decisions import asked as decided
from edge_router.prompts.decisions import by_codes, by_labels, codes
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer
from edge_router.questions.inquiry import Answered, Inquiry, StateCut
from edge_router.questions.question import Choice, Level, Option, Question, Scale, YesNo

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STATE = "The soup in Lisbon was salty, the bread was fresh and the waiter very slow."
QUESTIONS: Sequence[Question] = (
    YesNo("food", "Is this about food?"),
    Choice("city", "Which city?", ["Oslo", "Lisbon", "Lisbon or Porto", "Rome"]),
    Scale("taste", "How was it?", [Level("bad", "nobody eats it"), Level("good")]),
    YesNo("rain", yes="it rains", no="it is dry"),
)


def asked(engine: LocalEngine, state: str, questions: Sequence[Question], **more) -> list[tuple[float, ...]]:
    return [event.probabilities for event in sorted_answers(engine, Inquiry(state, questions, **more))]


def sorted_answers(engine: LocalEngine, inquiry: Inquiry) -> list[Answered]:
    events = list(engine.decide(inquiry, threading.Event()))
    assert isinstance(events[-1], Finished)
    found = [event for event in events if isinstance(event, Answered)]
    assert sorted(event.index for event in found) == list(range(len(inquiry.questions)))
    return sorted(found, key=lambda event: event.index)


def by_hand(runner, tokenizer: TextTokenizer, state: str | None, text: str, replies: Sequence[str]):
    """Log probabilities of whole replies, of one prompt after the other and without any cache."""
    said = text if state is None else f"{state}\n\n{text}"
    prompt = tokenizer.encode(f"<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\nAnswer:")
    found = []
    for reply in replies:
        tokens, total = list(prompt), 0.0
        for token in tokenizer.continued(f" {reply}"):
            row = runner.logits(tokens).astype(np.float64)
            total += row[token] - np.log(np.exp(row).sum())
            tokens.append(token)
        found.append(total)
    return np.array(found)


def test_an_answer_is_how_likely_each_label_is_beside_the_same_question_without_the_state(
    make_engine, tokenizer
):
    engine, runner = make_engine()
    question = Choice("city", "Which city?", ["Oslo", "Porto", "Rome"])
    (found,) = asked(engine, STATE, [question])
    with_state, without = (
        by_hand(runner, tokenizer, state, "Which city?", ["Oslo", "Porto", "Rome"]) for state in (STATE, None)
    )
    weights = np.exp((with_state - without) / engine.decider.manner.temperatures[Choice])
    assert found == pytest.approx(weights / weights.sum(), abs=1e-9)
    assert math.fsum(found) == pytest.approx(1, abs=1e-12)


def test_neither_other_questions_nor_what_is_known_nor_how_many_are_read_at_once_change_an_answer(
    make_engine, batching_runner
):
    together = asked(make_engine()[0], STATE, QUESTIONS)
    for probabilities in together:
        assert min(probabilities) >= 0 and math.fsum(probabilities) == pytest.approx(1, abs=1e-12)
    for kind, options in (
        (None, {}),
        (batching_runner, {"chunk": 128}),
        (None, {"sequences": 3, "chunk": 16}),
    ):
        engine, _ = make_engine(kind=kind, **options)
        for number, question in enumerate(QUESTIONS):
            assert asked(engine, STATE, [question]) == [together[number]], (kind, options, number)
        assert asked(engine, STATE, QUESTIONS) == together, (kind, options, "known")
        assert asked(engine, STATE, QUESTIONS[::-1]) == together[::-1], (kind, options, "in another order")


def test_the_state_is_read_once_and_each_question_costs_its_own_tokens(make_engine, tokenizer):
    engine, runner = make_engine(pages=64)
    asked(engine, "Something else.", QUESTIONS)  # so that all is known that has nothing to do with the state
    labels = [[tuple(tokenizer.continued(f" {text}")) for text in by_labels(q).replies] for q in QUESTIONS]
    beginnings = sum(
        len(beginning)
        for replies in labels
        for beginning in {reply[:count] for reply in replies for count in range(1, len(reply))}
    )
    for known in (False, True):
        before = len(runner.calls)
        *_, last = engine.decide(Inquiry(STATE, QUESTIONS), threading.Event())
        read = sum(len(call[1]) for name, call in runner.calls[before:] if name == "prefill")
        assert read == last.usage.prompt_tokens - last.usage.cached_tokens + beginnings
        assert last.usage.completion_tokens == 0
        assert (last.usage.cached_tokens >= len(tokenizer.encode(STATE))) == known
    assert len(runner.sequences) <= 3, "forks are gone"


def test_sixty_four_questions_take_no_more_than_what_is_free(make_engine, batching_runner):
    questions = [YesNo(str(number), f"Is it number {number}?") for number in range(64)]
    for kind in (None, batching_runner):
        engine, runner = make_engine(
            kind=kind, context=256, chunk=64, pages=16
        )  # which raises beyond its pages
        first = asked(engine, STATE, questions)
        roomy, _ = make_engine(kind=kind, context=256, chunk=64, pages=999)
        assert first == asked(roomy, STATE, questions)
        assert runner.free_tokens >= 0


def test_a_state_that_is_too_long_is_refused_or_loses_its_middle(make_engine):
    engine, _ = make_engine()
    state = "first " + "word " * 400 + "last"
    with pytest.raises(ContextOverflow):
        asked(engine, state, QUESTIONS)
    cut, *answers, last = engine.decide(Inquiry(state, QUESTIONS, "middle"), threading.Event())
    assert isinstance(cut, StateCut) and cut.tokens > 50 and len(answers) == len(QUESTIONS)
    assert last.usage.prompt_tokens > 100
    with pytest.raises(ContextOverflow):  # no state is short enough for that
        asked(engine, state, [YesNo(None, "word " * 400)], truncation="middle")


def test_cancelling_is_heard_between_two_steps(make_engine):
    engine, _ = make_engine(pages=64)
    cancel = threading.Event()
    questions = [YesNo(str(number), f"Is it number {number}?") for number in range(40)]
    stream = engine.decide(Inquiry(STATE, questions), cancel)
    assert isinstance(next(stream), Answered)
    cancel.set()
    with pytest.raises(Cancelled):
        list(stream)
    assert asked(engine, STATE, QUESTIONS) == asked(make_engine()[0], STATE, QUESTIONS)


def test_an_answer_in_words_goes_on_meanwhile(make_engine, ask, own_words):
    engine, runner = make_engine(sequences=2, context=256)
    request = ask("Tell me something.", max_tokens=60, temperature=0)
    stream = answered(engine, request, threading.Event())
    text = next(stream).text
    assert asked(engine, STATE, QUESTIONS) == asked(make_engine()[0], STATE, QUESTIONS)
    text += "".join(event.text for event in stream if not isinstance(event, Finished))
    assert text == own_words(runner, request, 60)


def test_a_thought_that_the_template_opens_is_closed_first(tokenizer):
    marks = AnswerFormat(thoughts=ThoughtMarks("<think>", "</think>"))
    for opening, behind in (
        ("<think>\n", "<think>\n\n</think>\n\nAnswer:"),
        ("{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}", None),
    ):
        template = ChatTemplate(CHATML.replace("assistant\n", f"assistant\n{opening}"), model="fake-1")
        prompts = Prompter("fake-1", tokenizer, template, marks)
        request = ChatRequest(
            decided((), "HERE"), reasoning=ReasoningOptions(enabled=False), continue_final=True
        )
        assert prompts.around(request, "HERE")[1].endswith(behind or "assistant\n<think></think>Answer:")


def test_pictures_are_refused(make_engine):
    engine, _ = make_engine()
    state = (Message("user", (Image("data:image/png;base64,AAAA"),)),)
    with pytest.raises(UnsupportedRequest):
        list(engine.decide(Inquiry(state, QUESTIONS), threading.Event()))
    assert engine.capabilities.decides


def test_what_labels_cannot_tell_apart_codes_do(make_engine, tokenizer):
    question = Choice(None, "Is it?", [Option("true", "the word"), Option(True, "the truth")])
    engine, runner = make_engine()
    one, other = asked(engine, STATE, [question])[0]
    if codes(tokenizer, 2) is None:
        assert one == other
        return
    found = []
    for first in (0, 1):
        wording = by_codes(question, codes(tokenizer, 2), first)
        with_state, without = (
            by_hand(runner, tokenizer, state, wording.text, wording.replies) for state in (STATE, None)
        )
        weights = np.exp((with_state - without) / engine.decider.manner.temperatures[Choice])
        found.append(weights / weights.sum())
    assert (one, other) == pytest.approx(sum(found) / 2, abs=1e-9)


def test_how_questions_are_worded():
    assert by_labels(QUESTIONS[0]).text == "Is this about food? Answer yes or no."
    assert by_labels(QUESTIONS[0]).replies == ("no", "yes")
    assert by_labels(QUESTIONS[1]).text == "Which city?"
    assert by_labels(QUESTIONS[2]).text == "bad: nobody eats it\ngood\n\nHow was it?"
    assert by_labels(QUESTIONS[3]).text == "Yes: it rains\nNo: it is dry\n\nAnswer yes or no."
    assert by_labels(Choice(None, "", ["a", "b"])).text == "Which fits best: a, b?"
    wording = by_codes(QUESTIONS[1], "ABCD", 1)
    assert wording.replies == ("D", "A", "B", "C")
    assert wording.text.splitlines()[1:3] == ["A. Lisbon", "B. Lisbon or Porto"]


def test_a_label_that_begins_longer_ones_has_what_they_leave():
    good, enough, now, well = (1,), (1, 2), (1, 2, 3), (1, 4)
    logprobs = [math.log(each) for each in (0.5, 0.3, 0.1, 0.05)]
    found = [math.exp(each) for each in _apart((good, enough, now, well), logprobs)]
    assert found == pytest.approx([0.5 - 0.3 - 0.05, 0.3 - 0.1, 0.1, 0.05])
    assert math.exp(_apart((good, enough, enough), [*logprobs[:2], logprobs[1]])[0]) == pytest.approx(0.2)
    assert math.isfinite(_apart((good, enough), [logprobs[0], logprobs[0]])[0])


def test_no_questions_are_refused(make_engine):
    with pytest.raises(InvalidRequest, match="questions"):
        list(make_engine()[0].decide(Inquiry(STATE, []), threading.Event()))
