"""Chores: what programs ask a model beside a conversation, for a list of chats or a search box of theirs.

A title, tags, questions to go on with, words to search for, an emoji. Any model that writes a sentence does
them, and no router was trained on them: their prompts are long and look hard. They are known by what they
demand at the beginning of the system prompt or at either end of what was said last; what stands between is
the conversation itself. The title, or what it is, is what a sentence asks for itself: what a person asks of a
conversation may be as hard as anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edge_router.chat.message import Message

_HEAD, _TAIL = 300, 240  # characters in which it stands; a system prompt that gets to it later asks for more
_LONGEST = 220  # characters behind the verb
# A verb at the beginning of a sentence or a line, perhaps behind a word or two of manners.
_DEMAND = re.compile(
    r"(?:^|[\n.:>!,])[\s\-*#>\d)]{0,6}"
    r"(?:please |now,? |then |your (?:task|job|goal) is to |you (?:will|must|should|are to) ){0,2}"
    r"(?:analy[sz]|assign|come up with|craft|creat|generat|giv|make|produc|provid|reflect|suggest|summari[sz]"
    r"|writ)"
    r"\w{0,4}\b\s*"
)
_END = re.compile(r"[.?!:](?:\s|$)|\n(?=\s|[-#*<>\[{]|\w+ ?:)")  # of a sentence
_CONVERSATION = (
    r"(?:\b(?:this|the|our|your|above|following|previous|provided|user(?:'s)?|first) (?:[\w'-]+ ){0,3}?"
    r"(?:chat|conversation|dialog(?:ue)?|thread|session|discussion|message|exchange)s?\b"
    r"(?! (?:app|application|bar|board|box|client|component|field|model|page|server|service|window)\b)"
    r"|\bmain themes?\b|\bthe user (?:might|may|could)\b)"
)
_SMALL = (  # what may stand between the verb and what it asks for
    r"(?:(?:a|an|the|me|us|one|two|three|four|five|six|seven|some|single|few|of|short|brief|concise|clear|simple"
    r"|descriptive|suitable|good|new|broad|general|specific|relevant|likely|possible|phrase|as|chat|conversation|thread"
    r"|session|web|at|most|up|to|or|in|under|less|fewer|more|no|than|words?|char(?:acter)?s?|\d[\w–-]*),?\s+){0,9}"
)
# What joins it with the conversation.
_JOINED = (
    r"(?: ?\([^)]{0,40}\))?(?: or prompts?)?(?:,? with an? emojis?)?,?\s+(?:for|of|from|about|to|based on"
    r"|that|summari[sz]ing|categori[sz]ing|describing|capturing)\b[^,;]{0,90}?"
)
_WANTED: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        kind: re.compile(rf"{_SMALL}(?:{what}){_JOINED}{_CONVERSATION}")
        for kind, what in {
            "title": r"(?:title|headline)(?![\w-])",
            "tags": r"tags\b",
            "follow-ups": r"follow[- ]?ups\b|follow[- ]?up (?:questions?|prompts?|suggestions?|topics?)\b",
            "search query": r"search quer(?:y|ies)\b",
            "emoji": r"emoji\b",
        }.items()
    }
)
# The conversation first, and behind it what is to be made of it.
_MADE: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "title": re.compile(
            rf"{_CONVERSATION}(?: (?:above|below|history))?"
            rf"(?: (?:into|as|in) {_SMALL}(?:title|headline)(?! case)\b"
            r"|,? in (?:under|at most|fewer than) (?:\d+ char|1?\d words?\b))"
        ),
        "search query": re.compile(
            rf"{_CONVERSATION}(?: history)? (?:and|to) (?:say|tell|decide|determine)\b.{{0,50}}"
            r"\bsearch quer(?:y|ies)\b"
        ),
        "emoji": re.compile(rf".{{0,60}}{_CONVERSATION} (?:by|with|through|as|in) {_SMALL}emoji\b"),
    }
)
# No chore, whatever a title is to be given beside it.
_WORK = re.compile(
    r"\b(?:abstract|algorithms?|code|component|critique|database|deriv\w+|detailed (?:analysis|report)"
    r"|diagnos\w+|dsl|e-?mails?|essay|explain|explanation|function|in detail|legal|proof|prov(?:e|ing)|regex"
    r"|schema|script|solve|song|sql|translat\w+|why)\b"
)
_WORDS = (
    "title",
    "headline",
    "conversation in",
    "tags",
    "follow",
    "search quer",
    "emoji",
    "new conversation topic",
)
_NAMED = re.compile(
    r"\byou are an? (?:[\w-]+ ){0,4}title (?:generator|maker|writer)\b"
    r"|\btitles for (?:chats|conversations)\b|\bthis message indicates a new (?:conversation )?topic\b"
    r"|\b(?:write|generate|create|suggest) an? (?:[\w-]+ ){0,3}(?:chat|conversation|thread|session) title\b"
)


def chore_of(messages: Sequence[Message]) -> str | None:
    """The kind of chore that is asked for in `messages`; None where it is somebody's question."""
    system = messages[0].text if messages and messages[0].role in ("system", "developer") else ""
    last = next((message.text for message in reversed(messages) if message.role == "user"), "")
    for place in (system[:_HEAD], last[:_HEAD], last[-_TAIL:] if len(last) > _HEAD else ""):
        small = place.lower()
        if any(word in small for word in _WORDS) and (kind := _demanded(small)) is not None:
            return kind
    return None


def _demanded(text: str) -> str | None:
    for verb in _DEMAND.finditer(text):
        sentence = _END.split(text[verb.end() : verb.end() + _LONGEST], maxsplit=1)[0]
        if not _WORK.search(sentence):
            for wanted in (_WANTED, _MADE):
                for kind, pattern in wanted.items():
                    if pattern.match(sentence):
                        return kind
    return "title" if _NAMED.search(text) else None
