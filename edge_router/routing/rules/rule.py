"""One rule: its conditions, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import time
from typing import Protocol

from edge_router.records import dataclass
from edge_router.routing.rules.patterns import Either, Spans
from edge_router.routing.rules.query import Query

BLOCK, LOCAL_ONLY, REDACT = "block", "local_only", "redact"
PROTECTING = (BLOCK, LOCAL_ONLY, REDACT)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Condition(Protocol):
    """`key`: what it is called in the file."""

    @property
    def key(self) -> str: ...

    def holds(self, query: Query) -> bool: ...


@dataclass(frozen=True, slots=True)
class Says:
    """One of some words or expressions stands in the request, or in what the user said `last`."""

    key: str
    spans: Sequence[Spans]
    last: bool
    words: tuple[str, ...] = ()  # in small letters, one of which must be there for it to look closer
    among: Either | None = None  # or one of these expressions

    def holds(self, query: Query) -> bool:
        if self.words:
            small = query.small_last if self.last else query.small
            if not any(word in small for word in self.words):
                return False
        if self.among is not None and not query.has(self.among, last=self.last):
            return False
        text = query.last if self.last else query.whole
        return any(next(spans(text), None) is not None for spans in self.spans)


@dataclass(frozen=True, slots=True)
class Contains:
    kinds: frozenset[str]
    key: str = "content"

    def holds(self, query: Query) -> bool:
        return bool(self.kinds & query.content) or ("code" in self.kinds and query.has_code)


@dataclass(frozen=True, slots=True)
class Length:
    """In characters, of what the user said last or of everything."""

    key: str
    bound: int
    last: bool

    def holds(self, query: Query) -> bool:
        length = len(query.last if self.last else query.whole)
        return length > self.bound if self.key == "longer_than" else length < self.bound


@dataclass(frozen=True, slots=True)
class LanguageCondition:
    names: frozenset[str]
    key: str = "language"

    def holds(self, query: Query) -> bool:
        return query.language in self.names


@dataclass(frozen=True, slots=True)
class MetadataCondition:
    """All of the named entries have one of their values."""

    wanted: Mapping[str, frozenset[str]]
    key: str = "metadata"

    def holds(self, query: Query) -> bool:
        said = query.metadata
        return all(str(said.get(name)).lower() in values for name, values in self.wanted.items())


@dataclass(frozen=True, slots=True)
class ProgramCondition:
    """What the calling program calls itself has one of these in it."""

    names: tuple[str, ...]
    key: str = "program"

    def holds(self, query: Query) -> bool:
        called = (query.request.program or "").lower()
        return any(name in called for name in self.names)


@dataclass(frozen=True, slots=True)
class Hours:
    """From the first minute up to the last, over midnight where that is the earlier one."""

    begin: time
    end: time
    key: str = "hours"

    def holds(self, query: Query) -> bool:
        now = query.now.time()
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end


@dataclass(frozen=True, slots=True)
class Days:
    names: frozenset[str]
    key: str = "days"

    def holds(self, query: Query) -> bool:
        return DAYS[query.now.weekday()] in self.names


@dataclass(frozen=True, slots=True)
class Rule:
    """`then`: one of `PROTECTING`, or a model by any name that a request may give it."""

    name: str
    then: str
    conditions: tuple[Condition, ...] = ()
    message: str = ""

    def holds(self, query: Query) -> bool:
        return all(condition.holds(query) for condition in self.conditions)

    def finds(self, query: Query) -> bool:
        """Whether something that it looks for stands there, whatever its other conditions say."""
        return any(each.holds(query) for each in self.conditions if isinstance(each, Says))

    @property
    def texts(self) -> tuple[Spans, ...]:
        """Where what it looks for stands: what `redact` hides."""
        return tuple(spans for each in self.conditions if isinstance(each, Says) for spans in each.spans)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one request: each of these is a rule that holds, or none."""

    block: Rule | None = None
    local_only: Rule | None = None
    redact: tuple[Rule, ...] = ()
    model: Rule | None = None


def judged(rules: Sequence[Rule], query: Query) -> Verdict:
    holding = [rule for rule in rules if rule.holds(query)]

    def first(then: str) -> Rule | None:
        return next((rule for rule in holding if rule.then == then), None)

    named = next((rule for rule in holding if rule.then not in PROTECTING), None)
    hiding = tuple(rule for rule in holding if rule.then == REDACT)
    return Verdict(first(BLOCK), first(LOCAL_ONLY), hiding, named)
