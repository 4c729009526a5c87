"""Chores: what programs ask a model beside a conversation, for a list of chats or a search box of theirs.

A title, tags, questions to go on with, words to search for, an emoji. Any model that writes a sentence does
them, and no router was trained on them: their prompts are long and look hard. They are known by what they
demand at the beginning of the system prompt or at either end of what was said last; what stands between is
the conversation itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edge_router.chat.message import Message

_HEAD, _TAIL = 300, 240  # characters in which it stands; a system prompt that gets to it later asks for more
_SOON, _LATER = 70, 220  # characters behind the verb: what is wanted, and of what
# A verb at the beginning of a sentence or a line, perhaps behind a word or two of manners.
_DEMAND = re.compile(
    r"(?:^|[\n.:>!,])[\s\-*#>\d)]{0,6}"
    r"(?:please |now,? |then |your (?:task|job|goal) is to |you (?:will|must|should|are to) ){0,2}"
    r"(?:analy[sz]|assign|come up with|craft|creat|generat|giv|make|produc|provid|reflect|suggest|summari[sz]"
    r"|writ)"
    r"\w{0,4}\b"
)
_CONVERSATION = re.compile(
    r"\b(?:this|the|our|your|above|following|provided|user(?:'s)?|first) (?:[\w'-]+ ){0,3}"
    r"(?:chat|conversation|dialog(?:ue)?|thread|session|discussion|message|exchange)s?\b"
    r"|\bmain themes?\b|\bthe user (?:might|may|could)\b"
)
_OTHER = re.compile(
    r"\b(?:that|which|function|component|code|page|essay|song|app)\b"
)  # no title but a program
_WANTED: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "title": re.compile(r"\b(?:title|headline)\b|\bin (?:under|at most|fewer than) \d+ (?:char|word)"),
        "tags": re.compile(r"\btags\b"),
        "follow-ups": re.compile(r"\bfollow[- ]?ups?\b"),
        "search query": re.compile(r"\bsearch quer(?:y|ies)\b"),
        "emoji": re.compile(r"\bemoji\b"),
    }
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
    wanted = [(kind, pattern) for kind, pattern in _WANTED.items() if pattern.search(text)]
    if wanted:
        for verb in _DEMAND.finditer(text):
            later = re.split(r"[?!]", text[verb.end() : verb.end() + _LATER], maxsplit=1)[0]
            soon = _OTHER.split(later[:_SOON], maxsplit=1)[0]
            for kind, pattern in wanted:
                one, other = (pattern, _CONVERSATION) if pattern.search(soon) else (_CONVERSATION, pattern)
                if one.search(soon) and other.search(later):
                    return kind
    return "title" if _NAMED.search(text) else None
