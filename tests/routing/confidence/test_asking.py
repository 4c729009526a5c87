"""Asking questions: judged, kept without their text, and gone on with after an interruption."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_router.chat.events import HiddenState, TextDelta, TokenLogprob
from edge_router.chat.request import ChatRequest
from edge_router.engines.scripted import Reply, ScriptedEngine
from edge_router.errors import ContextOverflow, InvalidData
from edge_router.routing.confidence.asking import ANCHORS, TOKENS, ConfidenceTask, anchors, ask
from edge_router.routing.confidence.known_questions import questions

TASKS = [ConfidenceTask.of(question) for question in questions(6)]
KNOWN = {task.text: task.answer for task in TASKS}


def knowing(*, except_for: int = -1) -> ScriptedEngine:
    def reply(request: ChatRequest) -> Reply:
        text = request.messages[-1].text
        answer = "?" if except_for >= 0 and text == TASKS[except_for].text else KNOWN[text]
        said = TokenLogprob(answer, -0.25, answer.encode())
        return [HiddenState((1.00001, 2.0)), *[TextDelta(answer, (said,))], TextDelta(" ", (said,) * 30)]

    return ScriptedEngine(default=reply)


def test_answers_are_judged_and_what_was_shown_is_kept(tmp_path: Path) -> None:
    engine = knowing(except_for=2)
    asked, seen = ask(engine, TASKS, (3, 4), tmp_path / "a.jsonl")
    assert asked == TASKS and [one.right for one in seen] == [True, True, False, True, True, True]
    assert {one.state for one in seen} == {(1.0, 2.0)} and {len(one.logprobs) for one in seen} == {TOKENS}
    assert [one.kind for one in seen] == [task.kind for task in TASKS]
    request = engine.calls[0]
    assert request.sampling.temperature == 0 and request.signals is not None
    assert (request.signals.tokens, request.signals.state) == (TOKENS, (3, 4))


def test_no_question_is_asked_twice_whatever_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "b" / "a.jsonl"

    class StoppedEngine(ScriptedEngine):
        def stream(self, prompt, cancel):  # type: ignore[no-untyped-def]
            if len(self.calls) == 4:
                raise KeyboardInterrupt
            return super().stream(prompt, cancel)

    stopped = StoppedEngine(default=knowing()._default)
    with pytest.raises(KeyboardInterrupt):
        ask(stopped, TASKS, (), file)
    text = file.read_text()
    assert len(text.splitlines()) == 4 and TASKS[0].text not in text
    file.write_text(text[: text.rindex("[") + 9])  # and half of the last line was lost
    engine = knowing()
    _, seen = ask(engine, TASKS, (), file)
    assert len(seen) == 6 and all(one.right for one in seen)
    assert len(engine.calls) == 3
    ask(engine, TASKS, (), file)
    assert len(engine.calls) == 3


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": 1}\n')
    with pytest.raises(InvalidData, match="line 1"):
        ask(knowing(), TASKS, (), file)


def test_a_question_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    engine = ScriptedEngine(ContextOverflow(9, 8), default=knowing()._default)
    asked, seen = ask(engine, TASKS, (), tmp_path / "a.jsonl")
    assert asked == TASKS[1:] and len(seen) == 5


@pytest.mark.parametrize("size", [1, 7, 1023, 1024, 49_152, 151_936])
def test_anchors_are_different_tokens_of_the_vocabulary(size: int) -> None:
    found = anchors(size)
    assert len(set(found)) == len(found) == min(size, ANCHORS) and max(found) < size
