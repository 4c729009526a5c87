"""What families write, and what becomes of it, however it is cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_router.chat.events import Event, TextDelta, ToolCallStart
from edge_router.chat.message import Part, Reasoning, Text, ToolCall
from edge_router.chat.reply import collect
from edge_router.chat.request import Tool
from edge_router.engines.local.reading.answer_parts import AnswerParts
from edge_router.prompts.answer_format import FAMILIES, THOUGHTS, AnswerFormat

PROPERTIES = {"city": {"type": "string"}, "days": {"type": "integer"}}
TOOLS = (Tool("weather", parameters={"type": "object", "properties": PROPERTIES}), Tool("now"))
TWO = (("weather", {"city": 'Bo}nn", [x', "days": 2}), ("now", {}))
# A family's own way to call both.
WRITTEN = {
    "qwen coder": '<tool_call>\n<function=weather>\n<parameter=city>\nBo}nn", [x\n</parameter>\n<parameter=days>\n2\n'
    "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Bo}nn\\", [x", "days": 2}}\n</tool_call>\n'
    '<tool_call>\n{"arguments": {}, "name": "now"}\n</tool_call>',
    "phi": '<|tool_call|>[{"type": "function", "name": "weather", "arguments": {"city": "Bo}nn\\", [x", "days": 2}}, '
    '{"name": "now"}]<|/tool_call|>',
    "mistral, name first": '[TOOL_CALLS]weather[ARGS]{"city": "Bo}nn\\", [x", "days": 2}[TOOL_CALLS]now[CALL_ID]a1[ARGS]{}',
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Bo}nn\\", [x", "days": 2}, "id": "123456789"},'
    ' {"name": "now", "arguments": "{}", "id": "987654321"}]',
    "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
    '{"city": "Bo}nn\\", [x", "days": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n'
    "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "deepseek, name first": '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city": "Bo}nn\\", [x", '
    '"days": 2}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    "lfm": "<|tool_call_start|>[weather('Bo}nn\", [x', days=2), now()]<|tool_call_end|>",
    "gorilla": "<<function>>weather(city='Bo}nn\", [x', days=2)<<function>>now()",
    "gemma 4": '<|tool_call>call:weather{city:<|"|>Bo}nn", [x<|"|>,days:2}<tool_call|><|tool_call>call:now{}<tool_call|>',
    "function gemma": '<start_function_call>call:weather{city:<escape>Bo}nn", [x<escape>,days:2}<end_function_call>\n'
    "<start_function_call>call:now{}<end_function_call>",
    "llama": '{"name": "weather", "parameters": {"city": "Bo}nn\\", [x", "days": 2}}; {"name": "now", "parameters": {}}',
}
THINK = AnswerFormat(THOUGHTS[0])


def read(
    family: str, pieces: Iterable[str], *, thinking: bool = False, tools: tuple[Tool, ...] = TOOLS
) -> tuple[list[Part], AnswerParts]:
    """The parts that come of it. A call's number is its id."""
    numbers = iter(range(100_000))
    form = AnswerFormat(THOUGHTS[0], FAMILIES.get(family))
    parts = AnswerParts(form, tools=tools, thinking=thinking, new_id=lambda: str(next(numbers)))
    events: list[Event] = [event for piece in pieces for event in parts.push(piece)]
    events += parts.end()
    assert [event.index for event in events if isinstance(event, ToolCallStart)] == list(range(parts.calls))
    assert all(event.text for event in events if isinstance(event, TextDelta))
    return list(collect(events).parts), parts


def test_each_familys_calls_are_read() -> None:
    assert WRITTEN.keys() == FAMILIES.keys()
    for family, written in WRITTEN.items():
        found, parts = read(family, written)
        calls = [(part.name, json.loads(part.arguments)) for part in found if isinstance(part, ToolCall)]
        assert calls == list(TWO) and len(found) == 2 and not parts.cut, family
        assert [call.id for call in found if isinstance(call, ToolCall)] == ["0", "1"]


def test_text_and_thoughts_are_kept_apart_from_calls() -> None:
    for family, written in WRITTEN.items():
        said = "" if FAMILIES[family].bare else "Let me see.\n"
        found, _ = read(family, f"<think>\nWhich one?\n</think>\n\n{said}{written}")
        head = [Reasoning("Which one?"), *([Text("Let me see.")] if said else [])]
        assert found[: len(head)] == head and len(found) == len(head) + 2, family


def test_arguments_come_while_they_are_written() -> None:
    for family in ("hermes", "mistral", "llama", "deepseek"):
        parts = AnswerParts(AnswerFormat(None, FAMILIES[family]), tools=TOOLS)
        written = WRITTEN[family]
        at = written.index("days")
        seen = parts.push(written[:at])
        assert [type(event).__name__ for event in seen] == ["ToolCallStart", "ToolCallArguments"], family


@pytest.mark.parametrize("family", WRITTEN)
def test_what_is_no_call_is_text(family: str) -> None:
    form, written = FAMILIES[family], WRITTEN[family]
    opening = written[: written.index("weather")]
    for text in (
        opening,
        f"{opening}nothing",
        written.replace("weather", "unknown").replace("now", "never"),
        f"{form.open}hm {form.close} and on",
        f"Say:\n\n{form.open.strip()[:-1]}",
        "a < b, [x], {y: 1} and <th",
        '{"a": 1}',
        "[1, 2]",
        '[{"name": "weather"',
        " \n",
    ):
        found, parts = read(family, text)
        assert "".join(part.text for part in found if isinstance(part, Text)) == text, (family, text)
        assert not parts.calls and not parts.cut


def test_without_tools_nothing_is_a_call() -> None:
    for family, written in WRITTEN.items():
        assert read(family, written, tools=())[0] == [Text(written)], family


def test_a_call_that_the_limit_cuts_is_told_as_such() -> None:
    for family, written in WRITTEN.items():
        if FAMILIES[family].style not in ("keywords", "bare"):  # which begin only once they are whole
            at = written.index("days")
            found, parts = read(family, written[:at])
            assert parts.cut and isinstance(found[-1], ToolCall), family
            assert found[-1].arguments.startswith('{"city": "Bo}nn\\", [x"') and len(found) == 1, family
    found, parts = read("hermes", WRITTEN["hermes"][:-4])  # within the last mark
    assert len(found) == 2 and not parts.cut
    found, parts = read("hermes", '<tool_call>\n{"name": "weather", "argum')
    assert found == [Text('<tool_call>\n{"name": "weather", "argum')]


def test_a_call_that_breaks_off_begins_once() -> None:
    """What follows is text; nothing of it is read as the same call again."""
    found, parts = read("qwen coder", "<tool_call>\n<function=weather>\n<paramete<think>")
    assert [type(part) for part in found] == [ToolCall, Text] and parts.calls == 1 and parts.cut
    found, parts = read("hermes", '<tool_call>{"name": "now", "arguments": {}, oops}</tool_call>')
    assert [type(part) for part in found] == [ToolCall, Text] and parts.calls == 1


def test_thoughts_begin_where_the_prompt_has_opened_them() -> None:
    assert read("", "Hm.\n</think>\n\nYes.", thinking=True)[0] == [Reasoning("Hm."), Text("Yes.")]
    assert read("", "Hm. Always", thinking=True)[0] == [Reasoning("Hm. Always")]
    assert read("", "\n\n</think>\n\nYes.", thinking=True)[0] == [Text("Yes.")]
    assert read("", "One <think> is a mark.")[0] == [Text("One <think> is a mark.")]


FRAGMENTS = st.sampled_from(
    [
        *(
            "<think>",
            "</think>",
            "\n",
            " ",
            "a",
            "weather",
            "now",
            "{",
            "}",
            "[",
            "]",
            ",",
            ";",
            ":",
            '"',
            "\\",
        ),
        *(
            '"name"',
            '"weather"',
            '"arguments": ',
            '"parameters": ',
            '{"city": "x"}',
            "{}",
            "é日",
            "(",
            ")",
            "'x'",
        ),
        *(
            '{"name": "now", "arguments": {}}',
            '{"name": "weather", "parameters": {"city": "',
            "<function=",
            "now>",
        ),
        *("<parameter=city>", "</parameter>", "</function>", "call:now{", "city:", "[ARGS]", "days=1", "```"),
        *(mark for form in FAMILIES.values() for mark in form.marks),
        *(text for written in WRITTEN.values() for text in (written, written[:40], written[40:])),
    ]
)


@given(
    st.sampled_from(sorted(FAMILIES)),
    st.lists(FRAGMENTS, max_size=12).map("".join),
    st.lists(st.integers(0, 500), max_size=40),
    st.booleans(),
)
def test_the_pieces_do_not_matter_and_nothing_is_lost(
    family: str, text: str, cuts: list[int], thinking: bool
) -> None:
    places = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    pieces = [text[i:j] for i, j in pairwise(places)]
    whole, first = read(family, [text], thinking=thinking)
    for cut in (pieces, list(text)):
        found, second = read(family, cut, thinking=thinking)
        assert found == whole
        assert (first.calls, first.cut) == (second.calls, second.cut)
    if not first.calls and not thinking and "<think>" not in text:
        assert "".join(part.text for part in whole if isinstance(part, Text)) == text
