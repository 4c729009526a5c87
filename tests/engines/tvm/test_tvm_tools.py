"""Calls of tools and forms on the demo model: it is too small to choose well, so this is of form only."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_router.chat.events import Finished
from edge_router.chat.message import Message, Reasoning
from edge_router.chat.reply import collect
from edge_router.chat.request import (
    ChatRequest,
    GrammarOutput,
    ReasoningOptions,
    SamplingParams,
    Tool,
    ToolChoice,
)
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine

DEMO = runpy.run_path(str(Path(__file__).parents[2] / "demo_model.py"))
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "days", "unit"],
}
TOOLS = (Tool("weather", "Tells the weather.", SCHEMA, strict=True), Tool("now", "Tells the time."))


def opened(built_model: Any, template: str, folder: Path) -> LocalEngine:
    """The demo model with another template."""
    from edge_router.engines.tvm.engine import open_model

    model = DEMO["with_template"](built_model.model_dir, template, folder)
    return open_model(model, built_model.library, model_id="demo", threads=2)


@pytest.fixture(scope="module")
def hermes(built_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    folder = tmp_path_factory.mktemp("hermes") / "model"
    engine = opened(built_model, DEMO["HERMES"], folder)
    yield engine
    engine.close()


def ask(engine: LocalEngine, text: str, **options: Any) -> Any:
    options = {"max_tokens": 80, "sampling": SamplingParams(temperature=0.0), **options}
    return collect(answered(engine, ChatRequest((Message("user", text),), **options), threading.Event()))


def test_a_call_that_is_demanded_is_one_of_the_tools_with_arguments_that_fit(hermes: LocalEngine) -> None:
    for seed in range(3):
        sampling = SamplingParams(temperature=1.5, seed=seed)
        reply = ask(
            hermes,
            "How warm is it in Bonn?",
            tools=TOOLS,
            tool_choice=ToolChoice("required"),
            sampling=sampling,
        )
        assert reply.calls and len(reply.parts) == len(reply.calls)
        for call in reply.calls:
            assert call.name in ("weather", "now")
            found = json.loads(call.arguments)
            if call.name == "weather":
                assert found.keys() == SCHEMA["properties"].keys() and found["unit"] in ("C", "F")
                assert isinstance(found["days"], int) and isinstance(found["city"], str)
    one = ask(hermes, "The time?", tools=TOOLS, tool_choice=ToolChoice("required", ("now",), parallel=False))
    assert [call.name for call in one.calls] == ["now"] and one.finish_reason in ("tool_calls", "length")


def test_tools_that_may_be_called_leave_an_answer_as_it_is(hermes: LocalEngine) -> None:
    reply = ask(hermes, "Say hello.", tools=TOOLS)
    assert reply.text or reply.calls
    assert ask(hermes, "Say a number.", output=GrammarOutput("regex", "[1-9][0-9]")).text.isdecimal()


def test_thoughts_are_bounded_and_counted(built_model: Any, tmp_path: Path) -> None:
    always = DEMO["THINKING"].partition("{% if enable_thinking")[0] + "<think>\n"
    engine = opened(built_model, always, tmp_path / "model")
    try:
        request = ChatRequest(
            (Message("user", "Name a colour."),),
            max_tokens=60,
            reasoning=ReasoningOptions(True, max_tokens=20),
        )
        events = list(answered(engine, request, threading.Event()))
        last = events[-1]
        assert isinstance(last, Finished) and last.usage is not None
        assert isinstance(collect(events).parts[0], Reasoning) and 0 < last.usage.reasoning_tokens <= 30
    finally:
        engine.close()


def test_it_reaches_openais_form_and_goes_on_from_a_result(hermes: LocalEngine) -> None:
    """Whole and streamed; and what the tool gave back is read in the next turn."""
    from edge_router import Controller
    from edge_router.errors import UnsupportedRequest
    from edge_router.routing.routers.scripted import ScriptedRouter

    function = {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA, "strict": True}
    asked: dict[str, Any] = {
        "messages": [{"role": "user", "content": "How warm is it in Bonn?"}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "temperature": 0,
        "max_tokens": 80,
    }
    create = Controller(
        weak=hermes, router=ScriptedRouter(0.1)
    ).chat.completions.create  # closed by the fixture
    with pytest.raises(UnsupportedRequest, match="calibrate --tools"):
        create(**asked)
    hermes.calls_tools = True
    try:
        message = create(**asked).choices[0].message
        call = message.tool_calls[0]
        assert (
            call.function.name == "weather"
            and json.loads(call.function.arguments).keys() == SCHEMA["properties"].keys()
        )
        deltas = [chunk.choices[0].delta for chunk in create(**asked, stream=True) if chunk.choices]
        pieces = [piece for delta in deltas for piece in delta.tool_calls or () if piece.index == 0]
        assert pieces[0].function.name == "weather" and pieces[0].id
        written = "".join(piece.function.arguments or "" for piece in pieces)
        assert json.loads(written) == json.loads(call.function.arguments)
        result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
        turns = [*asked["messages"], message.model_dump(), result]
        after = create(messages=turns, tools=asked["tools"], temperature=0, max_tokens=20)
        assert after.choices[0].message.content or after.choices[0].message.tool_calls
    finally:
        hermes.calls_tools = False
