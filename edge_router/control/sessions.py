"""Which model a conversation stays with: what is known of its turns, and whether a switch is worth it.

`decide` is pure: every case is a row of a table in the tests. `Sessions` remembers who has read which
beginning of a conversation and who has made which call of a tool, by fingerprints, in memory.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field, replace

from edge_router.chat.events import Answering, Event, Finished, TextDelta, ToolCallArguments, ToolCallStart
from edge_router.chat.message import Part, Reasoning, Text, ToolCall
from edge_router.chat.request import ChatRequest
from edge_router.config.sections import SessionsConfig
from edge_router.control.fingerprints import FingerprintedConversation, Fingerprints
from edge_router.metrics.counters import Gauge
from edge_router.records import dataclass
from edge_router.routing.thresholds.metering import BYTES_PER_TOKEN, TokenMeter
from edge_router.routing.thresholds.prices import Prices
from edge_router.types import Hold, Tier

ANSWER_TOKENS, QUESTION_TOKENS = 500, 200  # of an ordinary answer, and of the question before it
ANSWER_S = 5.0  # that people wait for one anyway
MOST_RAISED = 1.0  # upwards: twice the threshold's odds suffice, however long the conversation is
CACHE_S = 600.0  # for so long endpoints keep a prompt that they have read
READS_PER_S: Mapping[Tier, float] = {"weak": 500.0, "strong": 2000.0}  # tokens, before any was measured
FASTEST_PER_S = 20_000.0  # no endpoint is; what it had at hand and does not tell of looks so
_MEASURED_TOKENS = 500  # of fewer, an endpoint's time says more of the way there
_EDGE = 1e-6  # a score of exactly 0 or 1 has no odds


@dataclass(frozen=True, slots=True)
class AnsweredTurn:
    """An answer that was given: by whom, how many tokens its model has read and written up to its end, when
    (on the table's clock), and the fingerprint of the system message that stood before all."""

    tier: Tier
    model: str
    endpoint: str | None
    tokens: int
    at: float
    system: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """What is known of the conversation that a request goes on with.

    `last` is the turn that it goes on from, `maker` the one whose calls of tools have their results here, and
    `signed` that those calls come with thoughts that whoever signed them wants back. `held` is how many
    tokens of the conversation each model has still at hand.
    """

    conversation: FingerprintedConversation
    last: AnsweredTurn | None = None
    maker: AnsweredTurn | None = None
    signed: bool = False
    held: Mapping[Tier, int] = field(default_factory=dict)
    endpoint: Answering | None = None  # the strong model's that has read it so far


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading costs: in the strong model's money where its prices are known, in time in any case."""

    stickiness: float = 1.0
    prices: Prices | None = None
    reads_per_s: Mapping[Tier, float] = field(default_factory=lambda: dict(READS_PER_S))


@dataclass(frozen=True, slots=True)
class Held:
    """The conversation stays with `tier`, and why; `tokens` is what the other one would have had to read."""

    tier: Tier
    why: Hold
    tokens: int = 0


def decide(session: Session, score: float, threshold: float, facts: Facts) -> Held | None:
    """What holds the conversation where it is; None where the score alone decides, or decides the same.

    Results of tools go to whoever made the call. Else the odds of the score must be beyond those of the
    threshold by the share by which the switch makes an ordinary answer dearer, or slower: upwards by no more
    than `MOST_RAISED`, downwards without a bound.
    """
    wanted: Tier = "strong" if score >= threshold else "weak"
    if session.maker is not None:
        tokens = _unread(session, wanted) if wanted != session.maker.tier else 0
        return Held(session.maker.tier, "tool_call", tokens)
    if session.signed:  # by a strong model, in a conversation that this process has not seen begin
        return Held("strong", "tool_call", _unread(session, wanted) if wanted == "weak" else 0)
    if session.last is None or session.last.tier == wanted:
        return None
    raised = facts.stickiness * _raised(session, wanted, facts)
    if wanted == "strong":
        beyond = _odds(score) / _odds(threshold)
        raised = min(raised, MOST_RAISED)
    else:
        beyond = _odds(threshold) / _odds(score)
    if beyond >= 1 + raised:
        return None
    return Held(session.last.tier, "prompt", _unread(session, wanted))


def _raised(session: Session, wanted: Tier, facts: Facts) -> float:
    """By how much of itself the switch makes an ordinary answer dearer or slower."""
    again = _unread(session, wanted)
    slower = again / facts.reads_per_s[wanted] / ANSWER_S
    if facts.prices is None:
        return slower
    fresh = facts.prices.price_in * QUESTION_TOKENS + facts.prices.price_out * ANSWER_TOKENS
    if fresh <= 0:
        return slower
    if wanted == "strong":
        return again * facts.prices.price_in / fresh
    # What the strong model has at hand is lost, and the weak one has to read.
    return max(slower, session.held.get("strong", 0) * facts.prices.price_in / fresh)


def _unread(session: Session, tier: Tier) -> int:
    """How many tokens of the conversation so far it would have to read."""
    return max(max(session.held.values(), default=0) - session.held.get(tier, 0), 0)


def _odds(chance: float) -> float:
    chance = min(max(chance, _EDGE), 1 - _EDGE)
    return chance / (1 - chance)


class Sessions:
    """The table. Safe to use from any number of threads; keeps no words, and no more than `settings` say."""

    def __init__(
        self,
        settings: SessionsConfig,
        prices: Prices | None = None,
        *,
        prints: Fingerprints | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self.clock = settings, clock
        self._prints = prints or Fingerprints()
        self._turns: OrderedDict[bytes, AnsweredTurn] = OrderedDict()
        self._reads_per_s: dict[Tier, float] = dict(READS_PER_S)
        self.facts = Facts(settings.stickiness, prices, self._reads_per_s)
        self._measured: set[Tier] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._turns)

    def gauges(self) -> tuple[Gauge, ...]:
        text = "Turns of conversations that are remembered, by the fingerprints they are found by."
        return (Gauge("edge_router_session_fingerprints", text, (), lambda: [((), float(len(self)))]),)

    def look(self, request: ChatRequest) -> Session | None:
        """What is known of it; None for what is no conversation, and where they are switched off."""
        if not self._settings.enabled or request.raw_prompt is not None:
            return None
        conversation = self._prints.conversation(request)
        with self._lock:
            return self._looked(conversation)

    def _looked(self, conversation: FingerprintedConversation) -> Session:
        now = self.clock()
        results = conversation.results
        turns = list(self._read(conversation, now))
        maker = self._maker(conversation, results, now) if results else None
        last = maker or next(iter(turns), None)
        if last is None and conversation.named:
            last = self._turn(conversation.scope, now)
        held: dict[Tier, int] = {}
        for turn in turns:
            at_hand = turn.system == conversation.system and (turn.tier == "weak" or now - turn.at <= CACHE_S)
            held.setdefault(turn.tier, turn.tokens if at_hand else 0)
        strong = next((turn for turn in (maker, *turns, last) if turn and turn.endpoint is not None), None)
        endpoint = Answering(strong.model, strong.endpoint) if strong and strong.endpoint else None
        thoughts = (part for part in conversation.last_answer if isinstance(part, Reasoning))
        signed = bool(results) and any(part.opaque for part in thoughts)
        return Session(conversation, last, maker, signed, held, endpoint)

    def _read(self, conversation: FingerprintedConversation, now: float) -> Iterator[AnsweredTurn]:
        """The last turn of each model that the conversation goes on from, the longest first."""
        tiers: set[Tier] = set()
        for keys in conversation.answers:
            turn = next((found for key in keys if (found := self._turn(key, now)) is not None), None)
            if turn is not None and turn.tier not in tiers:
                tiers.add(turn.tier)
                yield turn
                if len(tiers) == 2:
                    return

    def _maker(
        self, conversation: FingerprintedConversation, results: frozenset[str], now: float
    ) -> AnsweredTurn | None:
        """Who made the calls whose results these are: by all that went before, a call, what was asked."""
        whole, asked = next(conversation.answers, (b"", b""))
        calls = [
            part for part in conversation.last_answer if isinstance(part, ToolCall) and part.id in results
        ]
        keys = (whole, *(self._prints.call(conversation, call) for call in calls), asked)
        return next((found for key in keys if (found := self._turn(key, now)) is not None), None)

    def _turn(self, key: bytes, now: float) -> AnsweredTurn | None:
        turn = self._turns.get(key)
        if turn is None or now - turn.at > self._settings.ttl_s:
            return None
        self._turns.move_to_end(key)
        return turn

    def noted(
        self,
        events: Iterator[Event],
        session: Session | None,
        request: ChatRequest,
        answerer: tuple[Tier, str],
        spare: Callable[[], AbstractContextManager[object]],
    ) -> Iterator[Event]:
        """`events` of a tier's model, and who answers noted: as they begin, and before their end is seen.

        What goes wrong with that is within `spare()`.
        """
        if session is None:
            return events
        turn = AnsweredTurn(*answerer, None, 0, 0.0, session.conversation.system)
        return _heard(events, _Listener(self, session, request, turn), spare)

    def given_again(
        self,
        events: Sequence[Event],
        session: Session | None,
        request: ChatRequest,
        answerer: tuple[Tier, str, str | None],
    ) -> None:
        """An answer of a tier's model and endpoint that was kept: the conversation is theirs, of which they
        have read no more than before."""
        if session is not None:
            turn = AnsweredTurn(*answerer, session.held.get(answerer[0], 0), 0.0, session.conversation.system)
            listener = _Listener(self, session, request, turn, anew=False)
            for event in events:
                listener.heard(event)

    def note(
        self, session: Session, turn: AnsweredTurn, parts: tuple[Part, ...] = (), *, anew: bool = True
    ) -> None:
        """`turn` has answered; `parts` are the whole answer, once it is whole. Without `anew` what is known
        of such a turn stays as it is."""
        conversation = session.conversation
        keys = [conversation.asked]
        if parts:
            keys.append(self._prints.answered(conversation, parts))
        keys += [self._prints.call(conversation, part) for part in parts if isinstance(part, ToolCall)]
        keys += [conversation.scope] if conversation.named else []
        now = self.clock()
        turn = replace(turn, at=now)
        with self._lock:
            for key in keys:
                if anew or self._turn(key, now) is None:
                    self._turns[key] = turn
                    self._turns.move_to_end(key)
            while len(self._turns) > self._settings.max_fingerprints:
                self._turns.popitem(last=False)
            oldest = next(iter(self._turns.items()), None)
            while oldest is not None and now - oldest[1].at > self._settings.ttl_s:
                del self._turns[oldest[0]]
                oldest = next(iter(self._turns.items()), None)

    def measured(self, tier: Tier, tokens: int, seconds: float) -> None:
        """So many tokens of a prompt were read in that time."""
        if tokens <= 0 or seconds <= 0:
            return
        with self._lock:
            rate, known = tokens / seconds, self._reads_per_s[tier]
            self._reads_per_s[tier] = known + (rate - known) / 4 if tier in self._measured else rate
            self._measured.add(tier)


def _heard(
    events: Iterator[Event], listener: _Listener, spare: Callable[[], AbstractContextManager[object]]
) -> Iterator[Event]:
    try:
        for event in events:
            try:
                listener.heard(event)
            except Exception:  # a block around each event would take as long as all else does
                with spare():
                    raise
            yield event
            if not listener.noted:  # behind the first words, which need not wait for it
                with spare():
                    listener.begin()
    finally:
        with spare():
            listener.begin()
        if isinstance(events, Generator):
            events.close()


class _Listener:
    """Hears one answer, and notes it: its beginning, so that who breaks it off may go on, and its end."""

    def __init__(
        self,
        sessions: Sessions,
        session: Session,
        request: ChatRequest,
        turn: AnsweredTurn,
        *,
        anew: bool = True,
    ) -> None:
        """`anew`: its model makes it now, and has read what stands before it."""
        self._sessions, self._session, self._request, self._turn = sessions, session, request, turn
        self._anew = anew
        self._asked_at, self._waited_s = sessions.clock(), 0.0
        self.noted = self._begun = False
        self._text: list[str] = []
        self._calls: dict[int, tuple[ToolCallStart, list[str]]] = {}

    def heard(self, event: Event) -> None:
        if isinstance(event, Answering):
            self._turn = replace(self._turn, model=event.model, endpoint=event.endpoint)
            return
        if not self._begun:
            self._begun, self._waited_s = True, self._sessions.clock() - self._asked_at
        if isinstance(event, TextDelta):
            self._text.append(event.text)
        elif isinstance(event, ToolCallStart):
            self._calls[event.index] = (event, [])
        elif isinstance(event, ToolCallArguments):
            self._calls[event.index][1].append(event.text)
        elif isinstance(event, Finished):
            self.begin()
            self._end(event)

    def begin(self) -> None:
        """Note that it has begun, if it has and nobody did yet."""
        if self.noted or not self._begun:
            return
        self.noted = True
        if self._anew:
            self._turn = replace(self._turn, tokens=TokenMeter(self._request).most().prompt_tokens)
        self._sessions.note(self._session, self._turn, anew=self._anew)

    def _end(self, end: Finished) -> None:
        text = "".join(self._text)
        calls = [(start, "".join(pieces)) for start, pieces in self._calls.values()]
        written = [ToolCall(start.id, start.name, arguments, start.free) for start, arguments in calls]
        parts: tuple[Part, ...] = (Text(text), *written)
        if not self._anew:
            self._sessions.note(self._session, self._turn, parts, anew=False)
            return
        tokens = self._turn.tokens + len(text) // BYTES_PER_TOKEN
        if end.usage is not None:
            tokens = end.usage.prompt_tokens + end.usage.completion_tokens
        self._sessions.note(self._session, replace(self._turn, tokens=tokens), parts)
        self._measure(end)

    def _measure(self, end: Finished) -> None:
        timings, usage = end.timings, end.usage
        if timings is not None and timings.prefill_s is not None:
            self._sessions.measured(self._turn.tier, timings.prefill_tokens, timings.prefill_s)
        elif self._turn.tier == "strong" and usage is not None:
            read = usage.prompt_tokens - usage.cached_tokens
            if read >= _MEASURED_TOKENS:
                self._sessions.measured("strong", read, max(self._waited_s, read / FASTEST_PER_S))
