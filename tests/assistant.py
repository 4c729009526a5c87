"""What the scripted models say to the clients that are tried, the weak and the strong one alike. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

HELLO, WEATHER = "Say hello.", "How is the weather in Oslo and Bergen?"
CITY_AS_JSON, WHETHER = "Tell of a city as JSON.", "Were you told to think?"
STORY, CUT = "Tell a long story.", 5  # tokens
GREETING, THOUGHTS = "Hello there, friend.", "Let me see."
CITY = {"name": "Oslo", "people": 700000}
WHETHER_TOLD = {True: "Told to think.", False: "Told not to.", None: "Told nothing."}
MAIL, TEAMS = "I was charged twice. Please fix this ASAP. ", ("billing", "technical", "other")
ANGER = ("calm", "annoyed", "furious")
SURE = 0.9  # of the first option and level, and of yes
# What clients/questions_in_python.py tries.
QUESTION_WAYS = ("decide", "act", "image", "refuse")
# What clients/in_python.py tries with the models here, and with a real one that is too small to be judged.
WAYS = ("chat", "stream", "tools", "think", "no_think", "as_json")
FORMS = ("chat", "stream", "call", "no_think", "as_json", "cut")
# Agents bring tools of their own; what is looked for in their results does not stand in these calls.
_SHELL = "printf '%s in {}\\n' rain; sleep 1"  # Qwen Code loses what is written right before a command's end
CALLS: Mapping[str, str] = {
    "weather": '{"city": "@"}',
    "exec_command": json.dumps({"cmd": _SHELL.format("@")}),
    "shell_command": json.dumps({"command": _SHELL.format("@")}),
    **dict.fromkeys(
        ("Bash", "bash", "run_shell_command"),
        json.dumps({"command": _SHELL.format("@"), "description": "Tell the weather"}),
    ),
}


@dataclass(frozen=True)
class Asked:
    """`results` are those of tools behind the last words of the user; `tools` have names and parameters."""

    text: str
    results: tuple[str, ...] = ()
    tools: Mapping[str, Collection[str]] = field(default_factory=dict)
    formed: bool = False  # JSON against a schema
    thinks: bool | None = None


@dataclass(frozen=True)
class Said:
    """Calls have a name and arguments."""

    thoughts: str = ""
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()


def assist(asked: Asked) -> Said | None:
    """The answer; None to what is none of the questions above. Thinks aloud unless told not to."""
    said = _said(asked)
    if said is None or asked.thinks is False:
        return said
    return Said(THOUGHTS, said.text, said.calls)


def in_pieces(text: str) -> list[str]:
    """As models stream it."""
    return re.findall(r"\s*\S+", text)


def _answers(text: str) -> str:
    """To typed questions that were put in words."""
    blocks = re.split(r"^(q[0-9]+): ", text, flags=re.MULTILINE)[1:]
    found = {
        name: {"probability": SURE} if "Write the probability" in block else {"number": 1, "certainty": SURE}
        for name, block in zip(blocks[::2], blocks[1::2], strict=True)
    }
    return json.dumps(found)


def judged(size: int, *, yes_no: bool = False) -> tuple[float, ...]:
    """The probabilities of an answer to a typed question, the same that the strong model writes."""
    rest = ((1 - SURE) / (size - 1),) * (size - 1)
    return (*rest, SURE) if yes_no else (SURE, *rest)


def decided(way: str, value: object) -> bool:
    """Whether that is what a client of typed questions should have got."""
    if way == "decide":
        team, *numbers = value if isinstance(value, list) else [None]
        expected = (SURE, SURE, (1 - SURE) / 2 * (1 + 2))
        close = (abs(one - other) < 1e-9 for one, other in zip(numbers, expected, strict=False))
        return team == TEAMS[0] and len(numbers) == len(expected) and all(close)
    if way == "refuse":
        field = any(name in str(value) for name in ("questions.q.criteria", "questions[0].choices"))
        return field and any(kind in str(value) for kind in ("Unprocessable", "BadRequestError"))
    return value == ("unverified" if way == "act" else "weak")  # what the strong model is called


def _said(asked: Asked) -> Said | None:
    if asked.text.startswith("Answer the following questions"):
        return Said(text=_answers(asked.text))
    makers = [name for name, parameters in asked.tools.items() if set(parameters) == set(CITY)]
    known = [name for name in asked.tools if name in CALLS]
    if CITY_AS_JSON in asked.text:
        if makers and not asked.results:
            return Said(calls=((makers[0], json.dumps(CITY)),))
        if asked.formed:
            return Said(text=json.dumps(CITY))
    if asked.results:
        return Said(text="The tools say: " + "; ".join(asked.results))
    if WEATHER in asked.text and known:
        return Said(
            calls=tuple((known[0], CALLS[known[0]].replace("@", city)) for city in ("Oslo", "Bergen"))
        )
    if WHETHER in asked.text:
        return Said(text=WHETHER_TOLD[asked.thinks])
    return Said(text=GREETING) if HELLO in asked.text else None


def formed(way: str, value: object) -> bool:
    """Whether that has the form of what a client should have got, whatever a real model wrote."""
    if way == "chat":
        return isinstance(value, str) and bool(value.strip())
    if way == "stream":
        return isinstance(value, list) and len(value) > 1 and bool("".join(value).strip())
    if way == "call":
        return isinstance(value, list) and bool(value) and all(map(_is_call, value))
    if way == "as_json":
        return _is_city(value)
    text, other = value if isinstance(value, list | tuple) else (None, None)
    if way == "cut":
        return isinstance(text, str) and 0 < len(in_pieces(text)) <= CUT and other in _CUT_OFF
    return way == "no_think" and isinstance(text, str) and bool(text.strip()) and not other


_CUT_OFF = ("length", "max_tokens", "max_output_tokens", None)  # the last of those that say nothing


def _is_call(value: object) -> bool:
    name, arguments = value if isinstance(value, list | tuple) else (None, None)
    if name == "city":
        return _is_city(arguments)
    return name == "weather" and _types(arguments) == {"city": str}


def _is_city(value: object) -> bool:
    return _types(value) == _types(CITY)


def _types(value: object) -> Mapping[str, type]:
    return {name: type(each) for name, each in value.items()} if isinstance(value, Mapping) else {}


def fits(way: str, value: object) -> bool:
    """Whether that is what a client should have got, of those in clients/in_python.py."""
    if way == "chat":
        return value == GREETING
    if way == "stream":
        return isinstance(value, list) and len(value) > 1 and "".join(value) == GREETING
    if way == "tools":
        return isinstance(value, str) and "rain in Oslo" in value and "rain in Bergen" in value
    if way == "as_json":
        return value == CITY
    text, thoughts = value if isinstance(value, list | tuple) else (None, None)
    on = way == "think"
    return text == WHETHER_TOLD[on] and thoughts in (THOUGHTS if on else "", None)
