"""Thoughts in what MLC's engine says: switched, kept apart, counted, bounded, as in the other engines."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edge_router.chat.message import Message, Reasoning, Text
from edge_router.chat.reply import Reply, collect
from edge_router.chat.request import ChatRequest, JsonOutput, ReasoningOptions
from edge_router.engines.base import answered
from edge_router.engines.mlc.engine import MlcEngine
from edge_router.engines.mlc.pace import Pace
from edge_router.prompts.answer_format import AnswerFormat
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer

THINKING = runpy.run_path(str(Path(__file__).parents[2] / "prompts" / "tool_templates.py"))["THINKING"]
END = "<|im_end|>"


class Child:
    """Says these pieces, a token each, as the process does; for each call its own, up to what it is allowed."""

    heard = 0

    def __init__(self, *calls: list[str]) -> None:
        self.calls, self.asked = iter(calls), list[Mapping[str, Any]]()

    def call(self, call: Mapping[str, Any], cancel: object, look: object) -> Iterator[Mapping[str, Any]]:
        self.asked.append(call)
        most = call["config"]["max_tokens"]
        pieces = [*next(self.calls), END]
        for number, piece in enumerate(pieces[:most], 1):
            finish = "stop" if piece == END else "length" if number == most else None
            yield {"tokens": [{"bytes": list(piece.encode())}], "finish": finish}
        yield {"end": True}


def ask(child: Child, tokenizer: TextTokenizer, **options: Any) -> Reply:
    template = ChatTemplate(THINKING, model="m")
    answers, ends = AnswerFormat.of(template, tokenizer.added), frozenset({tokenizer.added[END]})
    directory = SimpleNamespace(
        tokenizer=tokenizer, template=template, answers=answers, end_tokens=ends, config={}
    )
    engine = MlcEngine(
        child,  # type: ignore[arg-type]
        Pace(),
        directory,  # type: ignore[arg-type]
        model_id="m",
        context_window_size=999,
        vocab_size=10**6,
    )
    return collect(answered(engine, ChatRequest((Message("user", "?"),), **options), threading.Event()))


THOUGHT = ["<think>", "\nRain", " or", " sun?\n", "</think>", "\n\n", "Sunny."]


def test_thoughts_are_kept_apart_and_counted(tokenizer: TextTokenizer) -> None:
    reply = ask(Child(THOUGHT), tokenizer, reasoning=ReasoningOptions(True))
    assert reply.parts == (Reasoning("Rain or sun?"), Text("Sunny."))
    assert reply.usage is not None and 3 <= reply.usage.reasoning_tokens <= 5
    assert reply.usage.completion_tokens == 7


def test_nobody_thinks_who_was_not_asked_to(tokenizer: TextTokenizer) -> None:
    silent, asked = Child(["Sunny."]), Child(["Sunny."])
    assert ask(silent, tokenizer).text == ask(asked, tokenizer, reasoning=ReasoningOptions(True)).text
    assert len(silent.asked[0]["prompt"]) > len(asked.asked[0]["prompt"])  # by the marks of no thoughts


def test_a_stop_string_is_looked_for_in_the_text_alone(tokenizer: TextTokenizer) -> None:
    child = Child(["<think>", "Rain. ", "Sun.", "</think>", "Sunny. ", "Always."])
    reply = ask(child, tokenizer, reasoning=ReasoningOptions(True), stop=(". ",))
    assert reply.parts == (Reasoning("Rain. Sun."), Text("Sunny")) and reply.finish_reason == "stop"
    assert child.asked[0]["config"]["stop_strs"] == []


def test_thoughts_end_where_their_budget_does(tokenizer: TextTokenizer) -> None:
    """What was said so far is read again, closed by us, and the answer goes on from there."""
    child = Child(["Rain", " or", " sun?", " Or", " snow?"], ["Sunny."])
    reply = ask(child, tokenizer, reasoning=ReasoningOptions(True, max_tokens=3))
    assert reply.parts == (Reasoning("Rain or sun?"), Text("Sunny.")) and reply.finish_reason == "stop"
    first, second = child.asked
    opening, closing = tokenizer.spoken("<think>\n"), tokenizer.spoken("\n</think>\n\n")
    assert first["config"]["max_tokens"] == 3 and first["prompt"][-len(opening) :] == opening
    assert second["prompt"] == [*first["prompt"], *tokenizer.spoken("Rain or sun?"), *closing]
    assert reply.usage is not None
    assert reply.usage.completion_tokens == len(opening) + 3 + len(closing) + 1


def test_a_form_begins_behind_the_thoughts(tokenizer: TextTokenizer) -> None:
    child = Child(["Hm.", "</think>", "never read"], ['{"a"', ": 1}"])
    reply = ask(child, tokenizer, reasoning=ReasoningOptions(True), output=JsonOutput())
    assert reply.parts == (Reasoning("Hm."), Text('{"a": 1}'))
    first, second = child.asked
    assert "response_format" not in first["config"] and "response_format" in second["config"]
    assert second["prompt"] == [*first["prompt"], *tokenizer.spoken("Hm.</think>")]


def test_an_answer_that_ends_within_its_thoughts_has_ended(tokenizer: TextTokenizer) -> None:
    child = Child(["Hm."])
    reply = ask(child, tokenizer, reasoning=ReasoningOptions(True, max_tokens=50), output=JsonOutput())
    assert reply.parts == (Reasoning("Hm."),) and reply.finish_reason == "stop" and len(child.asked) == 1
