"""What the guard looks for, as one table: a kind, what it is called, and where in a text it stands.

The expressions are ours and linear: no repetition stands in another that could share its letters, and those
without an end of their own are bounded.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from edge_router.guard import gates, numbers
from edge_router.guard.key_formats import KEY_FORMATS, NAMES, PASSWORDS, KeyFormat
from edge_router.records import dataclass

Find: TypeAlias = Callable[[str], Iterator[tuple[int, int, str]]]
"""Start, end and what exactly it is, where that is known."""

_SHORTEST_KEY = 15  # letters without a space
# A letter before it makes it a part of something else, but for that of an escape such as \n.
_BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf]))"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_WEB_TOKEN = re.compile(r"\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{16,}")
_KEY_LETTER = re.compile(r"[A-Za-z0-9_\-]")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{1,20}://[^\s/:@\"']{0,100}:([^\s/@\"']{3,200})@[A-Za-z0-9\[]")
_HEADER = re.compile(
    r"(?i:authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:bearer|basic|token)\s{1,3})([^\s\"',;]{12,})"
)
# A name, perhaps quoted, in brackets or with its type, and what it is set to.
_NAMED = re.compile(
    rf"(?i)({'|'.join(NAMES)})s?(?:\\?[\"'])?\]?[ \t]{{0,4}}"
    r"(:[ \t]{0,2}(?:str|string)[ \t]{0,2}=|:=|=>|=|:|>|(?<=[ \t])is(?=[ \t])|(?<=[ \t]))[ \t]{0,4}"
    r"(?:\\?\"([^\"\r\n]{8,200}?)\\?\"|\\?'([^'\r\n]{8,200}?)\\?'|([^\s\"',;(){}\[\]<>]{8,200}))"
)
_OPTION = re.compile(r"--[a-z]{0,12}-?\Z|\blogin \S{1,64}\s\Z")
_NO_SECRET = re.compile(
    r"(?i)example|changeme|placeholder|redacted|your[-_ ]|dummy|\*{3}|x{4}|\.{3}"
    r"|^<|^\$|^%|^\{|\(|process\.|environ|getenv"
)
_DULL_PASSWORD = re.compile(r"(?i)pass|passw(?:or)?d|pwd|secret|guest|admin|root|test")
# Which key it is, as the name says before it.
_KEY_OF_ACCESS = re.compile(
    r"(?i)(?:api|access|secret|private|auth|account|encryption|signing|service|master|shared|client|app)"
    r"[ _\-]?\Z"
)
_KEY_OF_DATA = re.compile(
    r"(?i)(?:public|pub|primary|foreign|sort|partition|cache|idempotency|unique|object|routing|websocket|group"
    r"|shard|hash|row|index|lookup|composite|natural|surrogate|candidate|version|s3|redis)[ _\-]?\Z"
)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_WORD = re.compile(r"[A-Z]*[a-z]*(?:[A-Z][a-z]{2,})*[0-9]{0,4}")
_LONGEST_WORD = 24
_MAIL = re.compile(r"(?:@|%40)(?:[\w\-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w\-])")
_MAIL_LETTER = re.compile(r"[\w.%+\-']")
HOSTS_OF_MANY = {
    "localhost",
    "localdomain",
    "ubuntu",
    "debian",
    "fedora",
    "raspberrypi",
    "macbook",
    "desktop",
}


@dataclass(frozen=True, slots=True)
class Detector:
    """`kind` is what a setting is named after, `label` what its placeholders are, `noun` what people read.

    `alike`: letters that look as others do are taken for those. `gate` is an expression of RE2's for what
    stands in every text in which it finds something; see gates.py. `across`: it is looked for where one text
    ends and the next begins, too. Where a page of code begins with "@app.get" every word before it would be
    an e-mail address, and what stands across cannot be hidden: the conversation could not leave any more.
    """

    kind: str
    label: str
    noun: str
    find: Find
    alike: bool = True
    gate: str | None = None
    across: bool = True


def detectors(machine: MachineIdentity) -> tuple[Detector, ...]:
    """The surest first: where two find the same, it counts as the first one's."""
    return (
        Detector("secrets", "SECRET", "a key or password", secrets, gate=gates.SECRETS),
        Detector("ibans", "IBAN", "an IBAN", _nameless(numbers.ibans), gate=gates.IBANS),
        Detector("cards", "CARD", "a card number", _nameless(numbers.cards), gate=gates.CARDS),
        Detector("emails", "EMAIL", "an e-mail address", emails, gate=gates.EMAILS, across=False),
        Detector("paths", "HOME", "a folder of this machine", machine.paths),
        Detector("hosts", "HOST", "the name of this machine", machine.hosts),
        Detector("phones", "PHONE", "a telephone number", _nameless(numbers.telephones), across=False),
    )


KINDS = ("secrets", "cards", "ibans", "emails", "phones", "paths", "hosts")


def _nameless(find: Callable[[str], Iterator[tuple[int, int]]]) -> Find:
    def found(text: str) -> Iterator[tuple[int, int, str]]:
        return ((start, end, "") for start, end in find(text))

    return found


# ---- keys, tokens, passwords -------------------------------------------------------------------------------


_PREFIXES = tuple((prefix, form) for form in KEY_FORMATS for prefix in form.prefixes)


@lru_cache(None)
def _expression(form: KeyFormat) -> re.Pattern[str]:
    return re.compile(_BEGIN + form.pattern)


def secrets(text: str) -> Iterator[tuple[int, int, str]]:
    """Keys by their formats, private keys, passwords in addresses and behind their names."""
    # Nothing with a format has a space in it, and few words are that long.
    long = "\n".join(word for word in text.split() if len(word) >= _SHORTEST_KEY)
    if long:
        for prefix, form in _PREFIXES:
            if prefix in long:
                expression, end = _expression(form), 0
                for at in _places(text, prefix):
                    key = expression.match(text, at) if at >= end else None
                    if key is not None and not (form.mixed and _is_words(key[0].removeprefix(prefix))):
                        end = key.end()
                        yield at, end, form.service
        if ".eyJ" in long:
            yield from _web_tokens(text)
        if "://" in long:
            yield from _in_addresses(text)
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)
    lowered = text.lower()
    if "authorization" in lowered:
        yield from _in_headers(text)
    yield from _named(text, lowered)


def _private_keys(text: str) -> Iterator[tuple[int, int, str]]:
    """From their first line to their last, or to the end of the text where they were cut."""
    begin = _PEM.search(text)
    while begin is not None:
        last = _PEM_END.search(text, begin.end())
        end = len(text) if last is None else last.end()
        yield begin.start(), end, "private key"
        begin = _PEM.search(text, end)


def _web_tokens(text: str) -> Iterator[tuple[int, int, str]]:
    """JSON Web Tokens, told from the dot in their midst: a text of beginnings alone has none."""
    for at in _places(text, ".eyJ"):
        rest, start = _WEB_TOKEN.match(text, at), at
        while rest is not None and start > 0 and _KEY_LETTER.match(text, start - 1):
            start -= 1
        if rest is not None and text.startswith("eyJ", start):
            yield start, rest.end(), "JSON Web Token"


def _in_addresses(text: str) -> Iterator[tuple[int, int, str]]:
    """Passwords before a host, but for those that stand for one: variables, and what every manual writes."""
    for found in _ADDRESS.finditer(text):
        user = found[0].partition("://")[2].partition(":")[0]
        dull = found[1] == user or _DULL_PASSWORD.fullmatch(found[1])
        if not dull and not _NO_SECRET.search(found[1]):
            yield *found.span(1), "password"


def _in_headers(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _HEADER.finditer(text):
        if not _NO_SECRET.search(found[1]) and not _is_words(found[1]):
            yield *found.span(1), "password"


def _named(text: str, lowered: str) -> Iterator[tuple[int, int, str]]:
    """A value that is a password by its name: in quotes or like one of a shell, and no word of a program."""
    matches: Iterator[re.Match[str]] = _NAMED.finditer(text)
    if len(lowered) == len(text):  # the same found sooner
        places = sorted(at for name in NAMES for at in _places(lowered, name))
        matches = (match for at in places if (match := _NAMED.match(text, at)) is not None)
    end = 0
    for found in matches:
        if found.start() < end:
            continue
        group = next(number for number in (3, 4, 5) if found[number] is not None)
        value, after = found[group], text[found.end() : found.end() + 1]
        code = group == 5 and (after in ("(", "[") or (after in (")", ".", ";") and _is_words(value)))
        mixed = re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
        plain = code or not mixed or " " in value or not _is_secret(text, found, value)
        if not plain and not _NO_SECRET.search(value):
            end = found.end()
            yield *found.span(group), "password"


def _is_secret(text: str, named: re.Match[str], value: str) -> bool:
    """By its name and its look together: keys and tokens have names that much else has, too."""
    name, way = named[1].lower(), named[2]
    before = text[max(0, named.start() - 80) : named.start()]
    if (way == "" and not _OPTION.search(before)) or (way == ">" and not text.startswith("</", named.end())):
        return False
    if name in PASSWORDS:
        return not (value.startswith(("/", "~/", "./")) and _is_words(value))
    if way == ">" or _is_words(value):
        return False
    if name != "key":
        return True
    if _KEY_OF_ACCESS.search(before):
        return True
    within = named[1][0] == "k" and before[-1:].isalpha()  # as in monkey
    short = len(value) < _SHORTEST_KEY
    return not (short or within or _KEY_OF_DATA.search(before) or _UUID.fullmatch(value))


def _is_words(value: str) -> bool:
    """Whether it is made of words and small numbers, as names in programs and paths are: user_id_2024."""
    pieces = [piece for piece in re.split(r"[\W_]+", value) if piece]
    if not all(_WORD.fullmatch(piece) and len(piece) <= _LONGEST_WORD for piece in pieces):
        return False
    numbered = sum(piece[0].isalpha() and piece[-1].isdigit() for piece in pieces)
    return any(len(piece) > 2 and piece.isalpha() for piece in pieces) and 2 * numbered <= len(pieces)


def _places(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)


# ---- persons and machines ----------------------------------------------------------------------------------


def emails(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _MAIL.finditer(text) if "@" in text or "%40" in text else ():
        start = found.start()
        while start > 0 and found.start() - start < 64 and _MAIL_LETTER.match(text, start - 1):
            start -= 1
        if text[start : found.start()] not in ("", "git"):  # by which every repository is fetched
            yield start, found.end(), ""


class MachineIdentity:
    """What tells this machine and its user from others: the home folder and the names it is known by."""

    def __init__(self, home: str, names: tuple[str, ...]) -> None:
        self._home = self._path_of(home)
        hosts = dict.fromkeys(part for name in names for part in (name, name.partition(".")[0]))
        telling = [re.escape(name) for name in hosts if len(name) > 3 and name.lower() not in HOSTS_OF_MANY]
        self._telling = tuple(name.lower() for name in hosts if re.escape(name) in telling)
        # The longest first, which holds the others.
        either = "|".join(sorted(telling, key=len, reverse=True))
        self._names = re.compile(rf"(?i)(?<![\w-])(?:{either})(?![\w-])") if either else None

    @classmethod
    def here(cls) -> MachineIdentity:
        try:
            home = str(Path.home())
        except RuntimeError:  # whose user has none
            home = ""
        return cls(home, (platform.node(),))

    def paths(self, text: str) -> Iterator[tuple[int, int, str]]:
        if self._home is not None and ("/" in text or "\\" in text):
            yield from ((*found.span(), "") for found in self._home.finditer(text))

    def hosts(self, text: str) -> Iterator[tuple[int, int, str]]:
        lowered = text.lower()
        if self._names is not None and any(name in lowered for name in self._telling):
            yield from ((*found.span(), "") for found in self._names.finditer(text))

    @staticmethod
    def _path_of(home: str) -> re.Pattern[str] | None:
        """The folder in each way to write it: with either slash, doubled in JSON and programs, from WSL."""
        drive, _, rest = home.replace("\\", "/").rpartition(":")
        parts = [re.escape(part) for part in rest.split("/") if part]
        if not parts or (len(parts) == 1 and parts[0] in ("root", "tmp")):
            return None
        slash = r"[\\/]{1,4}"
        begin = rf"(?:{drive}:|/mnt/{drive}|/{drive})?" if drive else ""
        exact = "" if parts[0].lower() == "home" else "(?i)"
        return re.compile(rf"{exact}{begin}{slash}{slash.join(parts)}(?![\w-])")
