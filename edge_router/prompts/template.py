"""A model's chat template: messages to the one text that the model was trained to continue."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from edge_router.chat.message import Message
from edge_router.errors import TemplateError
from edge_router.prompts.files import CONFIG_FILE, read_object, template_of
from edge_router.prompts.forms import Turn, conversation, forms, marked_like, shape_of, size_of
from edge_router.prompts.sandbox import Budget, LimitedEnvironment, LimitReached

_PLAIN_DATE = re.compile(r"(%[-_a-zA-Z%]|%-[a-zA-Z]|[^%])*")  # no widths: "%999999999Y" is valid too
_SHAPES = 256  # of conversations whose outcome is remembered
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, slots=True)
class TemplateLimits:
    """What rendering may build in characters, `times_input` for each one of the messages, and seconds."""

    work: int = 16_000_000
    times_input: int = 64
    output: int = 64_000
    output_times_input: int = 4
    seconds: float = 2.0


class Guard(Protocol):
    """Keeps a text from being read as marks of the template; `own` is one that the model has written."""

    def __call__(self, text: str, *, own: bool = False) -> str: ...


def unguarded(text: str, *, own: bool = False) -> str:
    """The `Guard` that changes nothing."""
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

    def render(self, messages: Sequence[Message], *, guard: Guard = ...) -> str: ...


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
        self._lossless: dict[
            tuple[object, ...], bool
        ] = {}  # shape of a conversation -> nothing of it is lost
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

    def render(self, messages: Sequence[Message], *, guard: Guard = unguarded) -> str:
        """The prompt, ready for the assistant's next words. `guard` is applied to whatever messages say.

        Some templates refuse system messages, tool calls or roles that don't alternate; some leave them out
        without a word. Rather than refuse the user, or lose what was said, it is then put in another form.
        """
        failed: TemplateError | None = None
        lossy: str | None = None
        for form in forms(conversation(messages, guard)):
            try:
                written = self.write(form)
            except _Refused as refusal:
                failed = failed or TemplateError(self._model, refusal.reason)
                continue
            if self._keeps(form):
                return written
            lossy = written if lossy is None else lossy
        if lossy is None:
            raise failed or TemplateError(self._model, "it takes no form of these messages")
        return lossy

    def write(self, turns: Sequence[Turn]) -> str:
        """What the template makes of the turns just as they are. Raises `TemplateError`."""
        size = sum(map(size_of, turns))
        limits = self._limits
        longest = limits.output + limits.output_times_input * size
        parts: list[str] = []
        length = 0
        try:
            with self._environment.spending(Budget(limits.work + limits.times_input * size, limits.seconds)):
                for part in self._template.generate(
                    **self._variables, messages=[dict(turn) for turn in turns], add_generation_prompt=True
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

    def _keeps(self, turns: Sequence[Turn]) -> bool:
        """Whether all is written that is said in a conversation of this shape: seen with made-up words."""
        shape = shape_of(turns)
        if shape not in self._lossless:
            if len(self._lossless) >= _SHAPES:
                self._lossless.clear()
            self._lossless[shape] = self._writes(*marked_like(shape))
        return self._lossless[shape]

    def _writes(self, words: Sequence[str], turns: Sequence[Turn]) -> bool:
        """Whether all `words` of the turns and of their calls are written."""
        try:
            written = self.write(turns).lower()
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
