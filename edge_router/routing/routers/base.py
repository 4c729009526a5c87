"""What every router promises.

A router gives a conversation its score: the estimated win rate of the strong model, 0..1, where a query
with `score >= threshold` goes to the strong model. It needs no network and no key. It is called from
threads and may be called by several at once. Same conversation, same score (the control `random` draws
from a hash of the text for that reason). No text is too long, empty or strange to be scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.engines.base import Engine
from edge_router.questions.inquiry import InquiryEvent
from edge_router.questions.question import Question
from edge_router.types import Cancel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
from edge_router.errors import InvalidRouter


class Router(Protocol):
    """A score for each conversation: the estimated win rate of the strong model, 0 to 1."""

    @property
    def name(self) -> str:
        """As it stands in `router-<name>-<threshold>`."""
        ...

    @property
    def default_threshold(self) -> float:
        """What `router-<name>` and `auto` use where the user set none; from the model card."""
        ...

    def score(self, messages: Sequence[Message]) -> float:
        """The score of a conversation, 0..1."""
        ...

    def score_texts(self, texts: Sequence[str]) -> list[float]:
        """The scores of single user turns: evaluation and calibration."""
        ...


@runtime_checkable
class AsksWeak(Protocol):
    """A router that needs the weak model. `weak` loads it on the first call, and raises where it can't."""

    def use_weak(self, weak: Callable[[], Engine]) -> None:
        """Called before the first score."""
        ...


class Judge(Protocol):
    """Who says how hard a request is, here or elsewhere."""

    def ask(
        self, request: ChatRequest, question: Question, cancel: Cancel, *, stays: bool
    ) -> Iterable[InquiryEvent]:
        """What is said of `question` about the conversation of `request`, where that may get there; it must
        not leave this machine if it `stays`. Raises the `EngineError` that fits."""
        ...

    def close(self) -> None:
        """Lets go of connections and models; nothing is asked afterwards."""
        ...


@runtime_checkable
class AsksEndpoint(Protocol):
    """A router that asks a model at an endpoint, and so must know of a request whether it may leave."""

    def use_judge(self, judge: Judge) -> None:
        """Called before the first score. The router closes it."""
        ...

    def score_request(self, request: ChatRequest, *, stays: bool) -> float:
        """The score of a request, 0..1, which may be asked for elsewhere unless it `stays`."""
        ...

    def close(self) -> None:
        """Closes the judge. Nothing is scored afterwards."""
        ...


def checked_score(router: Router, request: ChatRequest, *, stays: bool = False) -> float:
    """`stays`: it must not leave this machine, or its score changes nothing.

    Raises `InvalidRouter`: what is no number would compare as an easy question.
    """
    ask = getattr(router, "score_request", None)  # of `AsksEndpoint`; `isinstance` takes 6 us for a protocol
    score = router.score(request.messages) if ask is None else ask(request, stays=stays)
    if not (isinstance(score, int | float) and 0 <= score <= 1):
        raise InvalidRouter(router.name, f"its score is {score!r}, not a number in 0..1")
    return score


@runtime_checkable
class Embeds(Protocol):
    """A router that makes a vector of a text on its way to the score."""

    @property
    def space(self) -> str:
        """What vectors must share to be compared: the network that made them."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.floating]:
        """[texts, dimension]. Raises `InvalidRouter` where there is none after all."""
        ...
