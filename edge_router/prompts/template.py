"""A model's chat template: messages to the one text that the model was trained to continue."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from edge_router.chat.message import Message
from edge_router.chat.request import ReasoningOptions, Tool
from edge_router.errors import TemplateError
from edge_router.prompts.files import CONFIG_FILE, read_object, template_of
from edge_router.prompts.forms import (
    Turn,
    conversation,
    declared,
    forms,
    marked_like,
    shape_of,
    size_of,
    within_system,
)
from edge_router.prompts.sandbox import Budget, LimitedEnvironment, LimitReached
from edge_router.records import dataclass

_PLAIN_DATE = re.compile(r"(%[-_a-zA-Z%]|%-[a-zA-Z]|[^%])*")  # no widths: "%999999999Y" is valid too
_SHAPES = 256  # of conversations whose outcome is remembered
# What templates call the switch of thoughts, and what they are told how much to think by.
_SWITCHES, _EFFORT = ("enable_thinking", "thinking"), "reasoning_effort"
UNASKED = ReasoningOptions()
_MADE_UP = Tool("qzjtooljzq", "qzjtelljzq")
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, slots=True)
class TemplateLimits:
    """What rendering may build in characters, `times_input` for each one of the messages, and seconds.

    `source` is how long the template may be: to compile one of half a megabyte can take 10 s and 400 MB.
    """

    source: int = 100_000
    work: int = 16_000_000
    times_input: int = 64
    output: int = 64_000
    output_times_input: int = 4
    seconds: float = 2.0


LIMITS = TemplateLimits()


class MarkEscaper(Protocol):
    """Keeps a text from being read as marks of the template; `own` is one that the model has written."""

    def __call__(self, text: str, *, own: bool = False) -> str: ...


def unguarded(text: str, *, own: bool = False) -> str:
    """The `MarkEscaper` that changes nothing."""
    return text


class Template(Protocol):
    """What makes a prompt of messages. `begin` are tokens before the text, `stops` end an answer."""

    @property
    def begin(self) -> tuple[int, ...]: ...

    @property
    def stops(self) -> tuple[str, ...]: ...

    def stopping(self, stops: Sequence[str]) -> Template:
        """The same with other `stops`."""
        ...

    @property
    def takes_tools(self) -> bool:
        """Whether it tells a model of tools."""
        ...

    @property
    def switches_thoughts(self) -> bool:
        """Whether it has a word for thinking or not."""
        ...

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        reasoning: ReasoningOptions = ...,
        guard: MarkEscaper = ...,
    ) -> str: ...


class ChatTemplate:
    """One template, compiled. Safe to use from many threads.

    Raises `TemplateError` when it is not valid, refuses the messages, or goes beyond the limits.
    """

    begin: tuple[int, ...] = ()
    stops: tuple[str, ...] = ()

    def __init__(
        self,
        source: str,
        *,
        model: str,
        variables: Mapping[str, str] | None = None,
        limits: TemplateLimits = LIMITS,
    ) -> None:
        self._model, self._variables, self._limits = model, dict(variables or {}), limits
        # Shape of a conversation, with tools or not -> nothing of it is lost.
        self._lossless: dict[tuple[object, ...], bool] = {}
        self._environment = LimitedEnvironment([_Generation])
        self._environment.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "namespace": _Namespace,
        }
        if len(source) > limits.source:
            raise TemplateError(model, f"it has {len(source)} characters, of at most {limits.source}")
        try:
            self._template = self._environment.limited_template(source)
            self._reads = meta.find_undeclared_variables(self._environment.parse(source))
        except Exception as error:  # a template is code: it can fail in any way
            raise TemplateError(model, f"it is not valid: {error}") from error

    @classmethod
    def from_directory(cls, directory: Path, model: str) -> ChatTemplate | None:
        """From whichever file of a model directory has one; None where none has. Raises `InvalidModel`."""
        source = template_of(directory)
        return (
            None
            if source is None
            else cls(source, model=model, variables=special_tokens(read_object(directory / CONFIG_FILE)))
        )

    def stopping(self, stops: Sequence[str]) -> ChatTemplate:
        changed = copy.copy(self)
        changed.stops = tuple(stops)
        return changed

    @property
    def takes_tools(self) -> bool:
        return self._tools_home is not None

    @cached_property
    def _tools_home(self) -> str | None:
        """Where it reads of tools: in a variable, or within the system's message."""
        asked, tools = [{"role": "user", "content": "?"}], declared([_MADE_UP], unguarded)
        if self._writes([_MADE_UP.name], asked, {"tools": tools}):
            return "variable"
        return "system" if self._writes([_MADE_UP.name], within_system(asked, tools)) else None

    @property
    def switches_thoughts(self) -> bool:
        return any(name in self._reads for name in _SWITCHES)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        reasoning: ReasoningOptions = UNASKED,
        guard: MarkEscaper = unguarded,
    ) -> str:
        """The prompt, ready for the assistant's next words. `guard` is applied to whatever others say.

        Some templates refuse system messages, tool calls or roles that don't alternate; some leave them out
        without a word. Rather than refuse the user, or lose what was said, it is then put in another form.
        """
        failed: TemplateError | None = None
        lossy: str | None = None
        described = declared(tools, guard)
        given = self._switches(reasoning)
        for form in forms(conversation(messages, guard)):
            try:
                written = self.write(*self._with_tools(form, described, given))
            except _Refused as refusal:
                failed = failed or TemplateError(self._model, refusal.reason)
                continue
            if self._keeps(form, tools=bool(tools)):
                return written
            lossy = written if lossy is None else lossy
        if lossy is None:
            raise failed or TemplateError(self._model, "it takes no form of these messages")
        return lossy

    def _switches(self, reasoning: ReasoningOptions) -> dict[str, object]:
        """What it is told of thinking; where nothing is asked it does as it always does."""
        enabled, effort = reasoning.enabled, reasoning.effort
        if enabled is None and effort is not None:
            enabled = effort != "none"
        found: dict[str, object] = {}
        if enabled is not None:
            found |= {name: enabled for name in _SWITCHES if name in self._reads}
        if effort is not None and _EFFORT in self._reads:
            found[_EFFORT] = effort
        return found

    def _with_tools(
        self, turns: Sequence[Turn], tools: Sequence[Turn], given: Mapping[str, object]
    ) -> tuple[Sequence[Turn], Mapping[str, object]]:
        """Turns and variables; without tools no word of them, for some templates cannot take None."""
        if not tools:
            return turns, given
        if self._tools_home == "system":
            return within_system(turns, tools), given
        return turns, {**given, "tools": tools}

    def write(self, turns: Sequence[Turn], given: Mapping[str, object] = MappingProxyType({})) -> str:
        """What the template makes of the turns and of `given` variables just as they are.

        Raises `TemplateError`.
        """
        size = sum(map(size_of, turns)) + (len(json.dumps(given, default=str)) if given else 0)
        limits = self._limits
        longest = limits.output + limits.output_times_input * size
        parts: list[str] = []
        length = 0
        variables = {**self._variables, **given}
        try:
            with self._environment.spending(Budget(limits.work + limits.times_input * size, limits.seconds)):
                for part in self._template.generate(
                    **variables, messages=[dict(turn) for turn in turns], add_generation_prompt=True
                ):
                    length += len(part)
                    if length > longest:
                        raise TemplateError(self._model, f"its output is longer than {longest} characters")
                    parts.append(part)
        except TemplateError:
            raise
        except LimitReached as error:
            raise TemplateError(self._model, f"{type(error).__name__}: {error}") from error
        except _RefusedError as error:
            raise _Refused(self._model, str(error)) from error
        except Exception as error:
            raise _Refused(self._model, f"{type(error).__name__}: {error}") from error
        return "".join(parts)

    def _keeps(self, turns: Sequence[Turn], *, tools: bool = False) -> bool:
        """Whether all is written that is said in a conversation of this shape: seen with made-up words."""
        shape = shape_of(turns)
        key = (*shape, tools)
        if key not in self._lossless:
            if len(self._lossless) >= _SHAPES:
                self._lossless.clear()
            words, said = marked_like(shape)
            described = declared([_MADE_UP], unguarded) if tools else []
            self._lossless[key] = self._writes(words, *self._with_tools(said, described, {}))
        return self._lossless[key]

    def _writes(
        self, words: Sequence[str], turns: Sequence[Turn], given: Mapping[str, object] = MappingProxyType({})
    ) -> bool:
        """Whether all `words` of the turns and of their calls are written."""
        try:
            written = self.write(turns, given).lower()
        except TemplateError:
            return False
        return all(word in written for word in words)


class _Refused(TemplateError):
    """The template has no place for such messages; another form of them may do."""


class _RefusedError(Exception):
    """The template called raise_exception."""


class _Generation(Extension):
    """`{% generation %}` marks what training learns from; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own way

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Jinja's namespace, without names that mean something to Python, and not shown with its contents."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            _check_attribute(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


def _check_attribute(name: object) -> None:
    if str(name).startswith("_"):
        raise ValueError(f"a namespace may not hold {name!r}")


def _raise_exception(message: object) -> None:
    raise _RefusedError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > 100 or not _PLAIN_DATE.fullmatch(form):
        raise ValueError(f"not a plain date format: {form[:100]!r}")
    return datetime.now().strftime(form)


def special_tokens(config: Mapping[str, object]) -> dict[str, str]:
    """Their names in a tokenizer_config.json, such as eos_token, and how they are written."""
    found: dict[str, str] = {}
    for name in _SPECIAL_TOKENS:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found
