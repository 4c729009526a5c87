"""A model's chat template: messages to the one text that the model was trained to continue."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from edge_router.errors import InvalidModel, TemplateError
from edge_router.prompts.sandbox import Budget, LimitedEnvironment
from edge_router.types import Message

_PLAIN_DATE = re.compile(r"(%[-_a-zA-Z%]|%-[a-zA-Z]|[^%])*")  # no widths: "%999999999Y" is valid too
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, slots=True)
class TemplateLimits:
    """What rendering may build in characters, `times_input` for each one of the messages, and seconds."""

    work: int = 16_000_000
    times_input: int = 64
    output: int = 64_000
    output_times_input: int = 4
    seconds: float = 2.0


class Template(Protocol):
    """What makes a prompt of messages. `begin` are tokens before the text, `stops` end an answer."""

    @property
    def begin(self) -> tuple[int, ...]: ...

    @property
    def stops(self) -> tuple[str, ...]: ...

    def render(self, messages: Sequence[Message], *, guard: Callable[[str], str] = ...) -> str: ...


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
        limits: TemplateLimits = TemplateLimits(),
    ) -> None:
        self._model, self._variables, self._limits = model, dict(variables or {}), limits
        self._environment = LimitedEnvironment([_Generation])
        self._environment.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "namespace": _Namespace,
        }
        try:
            self._template = self._environment.limited_template(source)
        except Exception as error:  # a template is code: it can fail in any way
            raise TemplateError(model, f"it is not valid: {error}") from error

    @classmethod
    def from_directory(cls, directory: Path, model: str) -> ChatTemplate | None:
        """From chat_template.jinja or tokenizer_config.json; None where neither has one."""
        config = _read_config(directory)
        file = directory / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else _named(config.get("chat_template"))
        if source is None:
            return None
        return cls(source, model=model, variables=special_tokens(directory))

    def render(self, messages: Sequence[Message], *, guard: Callable[[str], str] = lambda text: text) -> str:
        """The prompt, ready for the assistant's next words. `guard` is applied to each message's text.

        Some templates refuse system messages, or roles that don't alternate. Rather than refuse the user,
        their texts are then put together in a way that every template takes.
        """
        turns = [
            replace(turn, role="system" if turn.role == "developer" else turn.role, text=guard(turn.text))
            for turn in messages
        ]
        try:
            return self._rendered(turns)
        except _RefusedError as refusal:
            try:
                return self._rendered(_folded(turns))
            except _RefusedError:
                raise TemplateError(self._model, str(refusal)) from refusal

    def _rendered(self, turns: Sequence[Message]) -> str:
        size = sum(len(turn.text) for turn in turns)
        limits = self._limits
        longest = limits.output + limits.output_times_input * size
        parts: list[str] = []
        length = 0
        try:
            with self._environment.spending(Budget(limits.work + limits.times_input * size, limits.seconds)):
                for part in self._template.generate(
                    **self._variables,
                    messages=[{"role": turn.role, "content": turn.text} for turn in turns],
                    add_generation_prompt=True,
                ):
                    length += len(part)
                    if length > longest:
                        raise TemplateError(self._model, f"its output is longer than {longest} characters")
                    parts.append(part)
        except (_RefusedError, TemplateError):
            raise
        except Exception as error:
            raise TemplateError(self._model, f"{type(error).__name__}: {error}") from error
        return "".join(parts)


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


def _folded(turns: Iterable[Message]) -> list[Message]:
    """User and assistant in turns: whatever else was said is put before the user's next words."""
    folded: list[Message] = []
    for turn in turns:
        role = turn.role if turn.role == "assistant" else "user"
        if folded and folded[-1].role == role:
            folded[-1] = replace(folded[-1], text=f"{folded[-1].text}\n\n{turn.text}")
        else:
            folded.append(replace(turn, role=role))
    return folded


def _read_config(directory: Path) -> dict[str, Any]:
    file = directory / "tokenizer_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidModel(file, f"cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise InvalidModel(file, "does not hold an object")
    return config


def _named(template: object) -> str | None:
    """The template itself, or the one named default out of a list of them."""
    if isinstance(template, list):
        by_name = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = by_name.get("default", next(iter(by_name.values()), None))
    return template if isinstance(template, str) else None


def special_tokens(directory: Path) -> dict[str, str]:
    """Their names in tokenizer_config.json, such as eos_token, and how they are written."""
    found: dict[str, str] = {}
    config = _read_config(directory)
    for name in _SPECIAL_TOKENS:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found
