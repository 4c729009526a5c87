"""The engine with tools and thoughts: what the prompt says, what the answer is held to, what comes of it."""

from __future__ import annotations

import json
import re
import runpy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.chat.events import Finished
from edge_router.chat.message import Message, Reasoning, Text, ToolCall
from edge_router.chat.reply import Reply, collect
from edge_router.chat.request import (
    ChatRequest,
    GrammarOutput,
    HostedTool,
    JsonOutput,
    Need,
    ReasoningOptions,
    SamplingParams,
    SignalRequest,
    TextOutput,
    Tool,
    ToolChoice,
)
from edge_router.engines.base import answered
from edge_router.engines.local.engine import LocalEngine
from edge_router.engines.local.sampler import SamplingDefaults
from edge_router.errors import InvalidRequest, UnsupportedRequest
from edge_router.prompts.answer_format import AnswerFormat
from edge_router.prompts.template import ChatTemplate
from edge_router.prompts.tokenizer import TextTokenizer

TEMPLATES = runpy.run_path(str(Path(__file__).parents[2] / "prompts" / "tool_templates.py"))
HERMES = TEMPLATES["FAMILIES"]["hermes"]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("weather", "Tells it.", CITY)
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'
Make = Callable[..., LocalEngine]


@pytest.fixture
def speaking(fake_runner: type, tokenizer: TextTokenizer) -> Iterator[Make]:
    """speaking("text", template=HERMES): an engine whose model would say that text and end."""
    engines = []

    def make(text: str, *, template: str = HERMES, context: int = 4096) -> LocalEngine:
        end = tokenizer.token("<|im_end|>")
        runner = fake_runner(tokenizer.vocab_size, context=context, chunk=64)
        begin: list[int] = []
        wanted = [*tokenizer.continued(text), end]

        def logits(tokens: list[int]) -> np.ndarray:
            begin[:] = begin or [len(tokens)]
            said, row = len(tokens) - begin[0], np.zeros(runner.vocab_size, np.float32)
            row[wanted[said] if said < len(wanted) else end] = 9.0
            return row

        def prefill(sequence: int, tokens: list[int]) -> np.ndarray:
            begin.clear()
            return type(runner).prefill(runner, sequence, tokens)

        runner.logits, runner.prefill = logits, prefill
        chat = ChatTemplate(template, model="m")
        made = LocalEngine(
            lambda: runner,
            name="fake",
            model_id="fake-1",
            tokenizer=tokenizer,
            template=chat,
            end_tokens={end},
            defaults=SamplingDefaults(temperature=0.0),
            answers=AnswerFormat.of(chat, tokenizer.added),
        )
        engines.append(made)
        return made

    yield make
    for engine in engines:
        engine.close()


def ask(engine: LocalEngine, **options: Any) -> Reply:
    request = ChatRequest((Message("user", "Bonn?"),), **options)
    return collect(answered(engine, request, threading.Event()))


def test_a_call_comes_of_what_the_model_writes(speaking: Make) -> None:
    reply = ask(speaking(f"Let me see.\n{CALL}"), tools=(WEATHER,))
    text, call = reply.parts
    assert text == Text("Let me see.") and isinstance(call, ToolCall)
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Bonn"})
    assert reply.finish_reason == "tool_calls"


def test_a_call_that_was_begun_is_held_to_its_tool(speaking: Make) -> None:
    reply = ask(
        speaking('<tool_call>\n{"name": "made_up", "arguments": [1, 2'), tools=(WEATHER,), max_tokens=200
    )
    assert [call.name for call in reply.calls] == ["weather"] and len(reply.parts) == 1
    assert json.loads(reply.calls[0].arguments).keys() == {"city"}


def test_the_text_of_a_free_tool_comes_as_it_is(speaking: Make) -> None:
    call = '<tool_call>\n{"name": "patch", "arguments": {"input": "a \\"b\\"\\n"}}\n</tool_call>'
    (made,) = ask(speaking(call), tools=(Tool("patch", free=True), WEATHER)).calls
    assert (made.free, made.arguments) == (True, 'a "b"\n')


def test_calls_that_are_no_json_are_held_to_their_tool(speaking: Make) -> None:
    """Where one must come, and where one was begun."""
    forms = (
        ("qwen coder", "<tool_call>\n<function=made_up>\n<parameter=x>\n"),
        ("lfm", "<|tool_call_start|>[made_up(x=1, 2"),
    )
    for family, says in forms:
        engine = speaking(says, template=TEMPLATES["FAMILIES"][family])
        for choice in (ToolChoice("auto"), ToolChoice("required")):
            reply = ask(engine, tools=(WEATHER,), tool_choice=choice, max_tokens=300)
            assert [call.name for call in reply.calls] == ["weather"], (family, choice, reply)
            assert json.loads(reply.calls[0].arguments).keys() == {"city"}, (family, choice)
        engine.calls_tools = True
        assert engine.capabilities.serves >= {Need.TOOLS, Need.TOOL_CALL}, family
        strict = Tool("a>b", parameters=CITY, strict=True)
        with pytest.raises(UnsupportedRequest, match="a>b"):
            ask(engine, tools=(strict,))


def test_the_choice_of_tools_is_kept(speaking: Make) -> None:
    other = Tool("other")
    cases = (
        (ToolChoice("auto"), "Sunny.", []),
        (ToolChoice("none"), CALL, []),
        (ToolChoice("required"), "Sunny.", ["weather", "other"]),
        (ToolChoice("required", ("other",)), CALL, ["other"]),
        (ToolChoice("auto", parallel=False), f"{CALL}\n{CALL}", ["weather"]),
    )
    for choice, says, names in cases:
        reply = ask(speaking(says), tools=(WEATHER, other), tool_choice=choice, max_tokens=300)
        assert bool(reply.calls) == bool(names) and {call.name for call in reply.calls} <= set(names), choice
        assert reply.finish_reason in (("tool_calls", "length") if names else ("stop",)), choice
    both = ask(speaking(f"{CALL}\n{CALL}"), tools=(WEATHER, other))
    assert [call.name for call in both.calls] == ["weather", "weather"]


def test_a_call_is_closed_before_the_limit_and_told_to_be_cut(speaking: Make) -> None:
    long = CALL.replace("Bonn", "Bonn " * 50)
    reply = ask(speaking(long), tools=(WEATHER,), max_tokens=100)
    assert reply.finish_reason == "length"
    assert json.loads(reply.calls[0].arguments)["city"].startswith("Bonn Bonn")


def test_text_that_looks_like_a_call_is_text_without_tools(speaking: Make) -> None:
    reply = ask(speaking(CALL))
    assert reply.parts == (Text(CALL),) and reply.finish_reason == "stop"


def test_tools_and_a_form_at_once_give_either(speaking: Make) -> None:
    form = JsonOutput({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    assert json.loads(ask(speaking('{"a": 1}'), tools=(WEATHER,), output=form).text) == {"a": 1}
    assert ask(speaking(CALL), tools=(WEATHER,), output=form).calls
    assert not ask(speaking("Sunny."), tools=(WEATHER,), output=form, max_tokens=300).text.startswith("Sunny")


def test_answers_are_held_to_a_grammar(speaking: Make) -> None:
    output = GrammarOutput("regex", "[0-9]{2}")
    assert ask(speaking("42"), output=output).text == "42"
    assert len(ask(speaking("many"), output=output).text) == 2


def test_a_form_goes_on_from_what_was_begun(speaking: Make) -> None:
    """However it is spelled; and says so where it can't."""
    form = JsonOutput({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    digits, odd = GrammarOutput("regex", "[0-9]{4}"), {"names": {Need.JSON: "response_format"}}
    for output, begun, says, whole in (
        (form, "{", '"a": 12}', '{"a": 12}'),
        (form, '{\n  "a":', "7}", '{\n  "a":7}'),
        (form, "\n {", '"a": 12}', '\n {"a": 12}'),
        (form, " ", '{"a": 12}', ' {"a": 12}'),
        (form, '{"a": 1', "Sure!", None),
        (form, '{"a": 1}', "Sure!", '{"a": 1}'),
        (digits, "12", "34 or so", "1234"),
        (TextOutput(), "{", "so", "{so"),
    ):
        for tools in ((), (WEATHER,)):
            messages = (Message("user", "?"), Message("assistant", begun))
            request = ChatRequest(messages, output=output, continue_final=True, tools=tools, max_tokens=60)
            said = begun + collect(answered(speaking(says), request, threading.Event())).text
            assert whole is None or said == whole, (begun, said)
            assert output != form or json.loads(said).keys() == {"a"}, said
    for output, begun in ((form, "Sure: {"), (form, '{"b'), (digits, "12a")):
        request = ChatRequest(
            (*messages[:1], Message("assistant", begun)), output=output, continue_final=True, **odd
        )
        field = "grammar" if output is digits else "response_format"
        with pytest.raises(InvalidRequest, match=rf"{field}: .*does not fit"):
            collect(answered(speaking("x"), request, threading.Event()))


FREE = (
    (GrammarOutput("regex", "ls (-l )?[a-z]{1,8}"), "rm -rf", "ls"),
    (
        GrammarOutput("lark", 'start: line+\nline: "say " WORD LF\n%import common (WORD, LF)'),
        "say it\nno",
        "say ",
    ),
)


def test_the_text_of_a_free_tool_is_held_to_its_grammar(speaking: Make) -> None:
    for family in ("hermes", "qwen coder", "lfm"):
        for form, says, begins in FREE:
            tool = Tool("run", free=True, form=form)
            engine = speaking(json.dumps(says)[1:-1], template=TEMPLATES["FAMILIES"][family])
            reply = ask(engine, tools=(tool,), tool_choice=ToolChoice("required"), max_tokens=120)
            text = reply.calls[0].arguments
            pattern = form.source if form.syntax == "regex" else r"(say [A-Za-z]+\n)+"
            assert re.fullmatch(pattern, text) and text.startswith(begins), (family, text)
    nested = Tool("sum", free=True, form=GrammarOutput("lark", 'start: "1" | "(" start ")"'))
    with pytest.raises(UnsupportedRequest, match=r"sum: .*start holds itself"):
        ask(engine, tools=(nested,))


def test_what_cannot_be_served_names_its_field(speaking: Make) -> None:
    plain = speaking("x", template=TEMPLATES["THINKING"])
    with pytest.raises(UnsupportedRequest, match="tools"):
        ask(plain, tools=(WEATHER,))
    strict = Tool(
        "odd", parameters={"type": "object", "properties": {"a": {"not": {}}}, "required": ["a"]}, strict=True
    )
    with pytest.raises(UnsupportedRequest, match=r"odd: .*not"):
        ask(speaking("x"), tools=(strict,))


def test_tools_of_an_endpoint_are_left_out(speaking: Make) -> None:
    assert ask(speaking("Sunny."), tools=(HostedTool("search", {}),)).text == "Sunny."


THOUGHTFUL = TEMPLATES["THINKING"]
THOUGHT = "<think>\nRain or sun?\n</think>\n\nSunny."


def test_thoughts_are_kept_apart_and_counted(speaking: Make, tokenizer: TextTokenizer) -> None:
    engine = speaking(THOUGHT, template=THOUGHTFUL)
    events = list(
        answered(
            engine, ChatRequest((Message("user", "?"),), reasoning=ReasoningOptions(True)), threading.Event()
        )
    )
    assert collect(events).parts == (Reasoning("Rain or sun?"), Text("Sunny."))
    last = events[-1]
    assert isinstance(last, Finished) and last.usage is not None
    thoughts = len(tokenizer.continued("\nRain or sun?\n</think>"))
    assert last.usage.reasoning_tokens in (thoughts, thoughts + 1)
    hidden = ask(engine, reasoning=ReasoningOptions(True, shown=False))
    assert hidden.parts == (Text("Sunny."),)


def test_a_router_does_not_think_where_the_template_has_a_word_for_it(speaking: Make) -> None:
    engine = speaking("Sunny.", template=THOUGHTFUL)
    plain = engine.prepare(ChatRequest((Message("user", "?"),))).count
    thinking = engine.prepare(ChatRequest((Message("user", "?"),), reasoning=ReasoningOptions(True))).count
    assert plain > thinking  # by the marks of no thoughts
    engine.prompts.thinks = True
    assert engine.prepare(ChatRequest((Message("user", "?"),))).count == thinking


def test_a_prompt_that_opens_thoughts_can_be_told_not_to(speaking: Make) -> None:
    always = THOUGHTFUL[: THOUGHTFUL.index("{% if enable_thinking")] + "<think>\n"
    assert ask(speaking("Rain?\n</think>\n\nSunny.", template=always)).parts == (
        Reasoning("Rain?"),
        Text("Sunny."),
    )
    engine = speaking("Sunny.", template=always)
    assert ask(engine, reasoning=ReasoningOptions(False)).parts == (Text("Sunny."),)


def test_an_answer_that_was_begun_is_gone_on_with(speaking: Make, tokenizer: TextTokenizer) -> None:
    """Right behind its words, which end no turn, and no thoughts come before them."""
    always = THOUGHTFUL[: THOUGHTFUL.index("{% if enable_thinking")] + "<think>\n"
    user, begun = Message("user", "?"), Message("assistant", (Reasoning("Rain?"), Text("It is <|im_end|>")))
    end = tokenizer.token("<|im_end|>")
    for row, template, asked, same in (
        ("no thoughts", HERMES, None, None),
        ("asked for", THOUGHTFUL, True, True),
        ("opened by the template", always, None, False),
    ):
        engine = speaking("sunny.", template=template)
        request = ChatRequest((user, begun), continue_final=True, reasoning=ReasoningOptions(asked))
        prompt = engine.prompts.prepare(request)
        before = engine.prompts.prepare(ChatRequest((user,), reasoning=ReasoningOptions(same)))
        text, first = (b"".join(map(tokenizer.token_bytes, each.tokens)) for each in (prompt, before))
        assert text == first + b"It is <|im_end|>", row
        assert list(prompt.tokens).count(end) == list(before.tokens).count(end), row
        assert not prompt.opened and not prompt.thinks, row
        assert collect(answered(engine, request, threading.Event())).parts == (Text("sunny."),), row


def test_a_budget_ends_the_thoughts(speaking: Make, tokenizer: TextTokenizer) -> None:
    engine = speaking("<think>\n" + "on and " * 400, template=THOUGHTFUL)
    reply = ask(engine, reasoning=ReasoningOptions(True, max_tokens=30), max_tokens=200)
    thoughts = reply.parts[0]
    assert isinstance(thoughts, Reasoning) and len(tokenizer.continued(thoughts.text)) <= 30
    assert reply.usage is not None and 30 <= reply.usage.reasoning_tokens <= 45
    form = JsonOutput({"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]})
    both = ask(engine, reasoning=ReasoningOptions(True), output=form, max_tokens=120)
    assert isinstance(both.parts[0], Reasoning) and json.loads(both.text) == {"a": "x"}


def test_stop_strings_and_log_probabilities_are_of_the_text(speaking: Make) -> None:
    engine = speaking("<think>\nRain. Sun.\n</think>\n\nSunny. Always.", template=THOUGHTFUL)
    reply = ask(engine, reasoning=ReasoningOptions(True), stop=(". ",), logprobs=True)
    assert reply.parts == (Reasoning("Rain. Sun."), Text("Sunny")) and reply.finish_reason == "stop"
    assert "".join(entry.token for entry in reply.logprobs).strip().startswith("Sunny")


def test_signals_are_of_the_first_tokens_behind_the_thoughts(speaking: Make) -> None:
    engine = speaking(THOUGHT, template=THOUGHTFUL)
    request = ChatRequest(
        (Message("user", "?"),),
        reasoning=ReasoningOptions(True),
        logprobs=True,
        signals=SignalRequest(3),
        sampling=SamplingParams(temperature=0),
    )
    seen = [entry.token for entry in collect(answered(engine, request, threading.Event())).logprobs]
    assert 1 <= len(seen) <= 3 and "Rain" not in "".join(seen)
