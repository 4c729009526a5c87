import threading

import pytest

from edge_router.chat.events import Finished, TextDelta, ToolCallStart, Usage
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Decides, answered
from edge_router.engines.scripted import ScriptedEngine, Verdict
from edge_router.errors import Cancelled, ContextOverflow, EngineUnavailable, StrongUnreachable
from edge_router.questions.inquiry import Answered, Declined, Inquiry, StateCut
from edge_router.questions.question import Choice, Option, Question, YesNo
from edge_router.types import Cancel


def ask(text="two words", **fields):
    return ChatRequest((Message("user", text),), **fields)


def run(engine, request=None, cancel=None):
    return list(answered(engine, request or ask(), cancel or threading.Event()))


def text_of(deltas):
    return collect(deltas).text


def test_a_text_is_streamed_word_by_word_with_usage_at_the_end():
    deltas = run(ScriptedEngine("The answer\n is 42. "))
    assert [event.text for event in deltas[:-1]] == ["The", " answer", "\n is", " 42.", " "]
    assert deltas[-1] == Finished("stop", usage=Usage(2, 4))


def test_max_tokens_cuts_a_text():
    deltas = run(ScriptedEngine("one two three"), ask(max_tokens=2))
    assert text_of(deltas) == "one two"
    assert deltas[-1] == Finished("length", usage=Usage(2, 2))


def test_a_stop_string_cuts_a_text():
    deltas = run(ScriptedEngine("one two three"), ask(stop=("four", "o t")))
    assert text_of(deltas) == "one tw"
    assert deltas[-1] == Finished("stop", Usage(2, 2), stop_sequence="o t")


def test_replies_are_given_in_order_then_the_default_for_ever():
    engine = ScriptedEngine("a", "b", default="c")
    assert [text_of(run(engine)) for _ in range(4)] == ["a", "b", "c", "c"]
    engine.queue("d")
    assert text_of(run(engine)) == "d"
    assert text_of(run(ScriptedEngine(), ask("hi"))) == "You said: hi"


def test_calls_are_remembered_even_where_they_fail():
    engine = ScriptedEngine(StrongUnreachable("http://example", "no route"), "fine")
    first, second = ask("first"), ask("second")
    with pytest.raises(StrongUnreachable):
        run(engine, first)
    run(engine, second)
    assert engine.calls == [first, second]


def test_an_error_can_come_in_the_middle():
    deltas = answered(ScriptedEngine(["one ", StrongUnreachable("", "gone")]), ask(), threading.Event())
    assert next(deltas).text == "one "
    with pytest.raises(StrongUnreachable):
        next(deltas)


def test_a_reply_can_be_made_from_the_request():
    engine = ScriptedEngine(lambda request: lambda again: [request.messages[0].text, TextDelta(again.target)])
    assert text_of(run(engine, ask("x", target="weak"))) == "xweak"


def test_an_end_of_ones_own_ends_the_answer_and_nothing_follows():
    call = ToolCallStart(0, "c1", "look")
    events = run(ScriptedEngine([call, Finished("tool_calls"), "never said"]))
    assert events == [call, Finished("tool_calls", Usage(2, 0))]


def test_a_prompt_beyond_the_context_is_refused():
    engine = ScriptedEngine(context_window_size=3)
    run(engine, ask("1 2"))
    with pytest.raises(ContextOverflow) as caught:
        run(engine, ask("1 2 3"))
    assert (caught.value.prompt_tokens, caught.value.context_window_size) == (3, 3)


@pytest.mark.parametrize("step", [3600.0, threading.Event()], ids=["delay", "gate"])
def test_cancel_and_close_end_a_wait(step):
    for end in ("cancel", "close"):
        engine, cancel = ScriptedEngine(["first", step, "never"]), threading.Event()
        deltas = answered(engine, ask(), cancel)
        next(deltas)
        threading.Timer(0.05, cancel.set if end == "cancel" else engine.close).start()
        with pytest.raises(Cancelled):
            next(deltas)


def test_a_gate_holds_until_it_is_opened_and_a_delay_passes():
    gate = threading.Event()
    deltas = answered(ScriptedEngine([0.01, "a", gate, "b"]), ask(), threading.Event())
    assert next(deltas).text == "a"
    threading.Timer(0.05, gate.set).start()
    assert next(deltas).text == "b"


def test_cancelled_before_it_began():
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        run(ScriptedEngine("text"), cancel=cancel)


def test_closed():
    engine = ScriptedEngine()
    engine.close()
    engine.close()
    assert engine.closed
    with pytest.raises(EngineUnavailable):
        run(engine)


def test_each_thread_gets_its_own_reply():
    engine = ScriptedEngine(*[str(n) for n in range(50)])
    said, threads = [], []
    for _ in range(50):
        threads.append(threading.Thread(target=lambda: said.append(text_of(run(engine)))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert sorted(said, key=int) == [str(n) for n in range(50)]
    assert len(engine.calls) == 50


def test_it_answers_typed_questions() -> None:
    def judge(inquiry: Inquiry, question: Question) -> Verdict:
        return None if question.name == "no" else (0.25, 0.75)

    engine = ScriptedEngine(judge=judge, context_window_size=3)
    assert engine.capabilities.decides and isinstance(engine, Decides)
    inquiry = Inquiry("two words", [YesNo("no"), YesNo("yes", "Is it?")])
    assert list(engine.decide(inquiry, Cancel())) == [
        Declined(0),
        Answered(1, (0.25, 0.75)),
        Finished("stop", Usage(4, 0)),
    ]
    assert engine.inquiries == [inquiry]
    with pytest.raises(ContextOverflow):
        list(engine.decide(Inquiry("far too many words", [YesNo()]), Cancel()))
    cut = list(engine.decide(Inquiry("far too many words", [YesNo("yes")], "middle"), Cancel()))
    assert cut[0] == StateCut(1)
    assert not ScriptedEngine(judge=None).capabilities.decides


def test_what_it_thinks_of_a_question_depends_on_what_is_said_only() -> None:
    asked = Choice("a", "Which?", (Option("x"), Option("y"), Option("z")))
    first, again, other = (
        next(iter(ScriptedEngine().decide(Inquiry(state, [asked]), Cancel()))) for state in ("s", "s", "t")
    )
    assert first == again != other
    assert isinstance(first, Answered) and sum(first.probabilities) == pytest.approx(1)
