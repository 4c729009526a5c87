"""All callers of one controller: what each may use, how much, and from which money."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, Self

from edge_router.callers.allowance import Allowance, Standing
from edge_router.callers.allowed import AUTO, Allowed
from edge_router.chat.events import Event
from edge_router.chat.request import ChatRequest
from edge_router.config.callers import CallerConfig
from edge_router.config.settings import Config
from edge_router.engines.fleet.limits import CountedQuestion
from edge_router.errors import CallerLimited, ModelNotAllowed, UnknownName
from edge_router.records import dataclass
from edge_router.registry import nearest
from edge_router.routing.thresholds.metering import TokenMeter
from edge_router.routing.thresholds.purses import Budgets, Purses
from edge_router.system.paths import Paths
from edge_router.types import LATEST


@dataclass(frozen=True, slots=True)
class Caller:
    """One of them, or whoever asks without being one: `settings` are None, and there is no bound."""

    settings: CallerConfig | None
    allowance: Allowance | None = None


class ModelNames(Protocol):
    """The names that the weak and the strong model have of their own."""

    @property
    def weak(self) -> Collection[str]: ...

    @property
    def strong(self) -> Collection[str]: ...


_ALL = Allowed()


class Visit:
    """One request, from its beginning to the end of its answer, as far as its caller's limits count it.

    A block of it that fails has ended it.
    """

    def __init__(
        self,
        allowance: Allowance | None = None,
        usage: CountedQuestion | None = None,
        request: ChatRequest | None = None,
    ) -> None:
        self._allowance, self._usage = allowance, usage
        self._meter = None if request is None else TokenMeter(request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self.end(None)

    def metered(self, events: Iterator[Event]) -> Iterator[Event]:
        """`events`, looked at as they pass: who leaves before the end has had what came so far."""
        return events if self._meter is None else _read(events, self._meter)

    def end(self, tokens: int | None) -> None:
        """May be called twice. None: nobody has said how many, so that they are estimated."""
        usage, self._usage = self._usage, None
        if tokens is None and self._meter is not None:
            tokens = self._meter.estimate().total_tokens
        if self._allowance is not None and usage is not None:
            self._allowance.end(usage, tokens)


def _read(events: Iterator[Event], meter: TokenMeter) -> Iterator[Event]:
    try:
        for event in events:
            meter.read(event)
            yield event
    finally:
        if isinstance(events, Generator):
            events.close()


class Callers:
    """Safe to use from several threads. A `caller` that is None is bound by nothing but the common budget."""

    def __init__(
        self,
        config: Config,
        paths: Paths,
        names: Callable[[], ModelNames],
        refused: Callable[[str, str], None] = lambda caller, error: None,
    ) -> None:
        """`names`: those of the models, as they are now. `refused`: who met an error of which name."""
        self._names, self._refused, self.budgets = names, refused, Budgets.of(config, paths)
        self._known = {each.name: Caller(each, Allowance(each)) for each in config.callers}
        self._nobody = Caller(None)

    def find(self, name: str | None) -> Caller:
        """Raises `UnknownName`."""
        if name is None:
            return self._nobody
        if name not in self._known:
            known = tuple(self._known)
            raise UnknownName("caller", name, known, nearest(name, known))
        return self._known[name]

    def allowed(self, name: str | None) -> Allowed:
        """What it may ask for. Raises `UnknownName`."""
        settings = self.find(name).settings
        if settings is None or not settings.models:
            return _ALL
        names = self._names()
        return Allowed(settings.models, names.weak, names.strong)

    def asked(self, request: ChatRequest) -> ChatRequest:
        """`request` as it is meant: `auto` is what its caller gets for it, by the models that he may use.

        Raises `UnknownName`, `ModelNotAllowed`.
        """
        settings = self.find(request.caller).settings
        if settings is None:
            return request
        self.check_model(request.caller, request.target)
        is_auto = request.target.removesuffix(LATEST) == AUTO
        target = settings.model if is_auto and settings.model is not None else request.target
        return replace(request, target=target, among=self.allowed(request.caller).among)

    def permits(self, caller: str | None, name: str) -> bool:
        """Whether a request of its may have `name` as its model."""
        settings = self.find(caller).settings
        own = settings is not None and settings.model is not None and name.removesuffix(LATEST) == AUTO
        return own or self.allowed(caller).permits(name)

    def check_model(self, caller: str | None, name: str) -> None:
        """Raises `ModelNotAllowed`."""
        if not self.permits(caller, name):
            self._refused(caller or "", ModelNotAllowed.__name__)
            raise ModelNotAllowed(name, self.allowed(caller).models)

    def check(self, request: ChatRequest) -> None:
        """Whether it may begin now; nothing is counted.

        Raises `UnknownName`, `ModelNotAllowed`, `CallerLimited`.
        """
        allowance = self.find(request.caller).allowance
        if allowance is not None:
            self.asked(request)
            with self._told(request.caller):
                allowance.check(_tokens(request))

    def begin(self, request: ChatRequest) -> Visit:
        """It begins. Raises `UnknownName`, `CallerLimited`."""
        allowance = self.find(request.caller).allowance
        if allowance is None:
            return Visit()
        with self._told(request.caller):
            usage = allowance.begin(_tokens(request))
        return Visit(allowance, usage, request if allowance.counts_tokens else None)

    def count(self, caller: str | None, tokens: int) -> None:
        """Something that takes no time, such as an embedding. Raises as `begin`."""
        allowance = self.find(caller).allowance
        if allowance is not None:
            with self._told(caller):
                allowance.end(allowance.begin(tokens), tokens)

    @contextmanager
    def _told(self, caller: str | None) -> Iterator[None]:
        try:
            yield
        except CallerLimited as error:
            self._refused(caller or "", type(error).__name__)
            raise

    def purses(self, caller: str | None) -> Purses:
        return self.budgets.purses(caller)

    def standing(self, caller: str | None) -> Standing:
        """What is left of its limits."""
        allowance = self.find(caller).allowance
        return Standing() if allowance is None else allowance.standing


def _tokens(request: ChatRequest) -> int:
    return TokenMeter(request).most().prompt_tokens
