"""What every surface promises: bodies to requests, events to bytes, errors in its protocol's own form."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from edge_router.chat.events import Event
from edge_router.chat.model import ModelInfo
from edge_router.chat.reply import Reply
from edge_router.chat.request import ChatRequest
from edge_router.records import dataclass
from edge_router.types import Decision

if TYPE_CHECKING:
    from edge_router.questions.result import Answers
    from edge_router.routing.routers.embedding import EmbeddedTexts

Body = dict[str, object]  # one JSON object
FILES = "files beside it"  # of a body


@dataclass(frozen=True, slots=True)
class Call:
    """A request and how the caller wants to receive the answer. `options` are the surface's own.

    `afterwards` is done in a thread once the answer has ended, however it ended, also where none began.
    """

    request: ChatRequest
    stream: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    afterwards: Callable[[SurfaceHost], None] | None = None


@dataclass(frozen=True, slots=True)
class QuestionsCall:
    """A request of typed questions, and what writes the body of their answers.

    `any_model`: a name that nobody knows stands for the default one, as clients send the name of a model that
    only their own service has.
    """

    request: ChatRequest
    write: Callable[[Head, Answers], Body]
    any_model: bool = False


@dataclass(frozen=True, slots=True)
class Errand:
    """What stands where chats are taken and asks for no answer of a model, such as loading one."""

    run: Callable[[SurfaceHost], Body]


@dataclass(frozen=True, slots=True)
class Head:
    """What stands of an answer when it begins. `id` has no prefix; `created` is in seconds since 1970."""

    id: str
    created: int
    model: str
    decision: Decision

    @classmethod
    def begun(cls, model: str, decision: Decision) -> Head:
        """Of an answer that begins now."""
        return cls(secrets.token_hex(16), int(time.time()), model, decision)


@dataclass(frozen=True, slots=True)
class Failure:
    """What a client is told of an error: an HTTP status, one sentence, and OpenAI's words for its kind."""

    status: int
    message: str
    type: str
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Encoder(Protocol):
    """Writes one streamed answer. Exactly one of `end` and `fail` is called, last."""

    def feed(self, event: Event) -> bytes:
        """What `event` adds; nothing for what this protocol has no word for."""
        ...

    def end(self) -> bytes:
        """The last words of an answer whose `Finished` was fed."""
        ...

    def fail(self, failure: Failure) -> bytes:
        """The last words of an answer that breaks off, so that no client takes it for a whole one."""
        ...


class Surface(Protocol):
    """One protocol. Pure and safe to use from any thread. One that takes chats is `Chatting`, too."""

    @property
    def name(self) -> str:
        """What it is called wherever it is told of, such as "openai-chat"."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Where it takes chats, by POST."""
        ...

    @property
    def media_type(self) -> str:
        """Of a stream."""
        ...

    @property
    def queries(self) -> tuple[SurfaceQuery, ...]:
        """What else it answers."""
        ...

    def parse(self, path: str, body: Mapping[str, object]) -> Call | QuestionsCall | Errand:
        """Raises `InvalidRequest` that names the field."""
        ...

    def error(self, failure: Failure) -> Body:
        """The body of an error that comes before any of the answer."""
        ...

    def comment(self, text: str) -> bytes:
        """What keeps a stream open and no client takes for a part of the answer; `text` is in one line."""
        ...


@runtime_checkable
class Chatting(Surface, Protocol):
    """A protocol whose requests are chats."""

    def encoder(self, call: Call, head: Head) -> Encoder:
        """What writes one streamed answer to `call`, which begins as `head` says."""
        ...

    def whole(self, call: Call, head: Head, reply: Reply) -> Body:
        """The body of an answer that is not streamed."""
        ...


@runtime_checkable
class Restating(Protocol):
    """A protocol with statuses of its own."""

    def status(self, failure: Failure) -> int:
        """The HTTP status of an error, in the place of its usual one."""
        ...


@runtime_checkable
class TakesFiles(Protocol):
    """A protocol whose bodies may be multipart."""

    @property
    def files_beside(self) -> str:
        """The name of the part that holds the JSON. What the other ones hold stands in the body that is
        parsed, as `FILES`: bytes by the parts' names."""
        ...


class SurfaceHost(Protocol):
    """What the questions beside chats are answered from. May block: it is used in a thread."""

    def models(self) -> tuple[ModelInfo, ...]:
        """The models that chats may ask for, as they are listed."""
        ...

    def model(self, name: str) -> ModelInfo:
        """Of any name that may be asked for, also one that is not listed. Raises `UnknownName` and others."""
        ...

    def count_tokens(self, request: ChatRequest) -> int:
        """Of the prompt as the weak model would read it. Raises `EdgeRouterError`."""
        ...

    def embed(self, texts: tuple[str, ...], model: str, *, truncate: bool = True) -> EmbeddedTexts:
        """A vector for each text. Raises `EdgeRouterError`; without `truncate` also for one too long."""
        ...

    def load(self, model: str) -> None:
        """Have it ready. Raises `EdgeRouterError`."""
        ...

    def unload(self, model: str) -> None:
        """Give its memory back."""
        ...


@dataclass(frozen=True, slots=True)
class SurfaceQuery:
    """A question that is answered at once, in one body. `answer` gets the body and the host; for GET the
    parameters behind the path's "?", as text, are the body.

    Of two with one method and path, the one whose `header` a request has is meant.
    """

    method: Literal["GET", "POST", "DELETE", "HEAD"]
    path: str  # in starlette's form: "/v1/models/{model:path}"; its parameters are in the body, too
    answer: Callable[[Mapping[str, object], SurfaceHost], Body]
    header: str | None = None  # only requests that have it, in lower case
