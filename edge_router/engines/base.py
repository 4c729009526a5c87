"""What every engine promises.

An engine turns messages into a stream of events (`chat/events.py`). It is used from threads, never from the
event loop: `stream` may block. What must hold:

- A request is prepared once: what it takes to render and to count is in its `Prompt`.
- `stream` raises before it yields, or yields; the last event is `Finished` (with `usage` where the engine
  knows it). Nothing follows it.
- An error before the first event leaves the controller free to ask the other engine; one after it ends
  the stream as an `EngineError`. Another library's exceptions never leave an engine: they become ours in
  one place, with the cause kept.
- `cancel` is looked at before every token; once it is set the stream ends by raising `Cancelled`.
  Closing the generator does the same.
- Any number of threads may stream at once; an engine that can't do that queues them in fair order.
- A stream that comes by itself, as over a network, may be `Arriving`: then no thread waits for it where the
  answer is read on an event loop, and what is `here` is read on that loop. `remote/background.py` makes one
  of any asynchronous generator.
- `close` may be called twice, and ends what is running.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

from edge_router.chat.events import Event
from edge_router.chat.request import ChatRequest, Need
from edge_router.questions.inquiry import Inquiry, InquiryEvent
from edge_router.records import dataclass
from edge_router.types import Cancel

if TYPE_CHECKING:
    from edge_router.vram import Plan


# What any engine serves that chooses the tokens itself.
CHOOSING = frozenset({Need.LOGPROBS, Need.MASK})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do: needs it `serves` beyond plain text, and sizes, None where they are not known.

    `trained_context` is for how many tokens its model was trained, however many its window has room for.
    `vocab_size` counts the tokens that have a text. What was calibrated for a model is found by `weights`.
    `learned_tools`: its model was taught to call tools at all; how well has to be measured.
    `learned_thoughts`: to think before it answers, within marks; None where only its endpoint knows.
    `decides`: it answers typed questions, so that it is `Decides`, whatever else it is.
    `endpoint`: its name among those that are paid, where it is not the strong model's only one.
    """

    serves: frozenset[Need] = frozenset()
    context_window: int | None = None  # tokens
    trained_context: int | None = None
    vocab_size: int | None = None
    weights: str | None = None
    learned_tools: bool = False
    learned_thoughts: bool | None = None
    decides: bool = False
    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as one engine reads it, rendered and tokenized once. Another engine has another prompt.

    `count` is None where only the model's endpoint can count, `tokens` where the engine has none to show.
    """

    request: ChatRequest
    count: int | None = None
    tokens: Sequence[int] | None = None


class Engine(Protocol):
    """A weak or a strong model that answers."""

    @property
    def model_id(self) -> str:
        """The name that clients see in `model`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """As they are now: a window may shrink with the memory that is free."""
        ...

    def prepare(self, request: ChatRequest) -> Prompt:
        """`request`, ready to be answered; no model runs. Raises `InvalidRequest`, `TemplateError`."""
        ...

    def stream(self, prompt: Prompt, cancel: Cancel) -> Iterator[Event]:
        """The answer, piece by piece, to what this engine prepared; its request may have been replaced by
        one with the same messages. Raises `EngineError`, `ContextOverflow`."""
        ...

    def close(self) -> None:
        """Release the device, the connection, the threads."""
        ...


T = TypeVar("T")


class Arriving(Generator[T, None, None]):
    """A stream that comes by itself: `next` waits for it, and whoever would rather not is told when.

    Nothing runs before it is asked for, in one way or the other.
    """

    @property
    @abstractmethod
    def here(self) -> bool:
        """Whether `next` has something to give at once."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether nothing but the end, or an error, is left: `next` raises at once."""

    @abstractmethod
    def when_here(self, tell: Callable[[], None]) -> None:
        """`tell` is called once, from any thread and perhaps at once, when it is `here` or `over`."""

    @abstractmethod
    def turned(self, turn: Callable[[T], Iterable[T]]) -> Arriving[T]:
        """The same, before it has begun, with each item turned into none, one or several as it comes.

        `turn` must not wait.
        """


def turned(events: Iterator[T], turn: Callable[[T], Iterable[T]]) -> Iterator[T]:
    """`events`, each turned into none, one or several others; `Arriving` where they are."""
    if isinstance(events, Arriving):
        return events.turned(turn)
    return _turned(events, turn)


def _turned(events: Iterator[T], turn: Callable[[T], Iterable[T]]) -> Iterator[T]:
    try:
        for event in events:
            yield from turn(event)
    finally:
        if isinstance(events, Generator):
            events.close()


def answered(engine: Engine, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
    """The answer of `engine` to `request`. Raises what both steps raise."""
    return engine.stream(engine.prepare(request), cancel)


@runtime_checkable
class Weighing(Engine, Protocol):
    """An engine that can say how likely replies are without giving one."""

    def score_choices(self, prompt: Prompt, replies: Sequence[str], cancel: Cancel) -> tuple[float, ...]:
        """The logit of each reply, a token, behind the prompt. Raises what `stream` raises."""
        ...


@runtime_checkable
class Decides(Protocol):
    """An engine that answers typed questions, where its capabilities say so."""

    def decide(self, inquiry: Inquiry, cancel: Cancel) -> Iterator[InquiryEvent]:
        """The answers as they are found; the same promises as of `stream` hold. Its usage counts a token
        that all questions share once, those of the questions as prompt, and none as completion unless some
        were written. Raises `EngineError`, `ContextOverflow` for a state that may not be cut."""
        ...


@runtime_checkable
class Resident(Protocol):
    """An engine whose model takes memory of this machine, which may be given back while nobody asks."""

    @property
    def plan(self) -> Plan | None:
        """What it allocates by, where that was planned."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether it is in memory now."""
        ...


@runtime_checkable
class Reaching(Protocol):
    """An engine whose model may lie on another machine."""

    @property
    def leaves(self) -> bool:
        """Whether it does, so that what it is asked passes the guard."""
        ...


@runtime_checkable
class Queueing(Protocol):
    """An engine that lets answers wait for each other, and can say how many do."""

    def ahead(self, cancel: Cancel) -> int | None:
        """How many are before the answer that `cancel` would end; None where it has its turn."""
        ...


@dataclass(frozen=True, slots=True)
class Restarts:
    """How an engine's process fares: `count` times it was started again, after ending for this `reason` last.

    While it is "pausing" or "starting" it answers nobody.
    """

    state: Literal["running", "starting", "pausing"]
    count: int = 0
    reason: str | None = None


@runtime_checkable
class Restartable(Protocol):
    """An engine in a process of its own, which is started again when it has ended."""

    @property
    def restarts(self) -> Restarts:
        """How often it was started again, and what it ended of last."""
        ...


@dataclass(frozen=True, slots=True)
class EndpointState:
    """How one of several endpoints fares. `again_s`: seconds until it is asked again, where that is known.

    "cooling": it asked to wait; "failing": left alone, but for one question now and then.
    """

    name: str
    state: Literal["ready", "cooling", "failing"]
    in_flight: int = 0
    again_s: float | None = None


@runtime_checkable
class Gathering(Protocol):
    """An engine that has several endpoints to ask."""

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """The state of each, in the order in which they are set."""
        ...


@runtime_checkable
class Unloading(Engine, Protocol):
    """An engine that can give its memory back, and has it again when it is asked next."""

    def unload(self) -> None:
        """Once nobody waits for an answer. Returns at once."""
        ...


@runtime_checkable
class Reloading(Engine, Protocol):
    """An engine that can have its memory again before it is asked for an answer."""

    def load(self) -> None:
        """Returns once it is there. Raises `EngineError`."""
        ...
