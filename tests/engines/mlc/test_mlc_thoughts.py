"""Thoughts in what MLC's engine says: switched, kept apart, counted, as in the other engines."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edge_router.chat.message import Message, Reasoning, Text
from edge_router.chat.reply import Reply, collect
from edge_router.chat.request import ChatRequest, ReasoningOptions
from edge_router.engines.base import answered
from edge_router.engines.mlc.engine import MlcEngine
from edge_router.engines.mlc.pace import Pace
from edge_router.prompts.answer_format import AnswerFormat
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer

THINKING = runpy.run_path(str(Path(__file__).parents[2] / "prompts" / "tool_templates.py"))["THINKING"]


class Child:
    """Says these pieces, a token each, in the form of OpenAI's completions."""

    heard = 0

    def __init__(self, *pieces: str) -> None:
        self.pieces, self.asked = pieces, list[Mapping[str, Any]]()

    def call(self, arguments: Mapping[str, Any], cancel: object, look: object) -> Iterator[Mapping[str, Any]]:
        self.asked.append(arguments["arguments"])
        yield from ({"choices": [{"text": piece, "finish_reason": None}]} for piece in self.pieces)
        yield {"choices": [{"text": "", "finish_reason": "stop"}]}
        yield {"usage": {"prompt_tokens": 9, "completion_tokens": len(self.pieces)}}


def ask(child: Child, tokenizer: TextTokenizer, **options: Any) -> Reply:
    template = ChatTemplate(THINKING, model="m")
    directory = SimpleNamespace(
        tokenizer=tokenizer, template=template, answers=AnswerFormat.of(template, tokenizer.added)
    )
    engine = MlcEngine(child, Pace(), directory, model_id="m", context_window_size=999, vocab_size=10**6)  # type: ignore[arg-type]
    return collect(answered(engine, ChatRequest((Message("user", "?"),), **options), threading.Event()))


def test_thoughts_are_kept_apart_and_counted(tokenizer: TextTokenizer) -> None:
    child = Child("<think>", "\nRain", " or", " sun?\n", "</think>", "\n\n", "Sunny.")
    reply = ask(child, tokenizer, reasoning=ReasoningOptions(True))
    assert reply.parts == (Reasoning("Rain or sun?"), Text("Sunny."))
    assert reply.usage is not None and 3 <= reply.usage.reasoning_tokens <= 5


def test_nobody_thinks_who_was_not_asked_to(tokenizer: TextTokenizer) -> None:
    silent, asked = Child("Sunny."), Child("Sunny.")
    assert ask(silent, tokenizer).text == ask(asked, tokenizer, reasoning=ReasoningOptions(True)).text
    assert len(silent.asked[0]["prompt"]) > len(asked.asked[0]["prompt"])  # by the marks of no thoughts


def test_a_stop_string_is_looked_for_in_the_text_alone(tokenizer: TextTokenizer) -> None:
    child = Child("<think>", "Rain. ", "Sun.", "</think>", "Sunny. ", "Always.")
    reply = ask(child, tokenizer, reasoning=ReasoningOptions(True), stop=(". ",))
    assert reply.parts == (Reasoning("Rain. Sun."), Text("Sunny")) and reply.finish_reason == "stop"
    assert "stop" not in child.asked[0]
