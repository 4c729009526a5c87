"""Conversations stay with their model: the rule as a table, and what is remembered of turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import pytest
from table import each

from edge_router.chat.events import (
    Answering,
    EngineTimings,
    Event,
    Finished,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Usage,
)
from edge_router.chat.message import Message, Part, Reasoning, Text, ToolCall, ToolResult
from edge_router.chat.request import ChatRequest, Tool
from edge_router.config.sections import SessionsConfig
from edge_router.control.fingerprints import FingerprintedConversation, Fingerprints
from edge_router.control.sessions import AnsweredTurn, Facts, Held, Session, Sessions, decide
from edge_router.routing.thresholds.prices import Prices
from edge_router.types import Tier

NOWHERE = FingerprintedConversation(b"", False, b"", (), (b"",))


def session(
    last: Tier | None = None,
    *,
    weak: int = 0,
    strong: int = 0,
    maker: Tier | None = None,
    signed: bool = False,
) -> Session:
    """`weak` and `strong` are tokens that each has at hand."""

    def turn(tier: Tier | None) -> AnsweredTurn | None:
        return None if tier is None else AnsweredTurn(tier, tier, None, 0, 0.0, b"")

    return Session(NOWHERE, turn(last or maker), turn(maker), signed, {"weak": weak, "strong": strong})


TIMED = Facts(reads_per_s={"weak": 100, "strong": 1000})  # an answer's 5 s are 500 and 5000 tokens
PRICED = replace(TIMED, prices=Prices(1.0, 4.0))  # an ordinary answer costs as much as 2200 tokens read
FREE = replace(TIMED, prices=Prices(0.0, 0.0))
NEW = session()
# Odds of 0.5 are 1, of 0.6 1.5, of 2/3 2, of 0.75 3.
RULE: list[tuple[str, Session, float, Facts, Held | None]] = [
    ("nothing is known", NEW, 0.9, TIMED, None),
    ("nothing is known", NEW, 0.1, TIMED, None),
    ("the score wants the same", session("weak", weak=9000), 0.1, TIMED, None),
    ("the score wants the same", session("strong", strong=9000), 0.9, TIMED, None),
    # upwards, in time
    ("nothing to read", session("weak", weak=0), 0.5, TIMED, None),
    ("half an answer's time", session("weak", weak=2500), 0.59, TIMED, Held("weak", "prompt", 2500)),
    ("half an answer's time", session("weak", weak=2500), 0.61, TIMED, None),
    ("half of it is known there", session("weak", weak=2500, strong=1500), 0.55, TIMED, None),
    ("however long it is", session("weak", weak=90_000), 0.66, TIMED, Held("weak", "prompt", 90_000)),
    ("however long it is, twice the odds suffice", session("weak", weak=90_000), 0.67, TIMED, None),
    # upwards, in money
    ("half an answer's price", session("weak", weak=1100), 0.59, PRICED, Held("weak", "prompt", 1100)),
    ("half an answer's price", session("weak", weak=1100), 0.61, PRICED, None),
    ("a price of nothing: time counts", session("weak", weak=2500), 0.59, FREE, Held("weak", "prompt", 2500)),
    # downwards
    ("slow to read", session("strong", strong=500), 0.34, TIMED, Held("strong", "prompt", 500)),
    ("slow to read, but far below", session("strong", strong=500), 0.33, TIMED, None),
    ("slow to read, and long", session("strong", strong=9000), 0.06, TIMED, Held("strong", "prompt", 9000)),
    ("the weak one knows it, too", session("strong", strong=500, weak=500), 0.49, TIMED, None),
    ("it is dear", session("strong", strong=2200, weak=2200), 0.34, PRICED, Held("strong", "prompt", 0)),
    ("it is dear, but far below", session("strong", strong=2200, weak=2200), 0.33, PRICED, None),
    ("nothing is at hand any more", session("strong"), 0.49, PRICED, None),
    # the edges of scores
    ("never by 0", session("weak", weak=90_000), 0.0, TIMED, None),
    ("always by 1", session("weak", weak=90_000), 1.0, TIMED, None),
    ("always by 0", session("strong", strong=90_000), 0.0, TIMED, None),
    # calls of tools
    ("a call, up", session(maker="weak", weak=700), 1.0, TIMED, Held("weak", "tool_call", 700)),
    ("a call, down", session(maker="strong", strong=700), 0.0, TIMED, Held("strong", "tool_call", 700)),
    ("a call, the same", session(maker="strong", strong=700), 1.0, TIMED, Held("strong", "tool_call", 0)),
    ("thoughts", session("weak", weak=9, signed=True), 0.0, TIMED, Held("strong", "tool_call", 0)),
    ("thoughts of nobody known", session(signed=True), 0.0, TIMED, Held("strong", "tool_call", 0)),
    (
        "thoughts, and who made the call",
        session(maker="weak", signed=True),
        1.0,
        TIMED,
        Held("weak", "tool_call"),
    ),
    # switched off
    ("not sticky", session("weak", weak=90_000), 0.5, replace(TIMED, stickiness=0), None),
    ("not sticky", session("strong", strong=90_000), 0.49, replace(PRICED, stickiness=0), None),
    (
        "not sticky, but a call",
        session(maker="weak"),
        1.0,
        replace(TIMED, stickiness=0),
        Held("weak", "tool_call"),
    ),
    (
        "twice as sticky",
        session("weak", weak=1250),
        0.59,
        replace(TIMED, stickiness=2),
        Held("weak", "prompt", 1250),
    ),
]


@each("what, known, score, facts, held", RULE)
def test_the_rule(what: str, known: Session, score: float, facts: Facts, held: Held | None) -> None:
    assert decide(known, score, 0.5, facts) == held, what


def test_thresholds_at_the_edges_and_beyond() -> None:
    long = session("weak", weak=90_000)
    assert decide(long, 0.0, 0.0, TIMED) == Held("weak", "prompt", 90_000)
    assert decide(long, 0.1, 0.0, TIMED) is None
    assert decide(session("strong", strong=90_000), 0.9, 1.5, TIMED) is None  # the money is short


# ---- what is remembered ------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Chat:
    """A client: what it has said and heard, and the table that it is noted in."""

    def __init__(self, sessions: Sessions, system: str = "", name: str | None = None) -> None:
        self.sessions, self.name = sessions, name
        self.messages: list[Message] = [Message("system", system)] if system else []

    @property
    def request(self) -> ChatRequest:
        return ChatRequest(tuple(self.messages), session=self.name)

    def look(self) -> Session:
        found = self.sessions.look(self.request)
        assert found is not None
        return found

    def ask(self, text: str) -> Session:
        self.messages.append(Message("user", text))
        return self.look()

    def hear(self, tier: Tier, *said: str | ToolCall, tokens: int = 100, endpoint: str | None = None) -> None:
        parts = [Text(each) if isinstance(each, str) else each for each in said]
        answered(self.sessions, self.request, tier, parts, Usage(tokens - 1, 1), endpoint)
        self.messages.append(Message("assistant", parts))

    def tell(self, *ids: str) -> Session:
        """Results of tools."""
        self.messages += [Message("tool", [ToolResult(id, (Text("sunny"),))]) for id in ids]
        return self.look()


def answered(
    sessions: Sessions,
    request: ChatRequest,
    tier: Tier,
    parts: Sequence[Part],
    usage: Usage | None = None,
    endpoint: str | None = None,
    timings: EngineTimings | None = None,
) -> None:
    def events() -> list[Event]:
        found: list[Event] = [Answering(tier, endpoint)] if endpoint else []
        for index, part in enumerate(parts):
            if isinstance(part, ToolCall):
                half = len(part.arguments) // 2
                found.append(ToolCallStart(index, part.id, part.name, part.free))
                found += [
                    ToolCallArguments(index, half) for half in (part.arguments[:half], part.arguments[half:])
                ]
            elif isinstance(part, Text):
                found.append(TextDelta(part.text))
        return [*found, Finished("stop", usage, timings)]

    list(sessions.noted(iter(events()), sessions.look(request), request, (tier, tier), nullcontext))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    return Sessions(SessionsConfig(ttl_s=1000), clock=clock)


def call(id: str, arguments: str = '{"city": "Paris", "unit": 1}') -> ToolCall:
    return ToolCall(id, "weather", arguments)


def told(found: Session) -> tuple[Tier | None, Tier | None, dict[Tier, int]]:
    """Of the last answer and of the calls whose results came, and what is at hand."""
    return found.last and found.last.tier, found.maker and found.maker.tier, dict(found.held)


def test_a_conversation_is_known_again(sessions: Sessions) -> None:
    chat = Chat(sessions, "be kind")
    assert told(chat.ask("hi")) == (None, None, {})
    chat.hear("weak", " hello \n", tokens=20)
    assert told(chat.ask("and now?")) == ("weak", None, {"weak": 20})
    chat.hear("strong", "now", tokens=40, endpoint="work")
    found = chat.ask("and then?")
    assert told(found) == ("strong", None, {"strong": 40, "weak": 20})
    assert found.endpoint == Answering("strong", "work")


def test_clients_write_answers_in_their_own_way(sessions: Sessions) -> None:
    """Without blanks and thoughts, in several parts or messages, with JSON as they write it and other ids."""
    chat = Chat(sessions)
    chat.ask("weather?")
    chat.hear("strong", " let me see", call("call_1"))
    question = chat.messages[0]
    back = call("other", '{"unit":1,"city":"Paris"}')
    for answer in (
        [Message("assistant", [Reasoning("hm"), Text("let "), Text("me see"), back])],
        [Message("assistant", "let me see"), Message("assistant", [back])],
    ):
        chat.messages = [question, *answer, Message("tool", [ToolResult("other", (Text("sunny"),))])]
        assert told(chat.look()) == ("strong", "strong", {"strong": 100})


def test_a_result_goes_to_who_made_the_call(sessions: Sessions) -> None:
    chat = Chat(sessions)
    chat.ask("weather?")
    chat.hear("weak", call("call_a"), call("call_b", '{"city": "Rome"}'))
    assert told(chat.tell("call_a", "call_b"))[1] == "weak"
    chat.hear("weak", "sunny")
    assert told(chat.ask("thanks"))[1] is None  # the loop is over


def test_of_a_history_that_was_cut_short_the_call_is_known(sessions: Sessions) -> None:
    chat = Chat(sessions)
    chat.ask("weather?")
    chat.hear("weak", "which city?")
    chat.ask("Paris")
    chat.hear("strong", call("call_a"), endpoint="work")
    chat.messages = chat.messages[2:]  # its own first half is gone
    found = chat.tell("call_a")
    assert told(found) == ("strong", "strong", {})
    assert found.endpoint == Answering("strong", "work")
    chat.hear("strong", "sunny", tokens=30)
    assert told(chat.ask("thanks")) == ("strong", None, {"strong": 30})


def test_ids_that_count_from_0_are_told_apart(sessions: Sessions) -> None:
    one, other = Chat(sessions), Chat(sessions)
    for chat, city, tier in ((one, "Paris", "weak"), (other, "Rome", "strong")):
        chat.ask(f"weather in {city}?")
        chat.hear(tier, call("call_0", f'{{"city": "{city}"}}'))  # type: ignore[arg-type]
    for chat, tier in ((one, "weak"), (other, "strong")):
        assert told(chat.tell("call_0"))[1] == tier
        chat.messages = chat.messages[-2:]
        assert told(chat.look())[1] == tier


def test_two_conversations_with_the_same_first_turn(sessions: Sessions) -> None:
    one, other = Chat(sessions), Chat(sessions)
    for chat, tier, said in ((one, "weak", "hello"), (other, "strong", "good day")):
        chat.ask("hi")
        chat.hear(tier, said)  # type: ignore[arg-type]
    assert told(one.ask("who are you?"))[0] == "weak"
    assert told(other.ask("who are you?"))[0] == "strong"


def test_an_answer_that_is_asked_for_again(sessions: Sessions) -> None:
    chat = Chat(sessions)
    chat.ask("hi")
    chat.hear("weak", "hello", tokens=20)
    chat.ask("explain")
    chat.hear("weak", "no", tokens=40)
    refused = chat.messages.pop()
    assert told(chat.look()) == ("weak", None, {"weak": 20})
    chat.hear("strong", "yes", tokens=50)
    assert told(chat.ask("thanks")) == ("strong", None, {"strong": 50, "weak": 20})
    chat.messages[-2] = refused  # the person went back to it
    assert told(chat.look()) == ("weak", None, {"weak": 40})


def test_a_history_that_is_edited_is_known_up_to_there(sessions: Sessions) -> None:
    chat = Chat(sessions)
    for tokens, text in enumerate(("one", "two", "three"), 1):
        chat.ask(text)
        chat.hear("weak", f"{text}!", tokens=tokens * 10)
    chat.messages[2] = Message("user", "two, please")
    assert told(chat.ask("four")) == ("weak", None, {"weak": 10})
    chat.messages[1] = Message("assistant", "what I would have liked to hear")
    assert told(chat.look()) == ("weak", None, {"weak": 10})  # by what was asked
    chat.messages[0] = Message("user", "another one")
    assert told(chat.look()) == (None, None, {})


def test_another_system_message_or_other_tools_leave_nothing_at_hand(sessions: Sessions) -> None:
    chat = Chat(sessions, "it is noon")
    chat.ask("weather?")
    chat.hear("strong", call("call_a"))
    chat.tell("call_a")
    chat.messages[0] = Message("system", "it is a minute past")
    assert told(chat.look()) == ("strong", "strong", {"strong": 0})
    chat.messages[0] = Message("system", "it is noon")
    assert told(chat.look()) == ("strong", "strong", {"strong": 100})
    with_tools = replace(chat.request, tools=(Tool("weather"),))
    found = sessions.look(with_tools)
    assert found is not None and told(found) == ("strong", "strong", {"strong": 0})


def test_a_name_of_the_clients_tells_conversations_apart(sessions: Sessions) -> None:
    one, other = Chat(sessions, name="one"), Chat(sessions, name="other")
    for chat, tier in ((one, "weak"), (other, "strong")):
        chat.ask("hi")
        chat.hear(tier, "hello", endpoint="work" if tier == "strong" else None)  # type: ignore[arg-type]
    assert told(one.ask("go on"))[0] == "weak" and told(other.ask("go on"))[0] == "strong"
    other.messages = [Message("user", "a summary of it all, and go on")]
    found = other.look()
    assert told(found) == ("strong", None, {}) and found.endpoint == Answering("strong", "work")
    assert told(Chat(sessions).ask("hi"))[0] is None


def test_what_one_caller_says_is_nothing_to_another(sessions: Sessions) -> None:
    chat = Chat(sessions)
    chat.ask("weather?")
    chat.hear("strong", call("call_a"))
    chat.tell("call_a")
    found = sessions.look(replace(chat.request, caller="anna"))
    assert found is not None and told(found) == (None, None, {})


def test_time_to_live_and_what_endpoints_keep(sessions: Sessions, clock: Clock) -> None:
    chat = Chat(sessions)
    chat.ask("hi")
    chat.hear("strong", "hello", tokens=20)
    chat.ask("go on")
    clock.now = 600
    assert told(chat.look()) == ("strong", None, {"strong": 20})
    clock.now = 601  # endpoints have dropped it by now
    assert told(chat.look()) == ("strong", None, {"strong": 0})
    clock.now = 1000
    assert told(chat.look())[0] == "strong"
    clock.now = 1001
    assert told(chat.look()) == (None, None, {})
    other = Chat(sessions)
    other.ask("good day")
    other.hear("weak", "hello")
    assert len(sessions) == 2  # the others are gone


def test_no_more_than_so_many_are_kept(clock: Clock) -> None:
    sessions = Sessions(SessionsConfig(max_fingerprints=100), clock=clock)
    chats = [Chat(sessions) for _ in range(3000)]
    for number, chat in enumerate(chats):
        chat.ask(f"question {number}")
        chat.hear("strong" if number % 3 else "weak", f"answer {number}")
        assert len(sessions) <= 100
    for number, chat in list(enumerate(chats))[-50:]:
        assert told(chat.ask("go on"))[0] == ("strong" if number % 3 else "weak")
    assert told(chats[0].ask("go on"))[0] is None
    old = chats[-50]
    old.look()  # who is asked for stays
    for chat in chats[:48]:
        chat.hear("weak", "again")
    assert told(old.look())[0] is not None


def test_an_answer_that_is_broken_off_is_known(sessions: Sessions) -> None:
    chat = Chat(sessions)
    chat.ask("weather?")
    asked = sessions.look(chat.request)
    events = sessions.noted(
        iter([TextDelta("It"), TextDelta(" is")]), asked, chat.request, ("strong", "big"), nullcontext
    )
    assert next(events) == TextDelta("It")
    events.close()  # type: ignore[attr-defined]
    chat.messages.append(Message("assistant", "It"))
    found = chat.ask("go on")
    assert told(found) == ("strong", None, {"strong": 3})  # of 8 letters


def test_an_answer_that_goes_on_with_a_beginning(sessions: Sessions) -> None:
    chat = Chat(sessions)
    chat.ask("a poem")
    chat.messages.append(Message("assistant", "Roses "))
    request = replace(chat.request, continue_final=True)
    answered(sessions, request, "weak", [Text("are red.")], Usage(9, 3))
    chat.messages[-1] = Message("assistant", "Roses are red.")
    assert told(chat.ask("more")) == ("weak", None, {"weak": 12})


def test_no_conversation_at_all(sessions: Sessions) -> None:
    raw = ChatRequest((Message("user", "def f("),), raw_prompt="def f(")
    assert sessions.look(raw) is None
    assert Sessions(SessionsConfig(enabled=False)).look(ChatRequest((Message("user", "hi"),))) is None
    events: list[Event] = [TextDelta("x"), Finished("stop")]
    assert list(sessions.noted(iter(events), None, raw, ("weak", "small"), nullcontext)) == events
    assert len(sessions) == 0


def test_what_is_kept_says_nothing_of_what_was_said(sessions: Sessions) -> None:
    chat = Chat(sessions)
    chat.ask("my secret plan")
    chat.hear("strong", "an answer", call("call_a"))
    assert "plan" not in repr(vars(sessions)) and "answer" not in repr(sessions._turns)
    other = Fingerprints().conversation(chat.request)
    assert not set(other.begins) & set(sessions._turns)  # the key is another one in each process


def test_how_fast_they_read_is_measured(sessions: Sessions, clock: Clock) -> None:
    request = ChatRequest((Message("user", "hi"),))
    assert sessions.facts.reads_per_s == {"weak": 500.0, "strong": 2000.0}
    timings = EngineTimings(prefill_s=2.0, prefill_tokens=100)
    answered(sessions, request, "weak", [Text("x")], Usage(100, 1), timings=timings)
    assert sessions.facts.reads_per_s["weak"] == 50
    answered(
        sessions, request, "weak", [Text("x")], Usage(100, 1), timings=replace(timings, prefill_tokens=200)
    )
    assert sessions.facts.reads_per_s["weak"] == 62.5
    answered(sessions, request, "strong", [Text("x")], Usage(499, 1))
    assert sessions.facts.reads_per_s["strong"] == 2000
    answered(sessions, request, "strong", [Text("x")], Usage(501, 1))
    assert sessions.facts.reads_per_s["strong"] == 20_000  # it has come at once, which nobody can

    def later() -> Iterator[Event]:
        clock.now += 2
        yield TextDelta("x")
        clock.now += 9
        yield Finished("stop", Usage(9000, 1, cached_tokens=1000))

    list(sessions.noted(later(), sessions.look(request), request, ("strong", "big"), nullcontext))
    assert sessions.facts.reads_per_s["strong"] == 20_000 + (4000 - 20_000) / 4


def test_many_conversations_at_once(sessions: Sessions) -> None:
    """From several threads, each with hundreds of them, none of which is taken for another."""

    def talk(thread: int) -> None:
        chats = [Chat(sessions) for _ in range(50)]
        for turn in range(3):
            for number, chat in enumerate(chats):
                tier: Tier = "strong" if (thread + number) % 2 else "weak"
                found = chat.ask(f"question {turn} of {thread}, {number}")
                assert told(found) == ((tier, None, {tier: turn}) if turn else (None, None, {}))
                chat.hear(tier, f"answer {turn} to {thread}, {number}", tokens=turn + 1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(talk, range(8)))
    assert len(sessions) == 8 * 50 * 3 * 2
