"""What rules look at, of one request: found out when a rule asks, and once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from itertools import islice

from edge_router.chat.message import ToolCall, ToolResult
from edge_router.chat.request import ChatRequest, Need
from edge_router.guard.reading import Reading
from edge_router.guard.screening import words_of
from edge_router.routing.rules.patterns import Either, folded, well_formed

_LINE_OF_CODE = re.compile(
    r"[ \t]*(?:"
    r"(?:def|class|function|fn|func|public|private|protected|static|struct|impl|interface|enum) \w"
    r"|(?:import|from|using|package|require|#include|use) ?[\w\"'<{.]"
    r"|(?:const|let|var|val|auto|int|void) \w+ ?[=({;]"
    r"|(?:if|for|while|switch|elif|else if)\b.{0,200}[:{]$"
    r"|return\b.{0,200};?$"
    r"|(?:SELECT|INSERT|UPDATE|DELETE|CREATE) "
    r"|[\w.\[\]]{1,100} ?(?:[+*/-]|:|)= ?\S"
    r"|[\w.]{1,100}\(.{0,200}\);?$"
    r"|[{}\])]{1,9}[;,]?$"
    r"|<\/?[a-z][^>]{0,200}>$"
    r"|\$ \w)"
)
_FEW_LINES = 3  # that look like code; prose has one now and then
_SAMPLE = 4000  # characters that code is told by
_SAID = 400  # characters that a language is told by

_NEEDS = {
    "tools": Need.TOOLS,
    "images": Need.IMAGES,
    "audio": Need.AUDIO,
    "files": Need.FILES,
    "json": Need.JSON,
}
CONTENT = (*_NEEDS, "code")
_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),  # before Chinese, whose characters it shares
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("uk", re.compile("[іїєґІЇЄҐ]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("fa", re.compile("[پچژگ]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
_SCRIPT_SHARE = 0.2  # of a text's letters
# The commonest words of each, as far as the others have not got them.
_WORDS = {
    "en": "the and of is that it you for are with this what how was have not be they from can does why write",
    "de": "der die das und ist nicht ein eine ich wir mit auf für wie den dem sich auch wird sind zu im",
    "fr": "le les et est une des pour pas que qui dans je vous nous avec sur quel quelle ce cette au du sont",
    "es": "el los las y es una para por que con cómo qué del se lo está son mi esta pero más como al",
    "it": "il lo gli è una per che con come della del sono non questo questa di cosa nel anche più mi",
    "pt": "o os é uma para por que com como da do não em são um isso você mais na no ao mas está",
    "nl": "de het een en van is niet dat ik je wij met op voor zijn wat hoe deze naar ook wordt er",
    "pl": "i w na się nie jest z do że to jak czy co od przez dla są ale o oraz jego",
    "tr": "ve bir bu için ile ne nasıl da de mi çok olarak var daha ama gibi olan değil",
    "sv": "och det att är en som på för inte av med jag vi till hur vad den har ett om",
}
LANGUAGES = (*_WORDS, *(name for name, _ in _SCRIPTS))
_COMMON: dict[str, list[str]] = {}  # languages by word
for _name, _text in _WORDS.items():
    for _word in dict.fromkeys(_text.split()):
        _COMMON.setdefault(_word, []).append(_name)
_BEYOND = re.compile("[\u0370-\U0010ffff]")  # Latin's letters
_WORD = re.compile(r"\w+")
_FEW_WORDS = 2


def as_written(text: str) -> str:
    """`text` without what cannot be seen, each letter and its accents as one: rules and requests alike."""
    return unicodedata.normalize("NFC", Reading(text, alike=False).plain)


class Query:
    """`now` is in the time of this machine."""

    def __init__(self, request: ChatRequest, now: datetime) -> None:
        self.request, self.now = request, now
        self._has: dict[tuple[Either, bool], bool] = {}

    @cached_property
    def _last(self) -> str:
        messages = self.request.messages
        return next((each.text for each in reversed(messages) if each.role == "user"), messages[-1].text)

    @cached_property
    def whole(self) -> str:
        """All that somebody wrote into it, results of tools and their schemas too, as a person reads it."""
        whole = "\n".join(words_of(self.request))
        return self.last if whole == self._last else as_written(whole)

    @cached_property
    def last(self) -> str:
        """What the user said last, as a person reads it."""
        return as_written(self._last)

    def has(self, either: Either, *, last: bool) -> bool:
        """Whether one of many expressions stands in it, found out once for all rules."""
        known = self._has.get((either, last))
        if known is None:
            text = self.last if last else self.whole
            known = self._has[either, last] = either.stands_in(well_formed(text).encode())
        return known

    @cached_property
    def small(self) -> str:
        """`whole` in small letters, as `Says` looks for words first."""
        return folded(self.whole)

    @cached_property
    def small_last(self) -> str:
        return folded(self.last)

    @cached_property
    def content(self) -> frozenset[str]:
        """Which of `CONTENT` it has."""
        needs = self.request.needs
        found = {name for name, need in _NEEDS.items() if need in needs}
        parts = (part for message in self.request.messages for part in message.parts)
        if any(isinstance(part, ToolCall | ToolResult) for part in parts):
            found.add("tools")
        return frozenset(found)

    @cached_property
    def has_code(self) -> bool:
        lines = self.last[:_SAMPLE].splitlines()
        if any(line.lstrip().startswith(("```", "~~~")) for line in lines):
            return True
        of_code = (line for line in lines if _LINE_OF_CODE.match(line) is not None)
        return len(tuple(islice(of_code, _FEW_LINES))) == _FEW_LINES

    @cached_property
    def language(self) -> str | None:
        """Of what the user said last; None where that cannot be told."""
        return language_of(self.last[:_SAID])

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the request says about itself."""
        found = self.request.extra.fields.get("metadata")
        return found if isinstance(found, Mapping) else {}


def language_of(text: str) -> str | None:
    """By its script, or by how many of its words are a language's commonest."""
    letters = len(text) - text.count(" ")
    for name, script in _SCRIPTS if _BEYOND.search(text) else ():
        own = len(script.findall(text))
        if own and (own > _SCRIPT_SHARE * letters or (name in ("ja", "uk", "fa") and own > 0.05 * letters)):
            return name
    counts = dict.fromkeys(_WORDS, 0)
    for names in filter(None, map(_COMMON.get, _WORD.findall(text.lower()))):
        for name in names:
            counts[name] += 1
    best, second, *_ = sorted(counts.values(), reverse=True)
    if best < _FEW_WORDS or best == second:
        return None
    return max(counts, key=lambda name: counts[name])
