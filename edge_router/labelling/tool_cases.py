"""Questions with tools whose right calls are known, made on the spot: calls, refusals, uses of results."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Literal

from edge_router.chat.message import Message, Text, ToolCall, ToolResult
from edge_router.chat.request import Tool
from edge_router.records import dataclass

Kind = Literal["call", "refusal", "result"]
Arguments = Mapping[str, object]

OFFERED = 4  # tools of each case
_IN_TURN: tuple[Kind, ...] = ("call", "refusal", "call", "result")

_CITIES = ("Paris", "Oslo", "Nairobi", "Lima", "Kyoto", "Cairo", "Toronto", "Madrid", "Prague", "Sydney")
_PEOPLE = ("Anna", "Ben", "Chloe", "David", "Emma", "Felix", "Grace", "Henry")
_ROOMS = ("kitchen", "bedroom", "bathroom", "office", "garage")
_LANGUAGES = ("French", "German", "Spanish", "Italian", "Japanese")
_CURRENCIES = ("USD", "EUR", "GBP", "JPY", "CHF")
_WORDS = ("good morning", "thank you", "see you soon", "where is the station", "happy birthday")
_NEWS = ("I am on my way", "the meeting is cancelled", "dinner is ready", "call me back")
_ARTISTS = ("Miles Davis", "Nina Simone", "The Beatles", "Mozart", "Daft Punk")
_NO_TOOL = (
    "Who wrote Romeo and Juliet?",
    "Write one sentence about the sea.",
    "What is the opposite of cold?",
    "How many legs does a spider have?",
    "Say hello in a friendly way.",
    "What colour do you get from blue and yellow?",
    "Name a fruit that is red.",
    "What is the capital of France?",
    "Which planet is closest to the sun?",
    "Give me a synonym for quick.",
    "What do bees make?",
    "Is ice lighter than water?",
)


@dataclass(frozen=True, slots=True)
class ToolCase:
    """`name` and `arguments` of the call that is right; no name: none is. `said`: a right answer holds it."""

    kind: Kind
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    name: str = ""
    arguments: Arguments | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class _Made:
    """A tool with a way to ask for it. `gives` is what it answers, and the word of that to be told."""

    tool: Tool
    ask: Callable[[random.Random], tuple[str, Arguments]]
    gives: Callable[[random.Random], tuple[str, str]] | None = None


def cases(count: int, seed: int = 0) -> tuple[ToolCase, ...]:
    """`count` different ones, kinds in turn. More of them begin with the same ones."""
    draw, found, seen = random.Random(seed), list[ToolCase](), set[tuple[str, str]]()
    for kind in cycle(_IN_TURN):
        if len(found) >= count:
            return tuple(found)
        for _ in range(20):
            case = _MAKERS[kind](draw)
            if (kind, case.messages[0].text) not in seen or kind == "refusal":
                break
        seen.add((kind, case.messages[0].text))
        found.append(case)
    raise AssertionError


def _call(draw: random.Random) -> ToolCase:
    made = draw.choice(_TOOLS)
    text, arguments = made.ask(draw)
    return ToolCase("call", (Message("user", text),), _offered(draw, made), made.tool.name, arguments)


def _refusal(draw: random.Random) -> ToolCase:
    return ToolCase("refusal", (Message("user", draw.choice(_NO_TOOL)),), _offered(draw, draw.choice(_TOOLS)))


def _result(draw: random.Random) -> ToolCase:
    made = draw.choice([made for made in _TOOLS if made.gives is not None])
    assert made.gives is not None
    text, arguments = made.ask(draw)
    given, said = made.gives(draw)
    call = ToolCall("call00001", made.tool.name, json.dumps(arguments))
    talk = (
        Message("user", text),
        Message("assistant", [call]),
        Message("tool", [ToolResult(call.id, (Text(given),), name=call.name)]),
    )
    return ToolCase("result", talk, _offered(draw, made), said=said)


def _offered(draw: random.Random, made: _Made) -> tuple[Tool, ...]:
    others = draw.sample([other.tool for other in _TOOLS if other is not made], OFFERED - 1)
    return tuple(draw.sample([made.tool, *others], OFFERED))


_MAKERS: Mapping[Kind, Callable[[random.Random], ToolCase]] = {
    "call": _call,
    "refusal": _refusal,
    "result": _result,
}


def _tool(name: str, description: str, required: Sequence[str], **properties: Arguments) -> Tool:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return Tool(name, description, schema)


_TEXT, _WHOLE, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def _weather(draw: random.Random) -> tuple[str, Arguments]:
    city = draw.choice(_CITIES)
    return draw.choice((f"What is the weather in {city}?", f"Is it raining in {city}?")), {"city": city}


def _timer(draw: random.Random) -> tuple[str, Arguments]:
    minutes = draw.randint(2, 55)
    return f"Set a timer for {minutes} minutes.", {"minutes": minutes}


def _message(draw: random.Random) -> tuple[str, Arguments]:
    who, text = draw.choice(_PEOPLE), draw.choice(_NEWS)
    return f'Send {who} this message: "{text}"', {"to": who, "text": text}


def _convert(draw: random.Random) -> tuple[str, Arguments]:
    amount = draw.randint(2, 900)
    source, target = draw.sample(_CURRENCIES, 2)
    return f"How much is {amount} {source} in {target}?", {
        "amount": amount,
        "source": source,
        "target": target,
    }


def _light(draw: random.Random) -> tuple[str, Arguments]:
    room, on = draw.choice(_ROOMS), draw.random() < 0.5
    return f"Turn {'on' if on else 'off'} the light in the {room}.", {"room": room, "on": on}


def _translate(draw: random.Random) -> tuple[str, Arguments]:
    text, language = draw.choice(_WORDS), draw.choice(_LANGUAGES)
    return f'Translate "{text}" into {language}.', {"text": text, "language": language}


def _music(draw: random.Random) -> tuple[str, Arguments]:
    artist = draw.choice(_ARTISTS)
    return f"Play something by {artist}.", {"artist": artist}


def _table(draw: random.Random) -> tuple[str, Arguments]:
    people, hour = draw.randint(2, 9), draw.randint(12, 21)
    return f"Book a table for {people} people at {hour}:30.", {"people": people, "time": f"{hour}:30"}


_TOOLS = (
    _Made(
        _tool("get_weather", "Tells the weather in a city now.", ["city"], city=_TEXT),
        _weather,
        lambda draw: (f'{{"temperature_c": {(t := draw.randint(11, 39))}, "sky": "clear"}}', str(t)),
    ),
    _Made(_tool("set_timer", "Starts a timer.", ["minutes"], minutes=_WHOLE), _timer),
    _Made(
        _tool("send_message", "Sends a text message to somebody.", ["to", "text"], to=_TEXT, text=_TEXT),
        _message,
    ),
    _Made(
        _tool(
            "convert_currency",
            "Converts an amount of money between currencies.",
            ["amount", "source", "target"],
            amount=_NUMBER,
            source={"type": "string", "enum": list(_CURRENCIES)},
            target={"type": "string", "enum": list(_CURRENCIES)},
        ),
        _convert,
        lambda draw: (f'{{"result": {(n := draw.randint(1001, 9999))}}}', str(n)),
    ),
    _Made(
        _tool(
            "set_light",
            "Turns the light of a room on or off.",
            ["room", "on"],
            room={"type": "string", "enum": list(_ROOMS)},
            on={"type": "boolean"},
        ),
        _light,
    ),
    _Made(
        _tool(
            "translate",
            "Translates a text into a language.",
            ["text", "language"],
            text=_TEXT,
            language=_TEXT,
        ),
        _translate,
    ),
    _Made(_tool("play_music", "Plays music of an artist.", ["artist"], artist=_TEXT), _music),
    _Made(
        _tool("book_table", "Books a table for today.", ["people", "time"], people=_WHOLE, time=_TEXT),
        _table,
        lambda draw: (f'{{"booked": true, "reference": "{(r := draw.randint(1001, 9999))}"}}', str(r)),
    ),
)
