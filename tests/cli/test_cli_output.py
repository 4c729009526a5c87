"""The two streams: what is kept out of a terminal, what survives a console, who hears a log."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from pathlib import Path

import pytest

from edge_router.chat.events import EngineTimings, Event, Finished, TextDelta, Usage
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.cli.chat import reasons
from edge_router.cli.options import Options
from edge_router.cli.terminal import logs, output
from edge_router.cli.terminal.failures import report
from edge_router.control.answer import Answer, Clock
from edge_router.errors import Cancelled, ContextOverflow, LowConfidence, StrongUnreachable
from edge_router.types import Decision, Reason


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_answer_does_not_steer_the_terminal(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    output.write("a\x1b]0;title\x07b\x9bm\tc\r\n")
    assert screen.getvalue() == "a]0;titlebm\tc\n"


def test_a_file_gets_every_character(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    output.write("a\x1bb")
    assert file.getvalue() == "a\x1bb"


def test_json_is_one_line_and_strict(capsys):
    output.write_json({"text": "é\n"})
    assert capsys.readouterr().out == '{"text": "é\\n"}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        output.write_json(float("nan"))


def test_lines_have_a_style_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for screen, styled in ((Screen(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(sys, "stdout", screen)
        output.say("one [x]", style="red")
        output.write_styled("two", "bold")
        output.say("three")
        text = screen.getvalue()
        assert ("\x1b[31mone [x]\x1b[0m" in text) == styled and ("\x1b[1mtwo" in text) == styled
        assert text.endswith("three\n")


def test_a_table_in_a_pipe_is_aligned_and_whole(capsys):
    output.table(("name", "n"), [("x" * 200, "1"), ("y", "22")], right=("n",))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["name".ljust(200) + "   n", "x" * 200 + "   1", "y".ljust(200) + "  22"]


def test_a_narrow_terminal_does_without_what_can_be_spared(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    columns, rows = (
        ("name", "a", "b", "c"),
        [("a-rather-long-name", "12345678", "12345678", "one, two, three")],
    )
    for width, shown in ((60, "name a b c"), (50, "name b c"), (40, "name c"), (30, "name c")):
        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("COLUMNS", str(width))
        output.table(columns, rows, spare=("a", "b"))
        text = re.sub(r"\x1b\[[\d;]*m", "", screen.getvalue())
        assert " ".join(text.splitlines()[0].split()) == shown and "a-rather-long-name" in text, width
        assert ("In a wider window: a" in text) == (width < 60), width


def test_a_console_that_lacks_characters_gets_question_marks(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), encoding="utf-8"))
    output.prepare()
    output.write("é\n")
    assert raw.getvalue() == b"?\n"
    assert sys.stdin.read() == "caf�"


def test_what_cannot_be_flushed_is_dropped(monkeypatch, tmp_path):
    class Broken(io.StringIO):
        dropped = False

        def flush(self) -> None:
            raise OSError

        def fileno(self) -> int:
            return descriptor

    descriptor = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    broken = Broken()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", broken)
        output.finish()
        assert os.fstat(descriptor).st_rdev == Path(os.devnull).stat().st_rdev
    os.close(descriptor)


def test_a_reader_that_went_away_is_told_nothing(capsys, monkeypatch):
    dropped = []
    monkeypatch.setattr(output, "drop", dropped.append)
    assert report(BrokenPipeError(), Options()) == 1 and dropped == [sys.stdout]
    assert report(Cancelled(), Options()) == 130
    assert capsys.readouterr().err == ""


def test_logs_are_heard_as_lines(capsys):
    def speak():
        logging.getLogger("somebody.else").warning("theirs")
        logging.getLogger("edge_router.ledger").info("a detail")
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("edge_router.server").exception("it broke")
        return capsys.readouterr().err

    logs.hear(debug=False)
    quiet = speak()
    assert "theirs" not in quiet and "a detail" not in quiet
    assert quiet.startswith("error: it broke\n") and "ValueError: why" in quiet
    logs.hear(debug=True)
    loud = speak()
    assert "warning: theirs" in loud and "info: a detail" in loud and loud.count("it broke") == 1
    logs.silence()
    assert not [h for h in logging.getLogger().handlers if type(h).__module__ == logs.__name__]


# ---- decisions in words ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.SCORE])
def test_every_reason_has_words(reason):
    assert reasons.why(Decision("weak", reason))


def test_what_keeps_a_conversation_in_words() -> None:
    held = Decision("weak", Reason.SESSION, 0.6, 0.5, held="prompt", held_tokens=1500)
    assert reasons.why(held) == (
        "the conversation stays with its model, for the other one would have to read 1,500 tokens again; "
        "score 0.600, threshold 0.500"
    )
    called = Decision("strong", Reason.SESSION, 0.1, 0.5, held="tool_call", held_tokens=9)
    assert reasons.why(called) == "it called the tool whose result came; score 0.100, threshold 0.500"


def test_scores_that_look_alike_are_told_apart():
    text = reasons.why(Decision("weak", Reason.SCORE, 0.11598, 0.11601))
    assert text == "score 0.115980 is below the threshold 0.116010"


def answer(*events: Event, **changes: object) -> Answer:
    given = {
        "request": ChatRequest((Message("user", "x"),)),
        "decision": Decision("strong", Reason.CONTEXT_OVERFLOW, 0.2, 0.5, "mf"),
        "model": "big",
        "cancel": None,
        "clock": Clock(),
        **changes,
    }
    found = Answer(iter(events), **given)
    list(found)
    return found


def test_details_and_credit():
    last = Finished("length", Usage(10, 1, 8), EngineTimings(0.5, 10, 0.1, 5))
    found = answer(TextDelta("x"), last, fallback_cause=ContextOverflow(120, 100))
    assert reasons.credit(found) == (
        "big (strong): the prompt does not fit the weak model; score 0.200, threshold 0.500 (messages: the "
        "prompt has 120 tokens, 21 more than the context of 100 leaves room for), 1 token, 50 tokens/s, cut "
        "off at the token limit"
    )
    rows = dict(reasons.details(found))
    assert rows["tokens"] == "10 in, 1 out, 8 of the prompt's kept from before"
    assert rows["prefill"] == "20.0 tokens/s" and rows["router"] == "mf"
    assert rows["fallback"].startswith("the weak model could not answer: the prompt has 120 tokens")


@pytest.mark.parametrize(
    ("count", "words"), [(1, "the oldest message was left out"), (4, "the oldest 4 messages were left out")]
)
def test_what_was_left_out_is_told(count, words):
    found = answer(TextDelta("x"), Finished("stop"), truncated=count)
    assert words in str(reasons.truncation(found)) and words in dict(reasons.details(found))["shortened"]
    assert reasons.truncation(answer(TextDelta("x"), Finished("stop"))) is None


def test_details_of_an_answer_of_which_the_weak_model_was_unsure():
    found = answer(
        TextDelta("x"),
        Finished("stop"),
        decision=Decision("strong", Reason.LOW_CONFIDENCE, 0.2, 0.5, "mf", 0.125),
        fallback_cause=LowConfidence(0.125, 0.5, 8),
        spent=Usage(37, 8),
    )
    rows = dict(reasons.details(found))
    assert rows["reason"] == "the weak model was unsure; score 0.200, threshold 0.500"
    assert rows["chance of being right"] == "0.12, put by the weak model"
    assert rows["by the weak model"] == "37 in, 8 out, not shown" and "fallback" not in rows


def test_details_of_an_answer_that_tells_little():
    found = answer(
        TextDelta("x"),
        Finished("stop"),
        decision=Decision("weak", Reason.STRONG_UNAVAILABLE),
        fallback_cause=StrongUnreachable("https://example.org", "refused"),
    )
    rows = dict(reasons.details(found))
    assert rows["router"] == "not asked" and "tokens" not in rows
    assert reasons.credit(found) == "big (weak): no strong model can be asked (https://example.org: refused)"
