"""Judging answers: against a known one (`exact`, `choice`), or both models' against each other (`strong`)."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Literal

Judge = Literal["exact", "choice", "strong"]
JUDGES: tuple[Judge, ...] = ("exact", "choice", "strong")
VERDICT_TOKENS = 512  # room for a verdict; models that think first need more than a letter

_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
_LEAD = re.compile(r"^\W*(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*:?\s*", re.IGNORECASE)
_NAMED = re.compile(r"answer\s*(?:is|:)?\s*[\s:*_(\[\"']*([A-Ja-j])(?![A-Za-z'])", re.IGNORECASE)
_LEADING = re.compile(r"^[\s*_(\[\"']*([A-Ja-j])(?:[\s*_)\].,:;\"']|$)")
# A line of its own: "A" is also a word that sentences begin with.
_VERDICT = re.compile(
    r"\W*(?:(?:the\s+)?(?:better\s+)?answer(?:\s+is)?\W+)?(A|B|TIE)\W*(?:\(.*\)\W*)?",
    re.IGNORECASE,
)

_QUESTION = """Two assistants were asked the same. Which answer is better: more correct, more helpful?

[Question]
{prompt}

[Answer A]
{first}

[Answer B]
{second}

Length and style count for nothing. Reply with A, B or TIE (equally good) alone."""


def exact(reply: str, known: str) -> float:
    """1 where the reply gives the known answer, else 0.

    A number must be the reply's last number. Anything else must be the reply, or its last line, once case,
    punctuation and a leading "The answer is" are taken away.
    """
    wanted = _number(known) if _NUMBER.fullmatch(known.strip().lstrip("$")) else None
    if wanted is not None:
        found = _NUMBER.findall(reply)
        return float(bool(found) and _number(found[-1]) == wanted)
    lines = [line for line in reply.splitlines() if line.strip()] or [""]
    return float(_bare(known) in (_bare(reply), _bare(lines[-1])))


def choice(reply: str, known: str) -> float:
    """1 where the reply chooses the known letter, else 0.

    The letter named last after "answer" counts, else the one that the reply begins with.
    """
    named = _NAMED.findall(reply)
    leading = _LEADING.match(reply)
    chosen = named[-1] if named else leading[1] if leading else ""
    return float(bool(chosen) and chosen.upper() == known.strip().strip("().").upper())


def comparison(prompt: str, weak: str, strong: str) -> str:
    """What the strong model is asked. Which answer comes first is drawn from a hash of the prompt."""
    first, second = (weak, strong) if weak_is_first(prompt) else (strong, weak)
    return _QUESTION.format(prompt=prompt, first=first, second=second)


def verdict(reply: str, prompt: str) -> tuple[float, float] | None:
    """(weak score, strong score): 1 for the better answer and 0 for the other, both 1 for a tie.

    It stands on the reply's last line, or on its first; None for a reply that says neither there.
    """
    lines = [line for line in reply.splitlines() if line.strip()] or [""]
    found = _VERDICT.fullmatch(lines[-1]) or _VERDICT.fullmatch(lines[0])
    if found is None:
        return None
    said = found[1].upper()
    if said == "TIE":
        return 1.0, 1.0
    return (1.0, 0.0) if (said == "A") == weak_is_first(prompt) else (0.0, 1.0)


def weak_is_first(prompt: str) -> bool:
    return bool(hashlib.blake2b(prompt.encode("utf-8", "replace"), digest_size=1).digest()[0] % 2)


def _number(text: str) -> float:
    return float(text.strip().lstrip("$").replace(",", ""))


def _bare(text: str) -> str:
    text = _LEAD.sub("", unicodedata.normalize("NFKC", text)).casefold()
    return " ".join(re.sub(r"[^\w\s]", " ", text).split())
