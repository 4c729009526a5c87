"""One question's way over the endpoints: who may be asked now, and how long it is worth to wait."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from edge_router.chat.events import Answering
from edge_router.engines.fleet.member import Member
from edge_router.engines.remote.failures import FIRST_WAIT_S, is_passing
from edge_router.errors import (
    EdgeRouterError,
    StrongFailed,
    StrongInterrupted,
    StrongPaused,
    StrongRateLimited,
    StrongUnreachable,
)
from edge_router.records import dataclass

LONGEST_WAIT_S = 12.0  # for an endpoint that is at its limit: the weak model answers sooner
TRIAL_WAIT_S = 5.0  # for word of the one question that another is tried with, where all have failed


@dataclass(slots=True, eq=False)
class Candidate:
    """A model of one endpoint. Those of a lower `rank` go before the others. `any_model`: nobody named it;
    `lesser`: less than what is wanted, for need only."""

    member: Member
    model: str
    rank: int = 0
    failures: int = 0  # of this question
    failed_at: float = -math.inf
    again_at: float = -math.inf  # not before that; infinite: not at all
    any_model: bool = False
    lesser: bool = False

    @property
    def fresh(self) -> bool:
        return not self.failures

    @property
    def recovered(self) -> bool:
        """Whether it has answered another question since it failed."""
        return not self.fresh and self.member.answered_at > self.failed_at


def known_first(candidates: Sequence[Candidate], reader: Answering | None) -> Sequence[Candidate]:
    """`candidates`, of which the one that has read the conversation so far goes before all others, with the
    model that did. None that is less than what is wanted does."""
    there = [each for each in candidates if reader is not None and each.member.name == reader.endpoint]
    same = [each for each in there if reader is not None and each.model == reader.model]
    first = min(each.rank for each in candidates)
    for each in same or there:
        if reader is not None and not each.lesser:
            each.rank = first - 1
            if each.any_model and reader.model in each.member.endpoint.models:
                each.model = reader.model
    return candidates


class Course:
    """For one thread. `retries`: how often each is asked again, where that may help."""

    def __init__(
        self,
        candidates: Iterable[Candidate],
        tokens: int,
        *,
        retries: int,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self.candidates = tuple(candidates)
        self.failure: EdgeRouterError | None = None  # of the last that was asked
        self.tokens, self._retries, self._clock, self._draw = tokens, retries, clock, draw
        self._until = clock() + LONGEST_WAIT_S

    def ready(self) -> Sequence[Candidate]:
        """Those that may be asked now, all of them equally good; none where it is to wait.

        Whoever was not asked yet goes before one that failed, and of these one that has answered others
        since; whoever works before one that rests.
        """
        fresh = [each for each in self.candidates if each.fresh]
        recovered = [each for each in self.candidates if each.recovered]
        again = [each for each in self.candidates if not each.fresh and not each.recovered]
        for asked in (fresh, recovered, again):
            for opens_s in (self._open_s, self._early_s):
                kind = [each for each in asked if opens_s(each) <= 0]
                if kind:
                    first = min(each.rank for each in kind)
                    return [each for each in kind if each.rank == first]
        return ()

    def beside(self, asked: Candidate) -> Sequence[Candidate]:
        """Those that may be asked, too, while `asked` is silent."""
        others = [each for each in self.candidates if each.member is not asked.member and each.fresh]
        ready = [each for each in others if not each.lesser and self._open_s(each) <= 0]
        return [each for each in ready if each.rank == min(other.rank for other in ready)]

    def wait_s(self) -> float | None:
        """Seconds until somebody may be asked, or less, should something change; None: nobody will be."""
        left_s = self._until - self._clock()
        waits = [
            wait_s
            for each in self.candidates
            for wait_s in (self._open_s(each), self._early_s(each), self._word_s(each, left_s))
            if wait_s <= left_s
        ]
        return min(waits, default=None) if left_s > 0 else None

    def failed(self, candidate: Candidate, error: EdgeRouterError) -> None:
        self.failure = error
        candidate.failures, candidate.failed_at = candidate.failures + 1, self._clock()
        again = _is_passing(error) and candidate.failures <= self._retries
        wait_s = FIRST_WAIT_S * 2.0 ** (candidate.failures - 1) * (1 - self._draw() / 4)
        candidate.again_at = candidate.failed_at + wait_s if again else math.inf

    def spare(self, candidate: Candidate) -> None:
        """It is not asked again."""
        candidate.again_at = math.inf

    def over(self) -> EdgeRouterError:
        """What is told where nobody can answer."""
        return self.failure or paused([each.member for each in self.candidates], self.tokens)

    def _open_s(self, candidate: Candidate) -> float:
        """Seconds until it may be asked; infinite: nobody knows, or never."""
        if not candidate.member.breaker.passes:
            return math.inf
        return self._not_before(candidate, candidate.member.limits.ready_in(self.tokens))

    def _early_s(self, candidate: Candidate) -> float:
        """Seconds until it may be tried although it rests, where nobody else is left."""
        breaker = candidate.member.breaker
        if not (breaker.passes or breaker.tries_early) or self._has_better(candidate):
            return math.inf
        return self._not_before(candidate, candidate.member.limits.ready_in(self.tokens, early=True))

    def _not_before(self, candidate: Candidate, room_s: float) -> float:
        return max(room_s, candidate.again_at - self._clock())

    def _has_better(self, candidate: Candidate) -> bool:
        """Whether it is better to wait for others than to try it: for one that is busy, which is free in a
        moment, and for any that works where this one would take long to fail."""
        working = [
            each.member
            for each in self.candidates
            if each.fresh == candidate.fresh and each.again_at < math.inf and each.member.breaker.passes
        ]
        return any(member.limits.busy for member in working) or (
            bool(working) and candidate.member.breaker.slow
        )

    def _word_s(self, candidate: Candidate, left_s: float) -> float:
        """How long to wait for what the end, or the beginning, of another question there tells."""
        breaker = candidate.member.breaker
        if candidate.again_at < math.inf and breaker.passes and candidate.member.limits.busy:
            return left_s
        if candidate.again_at < math.inf and breaker.trying_s < TRIAL_WAIT_S:
            return min(TRIAL_WAIT_S - breaker.trying_s, left_s)
        return math.inf


def _is_passing(error: EdgeRouterError) -> bool:
    """Whether the same may go well in a moment. What has timed out has taken its time already."""
    if isinstance(error, StrongFailed):
        return is_passing(error.status)
    return isinstance(error, StrongRateLimited | StrongInterrupted | StrongUnreachable)


def paused(members: Sequence[Member], tokens: int) -> StrongPaused:
    """Why none of them may be asked now: of the first, for what ails the others is shown by doctor."""
    first = members[0]
    url = first.endpoint.place.url
    if first.breaker.passes:
        waits = [each.limits.ready_in(tokens) for each in members if each.breaker.passes]
        soon = min(waits)
        return first.blamed(StrongPaused(url, "it is at its limit", soon if soon < math.inf else None))
    last = "" if first.last is None else f" ({first.last})"
    again = first.breaker.ready_in
    reason = f"it failed{last} and is left alone for another {math.ceil(again)} s"
    return first.blamed(StrongPaused(url, reason, again))
