"""One turn of a conversation, and the parts that it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Literal, TypeAlias

from edge_router.records import dataclass

Fields = Mapping[str, object]
Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Text:
    """Words. `extra`, here and in the other parts: what a protocol wrote beside what has a name here."""

    text: str
    extra: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """A picture by its address, which may be a `data:` URL that holds it."""

    url: str
    detail: str | None = None
    extra: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audio:
    """A sound, in base64, in `form` (wav, mp3, ...)."""

    data: str
    form: str
    extra: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class File:
    """A document by its address, which may be a `data:` URL, or by its id at its endpoint."""

    url: str | None = None
    id: str | None = None
    name: str | None = None
    extra: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Thoughts before an answer. `label` is what their endpoint calls them and `opaque` what it signed them
    with: both travel back to it as they came."""

    text: str
    label: str = ""
    opaque: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a model says in place of an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool. `arguments`: JSON as the model wrote it, valid or not; of a `free` tool any text."""

    id: str
    name: str
    arguments: str
    free: bool = False
    extra: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back for the call with `call_id`."""

    call_id: str
    parts: tuple[Part, ...]
    is_error: bool = False
    name: str | None = None
    extra: Fields = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The words of its parts, joined."""
        return text_of(self.parts)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A part that has no name here, in the words of the protocol that wrote it."""

    kind: str
    body: Fields


Part: TypeAlias = Text | Image | Audio | File | Reasoning | Refusal | ToolCall | ToolResult | Foreign
MEDIA = (Image, Audio, File)


def text_of(parts: Sequence[Part]) -> str:
    """The words among them, a line each; refusals are words, thoughts are not."""
    return "\n".join(part.text for part in parts if isinstance(part, Text | Refusal) and part.text)


@dataclass(frozen=True, slots=True, init=False)
class Message:
    """One turn. A string in place of `parts` is one `Text`. `extra` is as in `Text`."""

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extra: Fields = field(default_factory=dict)

    def __init__(
        self,
        role: Role,
        parts: str | Sequence[Part] = (),
        name: str | None = None,
        extra: Fields | None = None,
    ) -> None:
        given = (Text(parts),) if isinstance(parts, str) else tuple(parts)
        for attribute, value in (("role", role), ("parts", given), ("name", name), ("extra", extra or {})):
            object.__setattr__(self, attribute, value)

    @property
    def text(self) -> str:
        """What it says, results of tools included."""
        return "\n".join(
            part.text for part in self.parts if isinstance(part, Text | Refusal | ToolResult) and part.text
        )

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls of tools among its parts, in their order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """The results of tools among its parts, in their order."""
        return tuple(part for part in self.parts if isinstance(part, ToolResult))

    @property
    def has_media(self) -> bool:
        """Whether anything in it is neither text nor a call, in a tool's result either."""
        return any(isinstance(part, (*MEDIA, Foreign)) for part in self.inner)

    @property
    def inner(self) -> tuple[Part, ...]:
        """The parts, those of a tool's result in its place."""
        return tuple(
            each for part in self.parts for each in (part.parts if isinstance(part, ToolResult) else (part,))
        )

    @property
    def has_addresses(self) -> bool:
        """Whether a picture is told by its address only."""
        return any(isinstance(part, Image) and not part.url.startswith("data:") for part in self.inner)


def without_extra(messages: Iterable[Message]) -> tuple[Message, ...]:
    """`messages` for an endpoint of another protocol than the one that they were written in.

    What endpoints hang on calls and sign thoughts with stays, since whoever did wants it back.
    """
    return tuple(Message(message.role, _bare(message.parts), message.name) for message in messages)


def _bare(parts: Sequence[Part]) -> tuple[Part, ...]:
    return tuple(_bare_part(part) for part in parts)


def _bare_part(part: Part) -> Part:
    if isinstance(part, ToolResult):
        return replace(part, parts=_bare(part.parts), extra={})
    return replace(part, extra={}) if isinstance(part, Text | Image | Audio | File) and part.extra else part
