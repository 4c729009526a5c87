"""What every engine promises.

An engine turns messages into a stream of events (`chat/events.py`). It is used from threads, never from the
event loop: `stream` may block. What must hold:

- `stream` raises before it yields, or yields; the last event is `Finished` (with `usage` where the engine
  knows it). Nothing follows it.
- An error before the first event leaves the controller free to ask the other engine; one after it ends
  the stream as an `EngineError`. Another library's exceptions never leave an engine: they become ours in
  one place, with the cause kept.
- `cancel` is looked at before every token; once it is set the stream ends by raising `Cancelled`.
  Closing the generator does the same.
- Any number of threads may stream at once; an engine that can't do that queues them in fair order.
- `close` may be called twice, and ends what is running.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from edge_router.chat.events import Event
from edge_router.chat.request import ChatRequest, Need
from edge_router.types import Cancel


class Engine(Protocol):
    """A weak or a strong model that answers."""

    @property
    def model_id(self) -> str:
        """The name that clients see in `model`."""
        ...

    @property
    def context_window_size(self) -> int | None:
        """Tokens; None where it is not known (a remote model)."""
        ...

    @property
    def serves(self) -> frozenset[Need]:
        """What it can do beside plain text."""
        ...

    def count_tokens(self, request: ChatRequest) -> int | None:
        """Prompt tokens of `request` as this engine would see them, or None where it can't say.

        Cheap (no model runs), so that the controller can escalate a prompt that doesn't fit.
        """
        ...

    def stream(self, request: ChatRequest, cancel: Cancel) -> Iterator[Event]:
        """The answer, piece by piece. Raises `EngineError`, `ContextOverflow`."""
        ...

    def close(self) -> None:
        """Release the device, the connection, the threads."""
        ...


@runtime_checkable
class Trained(Engine, Protocol):
    """An engine that knows for how long a context its model was trained."""

    @property
    def longest_context(self) -> int | None:
        """Tokens, however many its window has room for."""
        ...


@runtime_checkable
class Weighing(Engine, Protocol):
    """An engine that can say how likely replies are without giving one."""

    def weigh(self, request: ChatRequest, replies: Sequence[str], cancel: Cancel) -> tuple[float, ...]:
        """The logit of each reply, a token, behind the prompt. Raises what `stream` raises."""
        ...


@runtime_checkable
class Calling(Engine, Protocol):
    """An engine that can be asked to call tools, and of which it can be measured how well it does."""

    @property
    def can_call(self) -> bool:
        """Whether its model has learned to at all."""
        ...

    @property
    def weights_key(self) -> str | None:
        """Of the artifact with its weights, where there is one."""
        ...


@runtime_checkable
class Queueing(Protocol):
    """An engine that lets answers wait for each other, and can say how many do."""

    def ahead(self, cancel: Cancel) -> int | None:
        """How many are before the answer that `cancel` would end; None where it has its turn."""
        ...
