"""How a conversation becomes the text that a router scores, and the few surface features beside it.

Training and running use the same functions, so that a router sees what it was trained on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from edge_router.chat.message import Message

LONGEST = 8_000  # characters of one text that are looked at: its head and its tail
_EARLIER = {"user": 240, "assistant": 120, "tool": 60}  # characters kept of an earlier turn, by role
_EARLIER_TURNS = 6

# "A. ..." or "(A) ..." at the start of a line, with a B after it: answer options to choose from. No pattern
# here has an unbounded run of whitespace: on a page of spaces it would take seconds.
_OPTIONS = re.compile(
    r"(?m)^[ \t]{0,8}\(?A[.):][ \t]{1,4}\S.*\n(?:.*\n){0,8}?[ \t]{0,8}\(?B[.):][ \t]{1,4}\S"
)
_ASKS_FOR_LETTER = re.compile(r"(?i)\b(?:answer|options|choices) ?:?$")
_WHITESPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CODE = re.compile(r"```|\bdef |\bclass |\breturn\b|[;{}]$|</?\w+>|\bassert |\bimport |>>> ", re.MULTILINE)
_MATHS = re.compile(r"\\[a-zA-Z]+|[=^+*/<>$]|\bprove\b|\bsolve\b|\bequation\b")
_WHY = re.compile(r"(?i)\b(?:why|how|explain|prove|derive|calculate|compute|compare|analy[sz]e|design)\b")


def conversation_text(messages: Sequence[Message]) -> str:
    """The last user turn, and before it, shortened, the turns that led to it.

    A follow-up such as "and why?" means nothing without them. System prompts are left out: an application
    sends the same one every time, so it would move every score and tell no query from another.
    """
    last = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "user"), None)
    if last is None:
        return "\n".join(message.text for message in messages)
    earlier = [m for m in messages[:last] if m.role in _EARLIER and m.text.strip()][-_EARLIER_TURNS:]
    lines = [shorten(m.text.strip(), _EARLIER[m.role]) for m in earlier]
    return "\n".join([*lines, messages[last].text])


def shorten(text: str, length: int) -> str:
    """At most `length` characters: the head and the tail, where a question says what it wants."""
    if len(text) <= length:
        return text
    tail = length // 3
    return f"{text[: length - tail - 1]}\n{text[len(text) - tail :]}" if tail else text[:length]


def stem(text: str) -> str:
    """The text without answer options to choose from.

    Options make a question long without making it hard, and few people write them in a chat.
    """
    starts = [match.start() for match in _OPTIONS.finditer(text)]
    cut = text[: starts[-1]] if starts and starts[-1] > 0 else text
    return _ASKS_FOR_LETTER.sub("", cut.rstrip()).rstrip() or text


def squeeze(text: str) -> str:
    """Whitespace means nothing to the tokenizer; without it, a slice by characters keeps more words."""
    return _WHITESPACE.sub(" ", text).strip()


def _log(count: float) -> float:
    return math.log1p(count)


def _share(part: float, text: str) -> float:
    return part / max(len(text), 1)


# Name -> (text as it came, its stem) -> number. A name keeps its meaning: shipped networks use it.
_FEATURES: dict[str, Callable[[str, str], float]] = {
    "log_stem_length": lambda text, stem: _log(len(stem)),
    "log_options_length": lambda text, stem: _log(len(text) - len(stem)),
    "numbers": lambda text, stem: _log(len(_NUMBER.findall(stem))),
    "digit_share": lambda text, stem: _share(sum(map(len, _NUMBER.findall(stem))), stem),
    "code_marks": lambda text, stem: _log(len(_CODE.findall(stem))),
    "maths_marks": lambda text, stem: _log(len(_MATHS.findall(stem))),
    "lines": lambda text, stem: _log(stem.count("\n")),
    "questions": lambda text, stem: float("?" in stem),
    "asks_reasons": lambda text, stem: float(_WHY.search(stem) is not None),
    "word_length": lambda text, stem: min(len(stem) / (stem.count(" ") + 1), 20.0),
    "capital_share": lambda text, stem: _share(sum(map(str.isupper, stem)), stem),
    "other_script_share": lambda text, stem: (
        0.0 if stem.isascii() else _share(sum(c > "\u024f" for c in stem), stem)
    ),
}

SURFACE_NAMES = tuple(_FEATURES)


def surface(text: str, names: Sequence[str] = SURFACE_NAMES) -> list[float]:
    """The features `names` of a text, finite numbers. Lengths are of the whole, marks of its head and tail.

    Raises KeyError on a name that does not exist.
    """
    shown = shorten(text, LONGEST)
    kept = stem(shown)
    if len(shown) == len(text):
        return [_FEATURES[name](text, kept) for name in names]
    whole = {"log_stem_length": _log(len(text) - len(shown) + len(kept))}
    return [whole[name] if name in whole else _FEATURES[name](shown, kept) for name in names]
