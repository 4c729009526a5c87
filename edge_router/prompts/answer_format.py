"""How a model writes thoughts and calls of tools: told from its own chat template and vocabulary."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from edge_router.chat.message import Message, Text, ToolCall, ToolResult
from edge_router.chat.request import Tool
from edge_router.errors import TemplateError
from edge_router.prompts.forms import Turn, with_calls
from edge_router.prompts.template import ChatTemplate, Template
from edge_router.prompts.turns import MARK
from edge_router.records import dataclass

# How a call is written within its marks:
#   json      {"name": NAME, "arguments": {...}}, alone or in a list, or NAME, `middle`, {...}
#   elements  <function=NAME><parameter=KEY>VALUE</parameter></function>
#   keywords  NAME(KEY=VALUE, ...), as Python has it
#   bare      call:NAME{KEY:VALUE, ...} with texts between quotes of their own
Style = Literal["json", "elements", "keywords", "bare"]

TOOL, KEY, VALUE = "qzjtooljzq", "qzjkeyjzq", "qzjvaluejzq"  # of the call that a template is shown
_ID = "qzjcalljz"
_CALL = {"id": _ID, "type": "function", "function": {"name": TOOL, "arguments": {KEY: VALUE}}}
_ASKED: Turn = {"role": "user", "content": "?"}
_CALLED: Turn = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
_RESULT: Turn = {"role": "tool", "content": "!", "tool_call_id": _ID, "name": TOOL}
_ANSWERED: Turn = {"role": "assistant", "content": VALUE}
_THOUGHT: Turn = {**_ANSWERED, "reasoning_content": KEY}
_SWITCHED: tuple[Mapping[str, object], ...] = ({}, {"enable_thinking": True}, {"enable_thinking": False})


@dataclass(frozen=True, slots=True)
class ThoughtMarks:
    """What stands before thoughts and behind them."""

    open: str
    close: str


@dataclass(frozen=True, slots=True)
class CallFormat:
    """`open`, calls with `between` them, `close`; a call is `head`, its name, `middle`, arguments, `tail`.

    Where `json` has no `head` the name is a member of the object, and `middle` may be empty. `listed`: the
    calls are in one JSON list. `again`: each call has an `open` of its own. White space in the marks is what
    the model writes; any other is read as well.
    """

    style: Style = "json"
    open: str = ""
    head: str = ""
    middle: str = ""
    tail: str = ""
    between: str = ""
    close: str = ""
    arguments: str = "arguments"
    listed: bool = False
    again: bool = False
    quote: str = '"'  # of `bare` texts

    @property
    def named(self) -> bool:
        """Whether the name stands outside of the JSON."""
        return self.style == "json" and bool(self.head or self.middle)

    @property
    def marks(self) -> tuple[str, ...]:
        """What the vocabulary may have tokens for."""
        texts = (self.open, self.head, self.middle, self.tail, self.close, *self.also)
        found = [mark for text in texts for mark in _MARK.findall(text)]
        return tuple(dict.fromkeys([*found, *([self.quote] if self.quote != '"' else [])]))

    @property
    def also(self) -> tuple[str, ...]:
        """Other words than `open` that may begin the same."""
        return ("<|python_tag|>",) if self.bare else ()

    @property
    def bare(self) -> bool:
        """Whether nothing but its brace, at the start of an answer, tells a call."""
        return self.style == "json" and not self.open and not self.head

    @property
    def openings(self) -> tuple[str, ...]:
        """What calls begin with."""
        first = (self.open or self.head).strip()
        return tuple(mark for mark in (first, *self.also) if mark)


# The forms in use; the first of them that a template writes is the model's.
FAMILIES: dict[str, CallFormat] = {
    "qwen coder": CallFormat("elements", "<tool_call>\n", close="\n</tool_call>", between="\n", again=True),
    "hermes": CallFormat("json", "<tool_call>\n", close="\n</tool_call>", between="\n", again=True),
    "phi": CallFormat("json", "<|tool_call|>", close="<|/tool_call|>", listed=True),
    "mistral, name first": CallFormat("json", "[TOOL_CALLS]", middle="[ARGS]", again=True),
    "mistral": CallFormat("json", "[TOOL_CALLS]", listed=True),
    "deepseek": CallFormat(
        "json",
        "<｜tool▁calls▁begin｜>",
        head="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        middle="\n```json\n",
        tail="\n```<｜tool▁call▁end｜>",
        between="\n",
        close="<｜tool▁calls▁end｜>",
    ),
    "deepseek, name first": CallFormat(
        "json",
        "<｜tool▁calls▁begin｜>",
        head="<｜tool▁call▁begin｜>",
        middle="<｜tool▁sep｜>",
        tail="<｜tool▁call▁end｜>",
        close="<｜tool▁calls▁end｜>",
    ),
    "lfm": CallFormat("keywords", "<|tool_call_start|>", close="<|tool_call_end|>", listed=True),
    "gorilla": CallFormat("keywords", "<<function>>", again=True),
    "gemma 4": CallFormat("bare", "<|tool_call>", close="<tool_call|>", again=True, quote='<|"|>'),
    "function gemma": CallFormat(
        "bare", "<start_function_call>", close="<end_function_call>", again=True, quote="<escape>"
    ),
    "llama": CallFormat("json", between="; ", arguments="parameters"),
}
THOUGHTS = (
    ThoughtMarks("<think>", "</think>"),
    ThoughtMarks("[THINK]", "[/THINK]"),
    ThoughtMarks("<thinking>", "</thinking>"),
    ThoughtMarks("<|channel>thought", "<channel|>"),
)
ELEMENT_END = "\n</parameter>"  # of a value within `elements`
_MARK = re.compile(
    r"<\|[^<>|\s]{1,60}\|>|<｜[^<>｜\s]{1,60}｜>|<\|?/?\w{1,40}\|?>|<<\w{1,40}>>|\[/?[A-Z_]{2,40}\]"
)
_ENDS = re.compile(r"\W|_?(start|begin|end)")  # what tells marks of a pair apart
# A mark of nobody we know before a call in JSON, and one behind it.
_UNKNOWN = re.compile(rf'({_MARK.pattern})\s*(\[\s*)?{{\s*"name":\s*"{TOOL}",\s*"(arguments|parameters)":')


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """What a model's answers are made of beside text. Without `calls` it has learned to call no tools."""

    thoughts: ThoughtMarks | None = None
    calls: CallFormat | None = None

    @classmethod
    def of(cls, template: Template | None, vocabulary: Collection[str]) -> AnswerFormat:
        """Seen in made-up conversations; `vocabulary` are the tokens that were added to it."""
        if isinstance(template, ChatTemplate):
            calls = _calls_of(template, vocabulary) if template.takes_tools else None
            return cls(_thoughts_of(template, vocabulary), calls)
        takes = template is not None and template.takes_tools
        return cls(None, FAMILIES["gorilla"] if takes else None)

    @property
    def marks(self) -> tuple[str, ...]:
        thoughts = (self.thoughts.open, self.thoughts.close) if self.thoughts is not None else ()
        found = [mark for text in thoughts for mark in _MARK.findall(text)]
        return (*found, *(self.calls.marks if self.calls is not None else ()))

    def inside(self, prompt: str) -> bool:
        """Whether an answer to `prompt` begins in the midst of thoughts."""
        return self.thoughts is not None and prompt.rstrip().endswith(self.thoughts.open)


TEXT_ONLY = AnswerFormat()


def speech_marks(template: Template | None) -> tuple[str, ...]:
    """What a template writes around tools, calls and results, and no message may hold."""
    if not isinstance(template, ChatTemplate) or not template.takes_tools:
        return ()
    asked = [Message("user", "?"), Message("assistant", [ToolCall(_ID, TOOL, "{}")])]
    talk = [*asked, Message("tool", [ToolResult(_ID, (Text("!"),))])]
    try:
        return tuple(dict.fromkeys(MARK.findall(template.render(talk, tools=[Tool(TOOL)]))))
    except TemplateError:
        return ()


def _calls_of(template: ChatTemplate, vocabulary: Collection[str]) -> CallFormat | None:
    """By what it writes of a made-up call; one that writes none is told by the tokens of its model."""
    written = _shown(template, [_ASKED, _CALLED, _RESULT], TOOL, VALUE)
    if written is None:
        marked = (form for form in FAMILIES.values() if form.open and {*form.marks} <= {*vocabulary})
        return next((form for form in marked if form.style == "json"), None)
    for form in FAMILIES.values():
        if not form.bare and (found := _matching(form, written)) is not None:
            return found
    plain = _shown(template, [_ASKED, _ANSWERED, _ASKED], VALUE) or ""
    return _of_nobody(written, plain) or _matching(FAMILIES["llama"], written)


def _of_nobody(written: str, plain: str) -> CallFormat | None:
    """JSON between marks that no family here has, and that do not stand in a `plain` conversation."""
    found = _UNKNOWN.search(written)
    if found is None or found[1] in plain:
        return None
    mark, listed, key = found.groups()
    end = next((each[0] for each in _MARK.finditer(written, written.find(VALUE)) if each[0] not in plain), "")
    close = end if _ENDS.sub("", end) == _ENDS.sub("", mark) else ""
    return CallFormat("json", mark, close=close, arguments=key, listed=bool(listed), again=not listed)


def _thoughts_of(template: ChatTemplate, vocabulary: Collection[str]) -> ThoughtMarks | None:
    """Those that it writes, around thoughts or before an answer without; else those that have tokens."""
    conversations = ([_ASKED], [_ASKED, _THOUGHT])
    texts = [_written(template, turns, given) for turns in conversations for given in _SWITCHED]
    for marks in THOUGHTS:
        if any(marks.open in text and marks.close in text for text in texts):
            return marks
    return next((marks for marks in THOUGHTS if {marks.open, marks.close} <= set(vocabulary)), None)


def _shown(template: ChatTemplate, turns: list[Turn], *words: str) -> str | None:
    """What it writes of the turns in the first form that keeps these words, calls being calls."""
    texts = (_written(template, form) for form in with_calls(turns))
    return next((text for text in texts if all(word in text for word in words)), None)


def _written(
    template: ChatTemplate, turns: Sequence[Turn], given: Mapping[str, object] = MappingProxyType({})
) -> str:
    try:
        return template.write(turns, given)
    except TemplateError:
        return ""


def _matching(form: CallFormat, written: str) -> CallFormat | None:
    """`form` with its ways of today where it is what was `written`."""
    for variant in _variants(form):
        before, behind = _around(variant)
        if re.search(f"{before}{TOOL}{behind}", written):
            return variant
    return None


def _variants(form: CallFormat) -> Iterator[CallFormat]:
    """Alone or in a list, and with either word for arguments."""
    yield form
    if form.style == "json" and not form.named:
        for key in ("arguments", "parameters"):
            yield replace(form, arguments=key)
            if form.open and form.listed:
                yield replace(form, arguments=key, listed=False, again=True)


def _around(form: CallFormat) -> tuple[str, str]:
    """Patterns of what stands before the name and behind it."""
    begin = r"\s*".join(_loose(text) for text in (form.open, form.head) if text.strip())
    if form.style == "elements":
        return begin + r"\s*<function=", r">\s*<parameter="
    if form.style == "keywords":
        return begin + r"\s*\[?", rf"\({KEY}="
    if form.style == "bare":
        return begin + r"\s*call:", rf"\{{{KEY}:{_loose(form.quote)}{VALUE}"
    if form.named:
        return begin + r"\s*", rf"(?:\[CALL_ID\]\w*)?\s*{_loose(form.middle)}\s*\{{"
    bracket = r"\s*\[\s*" if form.listed else r"\s*"
    return begin + bracket + r'\{\s*"name":\s*"', rf'",\s*"{form.arguments}":'


def _loose(text: str) -> str:
    return r"\s*".join(re.escape(word) for word in text.split())
