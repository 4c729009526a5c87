"""Asking the strong model later for what the weak one answered only because it could not be asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Literal

from edge_router.callers.allowed import Allowed
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, Tool, ToolChoice
from edge_router.config.settings import Config
from edge_router.config.tiers import chosen
from edge_router.control.answer import Answer
from edge_router.control.egress import Egress
from edge_router.engines.remote.kept_question import read
from edge_router.errors import (
    Blocked,
    Cancelled,
    EdgeRouterError,
    GenerationFailed,
    InvalidRequest,
    ModelNotAllowed,
    StrongError,
    StrongFailed,
    StrongNotConfigured,
    StrongRefused,
    StrongUnreachable,
    UnknownName,
    UnsupportedRequest,
    Withheld,
)
from edge_router.ledger import Ledger
from edge_router.ledger.upgrades import Better, KeptAnswer, Upgrades
from edge_router.records import dataclass
from edge_router.routing.thresholds.metering import TokenMeter
from edge_router.routing.thresholds.prices import Prices
from edge_router.types import Cancel, Decision, Reason

State = Literal["open", "better", "declined", "refused"]
# Of the question, which stays what it is; anything else is of the strong model, and may pass.
_SETTLED = (Blocked, InvalidRequest, ModelNotAllowed, UnknownName, UnsupportedRequest, Withheld)
_NOT_WANTED = (400, 413, 422)  # HTTP


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An answer that the strong model was not there for, by its id in the ledger; `better` is its own, once
    it has been asked.

    `refused` names the error why it does not better this one; `cost_at_most` is what asking may cost, and
    `cost` what it did. Both are None without prices.
    """

    id: int
    time: float
    reason: Reason
    prompt: str
    model: str
    answer: str
    state: State
    cost_at_most: float | None = None
    refused: str | None = None
    better: str | None = None
    better_model: str | None = None
    better_time: float | None = None
    cost: float | None = None

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "reason": str(self.reason)}


class Upgrader:
    """Safe to use from several threads. Raises `StorageError`, `InvalidData` of the ledger."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger | None,
        egress: Egress,
        start: Callable[[ChatRequest, Cancel | None], Answer],
        strong: Callable[[], Collection[str]],
        allowed: Callable[[str | None], Allowed],
    ) -> None:
        """`strong`: the names of the strong model; none where there is none. `allowed`: what the caller of
        that name may use."""
        self._config, self._egress, self._start = config, egress, start
        self._strong, self._allowed = strong, allowed
        self._kept: Upgrades | None = None if ledger is None else ledger.upgrades

    @cached_property
    def _prices(self) -> Prices | None:
        return Prices.highest(self._config)

    def find(self, ids: tuple[int, ...] = (), since: float = 0.0) -> tuple[Upgrade, ...]:
        """All that are kept, oldest first, in any state. Raises `InvalidRequest` for an id that is not."""
        kept = () if self._kept is None else self._kept.find(since=since, ids=ids)
        missing = set(ids) - {each.record.id for each in kept}
        if missing:
            reason = f"the ledger keeps no answer {min(missing)} that the strong model was wanted for"
            raise InvalidRequest("id", reason)
        return tuple(self._told(each) for each in kept)

    def ask(
        self,
        ids: tuple[int, ...] = (),
        *,
        since: float = 0.0,
        max_cost: float | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[Upgrade]:
        """Each as soon as it is answered, or refused for good: those of `ids`, or all that are open.

        Ends before one that could take the sum above `max_cost`. Raises what keeps the strong model from
        answering; what was not asked stays open.
        """
        if max_cost is not None and self._prices is None:
            raise InvalidRequest("max_cost", "needs strong.price_in and strong.price_out")
        found = self.find(ids, since)
        wanted = [each for each in found if each.state == "open" or (ids and each.state != "better")]
        if wanted:
            self._check()
        spent, answered = 0.0, False
        doubtful: list[tuple[int, StrongError]] = []
        for each in wanted:
            if max_cost is not None and spent + (each.cost_at_most or 0.0) > max_cost:
                break
            try:
                done = self._better(each.id, cancel)
            except (StrongRefused, StrongFailed) as error:
                # The question is to blame, or the settings: the next one tells.
                if isinstance(error, StrongFailed) and error.status not in _NOT_WANTED:
                    raise
                if doubtful and not answered:
                    raise
                doubtful.append((each.id, error))
                done = None
            if done is not None:
                spent += done.cost or 0.0
                answered = answered or done.better is not None
                yield done
            while answered and doubtful:
                yield self._refused(*doubtful.pop())
        if doubtful:
            raise doubtful[0][1]

    def decline(self, number: int) -> None:
        """The weak model's answer is good enough: it is asked about no more."""
        self.find((number,))
        if self._kept is not None:
            self._kept.decline(number)

    @property
    def waiting(self) -> bool:
        """Whether one is open."""
        return any(each.state == "open" for each in self.find())

    def _check(self) -> None:
        """Raises what keeps all of them from being asked."""
        if self._config.offline:
            raise StrongUnreachable(self._config.strong.base_url or "", "the network is switched off")
        if not self._strong():
            raise StrongNotConfigured

    def _better(self, number: int, cancel: Cancel | None) -> Upgrade | None:
        """None where another process has it."""
        assert self._kept is not None
        if not self._kept.claim(number):
            return None
        try:
            (kept,) = self._kept.find(ids=(number,))
            if kept.better is None:
                self._answer(number, kept, cancel)
        finally:
            self._kept.release(number)
        return self.find((number,))[0]

    def _answer(self, number: int, kept: KeptAnswer, cancel: Cancel | None) -> None:
        assert self._kept is not None
        try:
            request = self._request(kept)
            answer = self._start(request, cancel)
            reply = collect(answer)
        except _SETTLED as error:
            self._refused(number, error)
            return
        if answer.cancelled:
            raise Cancelled
        if not reply.text.strip():
            self._refused(number, GenerationFailed(answer.model, "it ended without a word"))
            return
        prices = self._prices_of(answer.decision.endpoint)
        cost = None if prices is None or reply.usage is None else prices.cost(reply.usage)
        better = Better(reply.text, answer.model, time.time(), cost)
        self._kept.better(number, better, reply.usage)

    def _refused(self, number: int, error: EdgeRouterError) -> Upgrade:
        assert self._kept is not None
        self._kept.refuse(number, type(error).__name__)
        return self.find((number,))[0]

    def _request(self, kept: KeptAnswer) -> ChatRequest:
        """As it is asked now, by the rules of now. Raises `Withheld` where they name the weak model."""
        request = read(kept.request)
        if any(isinstance(tool, Tool) for tool in request.tools):  # nobody is there to act upon a call
            request = replace(request, tool_choice=ToolChoice("none"))
        rule = self._egress.judge(request).model
        if rule is None or rule.then == "auto" or rule.then.startswith("router-"):
            return self._by_rights(request, self._wanted(kept.record.decision))
        if rule.then == "strong":
            return self._by_rights(request, (request.target,))
        if rule.then not in self._config.strong_names:
            raise Withheld(rule=rule.name)
        return replace(self._by_rights(request, (request.target,)), target=rule.then)

    def _wanted(self, decision: Decision) -> Sequence[str]:
        """Who is to answer it, the best fit first: of several stronger models by the score that it had."""
        tiers = self._config.tiers
        names = [tier.model for tier in tiers[1:]]
        if not names or not set(names) <= set(self._strong()):  # a program may pass in one of its own
            return ("strong",)
        place = names.index(chosen(tiers, decision.score))
        return (*names[place:], *reversed(names[:place]))

    def _by_rights(self, request: ChatRequest, wanted: Sequence[str]) -> ChatRequest:
        """As its caller may be answered, by the first of those `wanted` that is allowed.

        Raises `ModelNotAllowed`, and `UnknownName` for one that is gone.
        """
        allowed = self._allowed(request.caller)
        if allowed.stays:
            raise ModelNotAllowed("strong", allowed.models)
        target = next(filter(allowed.permits, wanted), (*allowed.among, wanted[0])[0])
        request = replace(request, target=target)
        # Who has no more than "auto" names no model; whoever runs this may.
        return request if allowed.permits(request.target) else replace(request, caller=None)

    def _told(self, kept: KeptAnswer) -> Upgrade:
        record, better = kept.record, kept.better
        try:
            request = read(kept.request)
            prompt, most = request.messages[-1].text, TokenMeter(request).most()
        except InvalidRequest:
            prompt, most = record.prompt or "", None
        cost = None if self._prices is None or most is None else self._prices.cost(most)
        return Upgrade(
            id=record.id or 0,
            time=record.time,
            reason=record.decision.reason,
            prompt=prompt,
            model=record.model,
            answer=kept.answer,
            state=_state(kept),
            cost_at_most=cost if better is None else None,
            refused=kept.refused,
            better=None if better is None else better.text,
            better_model=None if better is None else better.model,
            better_time=None if better is None else better.time,
            cost=None if better is None else better.cost,
        )

    def _prices_of(self, endpoint: str | None) -> Prices | None:
        own = next((each for each in self._config.endpoints if each.name == endpoint), None)
        return (None if own is None else Prices.of(own)) or self._prices


def _state(kept: KeptAnswer) -> State:
    if kept.better is not None:
        return "better"
    if kept.refused is not None:
        return "refused"
    return "declined" if kept.declined else "open"
