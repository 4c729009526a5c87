"""What a server says of a request that it does not take: which field is meant, and what it would take. Pure.

Servers say it in many words. What they name by `param` or by the place of a validation error is believed
first, then names in quotation marks, then names in the running text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from edge_router.records import dataclass

MENDABLE = (400, 404, 413, 415, 422, 501)  # HTTP's ways to say that a request can't be taken as it is
LONGEST_READ = 4000  # characters
ROLES = ("system", "developer", "user", "assistant", "tool")
USUAL = frozenset({"user", "assistant"})
Path = tuple[str, ...]  # a field of the body, or "messages" and a field of a message

# Refusals that are about one request's length or content rather than about a field.
_ABOUT_CONTENT = re.compile(
    r"context.?(length|window)|content.?(filter|policy|management)|invalid_prompt|too many tokens|too long"
    r"|string_above_max_length|flagged|safety|moderation"
)
_QUOTA_CODE = re.compile(
    r"insufficient.(\w+.)?(quota|balance|credit|fund)|billing|arrear|payment.required"
    r"|(credits?|quota).exhausted"
)
_QUOTA = re.compile(
    r"insufficient (account )?(quota|balance|credit|fund)|exceeded your (current|monthly) quota"
    r"|credit balance"
    r"|(out of|not enough|no|purchase( more)?|add( more)?|requires more) credits|billing|payment required"
    r"|top up|recharge|arrears|overdue|spending limit|quota (is |has been )?(used up|exhausted)|prepaid"
)
_SOON = re.compile(r"(retry|try again) (in|after)|per (minute|second|hour|day)|rate.?limit")
_REFUSING = re.compile(
    r"support|unknown|unrecogni|unexpected|extra|permitted|allow|forbid|invalid|valid|available|enabled|disabled"
    r"|deprecated|must|should|only|cannot|can't|too \w+|exceed|range|limit|less|great|between|maximum|minimum"
    r"|not one of|no longer|compatible|remove|expected|accept|property|verified|require"
)
_UNSUPPORTED = re.compile(
    r"not support|n't support|unsupported|unknown|unrecogni|unexpected|extra|not permitted|not allowed|forbid"
    r"|not available|not enabled|disabled|deprecated|only the default|no longer|not compatible|incompatible"
)
_ABOUT_VALUE = re.compile(
    r"(unsupported|invalid).value|(supported|valid|allowed|possible) (values|options)|one of|should be|enum"
    r"|literal|variant|\bexpected|invalid type|must be"
)
_RANGE = re.compile(
    r"range|between|less|great|at most|at least|maximum|minimum|\bmax\b|\bmin\b"
    r"|too (large|high|big|many|long|small|low)|larger|smaller|higher|lower"
    r"|must be in\b|\.\.|exceed|limit|above|below|up to|[<>≤≥]|more than|out of|positive"
)
_NUMBER = re.compile(r"(?<![\w.\-])-?(?:\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?!\w|\.\d)")
_SPAN = re.compile(r"(?<![\w.\-])(\d+(?:\.\d+)?)\s?(?:-|–|\.{2,3})\s?(\d+(?:\.\d+)?)(?![\w\-]|\.\d)")
# What stands before and behind a number that must not be reached itself.
_BELOW = re.compile(r"(less than|smaller than|lower than|below|under|<)\s*[`'\"]?$")
_ABOVE = re.compile(r"\bbe (strictly )?(greater than|larger than|higher than|above|more than|>)\s*[`'\"]?$")
_OPENED = re.compile(r"[\[(]\s*-?[\d.]{1,20}\s*,\s*$")  # (0, 1): an interval without its ends
_CLOSED = re.compile(r"\s*,\s*-?[\d.]{1,20}\s*[\])]")
_ENDS = re.compile(r"between|range|\bto\b|[\[(]\s*-?[\d.]{1,20}\s*,")
LEAST_STEP = 0.001  # between a fraction that must not be reached and one that may
_QUOTED = re.compile(r"[`'\"“‘]([\w.\[\]/\-]{1,80})[`'\"”’]")
_DOTTED = re.compile(r"(?<![\w.])\w{1,40}(?:[.\[\]]{1,2}\w{1,40}){1,6}")
_CONTEXT = re.compile(
    r"context (?:length|window|size)\D{0,40}([\d,]{1,12})|inputs?\W+tokens \+ \D{0,40}([\d,]{1,12})"
)
_PROMPT = re.compile(
    r"(?<![\d,])([\d,]{1,12})\s?(?:tokens? )?"
    r"(?:(?:in|of|from) (?:the |your )?(?:messages|prompt|input|text input)"
    r"|(?:input|prompt) tokens|`inputs` tokens)|(?:messages|prompt|input)\D{0,40}?([\d,]{1,12}) tokens"
    r"|(?:prompt|input) (?:tokens|length)\W{1,4}([\d,]{1,12})"
)
_SUM = re.compile(r"(sum of|total|plus|\+).{0,80}(max|completion|new|output)|(prompt|input).{0,40}\+")
_PAIR = re.compile(
    r"\bboth\b|supported with (?!th|your|model)|together|same time|simultaneously|mutually exclusive|conflict"
)
_NO_MODEL = re.compile(
    r"model.{0,80}(not exist|not found|n't exist|not a valid|unknown|decommissioned|been (shut|retired))"
    r"|not a valid model|no such model|unknown model|invalid model|no endpoints found for"
)
_REJECTED_ROLE = re.compile(
    r"(?:got|received|found|not|variant|invalid|unexpected|unsupported|support|input_value=|'input':)"
    r"\W{0,6}(?:(?:role|value)\W{0,4})?(system|developer)\b"
)
_LIST = re.compile(r"one of|expected|should be|must be|allowed|supported|valid")
_TOOLS = re.compile(r"\btool (use|call|choice)|\btool-?calling|function.?calling")
_WANTS_STREAM = re.compile(
    r"stream\W{0,4}(=|:|to|is|be|must be|as)?\W{0,4}true|only supports? stream|requires? stream"
    r"|enable (the )?stream|stream(ing)? (mode )?(is )?required|must (be )?stream"
)
# What stands around a field's name that is a word of its own, too.
_BEFORE = (
    r"(?:parameter|argument|field|property|option|keyword|supplied|support|supporting|allow|accept|unknown"
    r"|unsupported|unrecognized|unexpected|invalid|extra|to)s?:?\s+(?:the\s+)?"
)
_BEHIND = (
    r"(?:\s+(?:parameter|argument|field|option|sequence|value|mode|response)s?)?\s*(?::|is\b|are\b|isn't|must|do(?:es)?\b"
    r"|should|cannot|can't|not\b|unsupported|exceeds|too\b|was\b)"
)
_OUTER = ("body", "request", "generationconfig", "parameters", "params", "root", "input", "data")
_UNSAFE = ("model", "messages", "prompt", "user", "content", "name")  # words of any sentence
_PLAIN = ("temperature", "seed", "logprobs")  # words that mean nothing else; so do those with an underscore
_LENGTHS = ("max_output_tokens", "max_new_tokens", "max_tokens_to_sample", "maximum_tokens")
_ALIASES: Mapping[str, Sequence[str]] = {
    "max_tokens": (*_LENGTHS, "max_completion_tokens"),
    "max_completion_tokens": (*_LENGTHS, "max_tokens"),
    "stop": ("stop_sequences", "stop_words", "stop_strings"),
    "seed": ("random_seed",),
    "logprobs": ("response_logprobs", "logprob"),
    "presence_penalty": ("penalty", "penalties"),
    "frequency_penalty": ("penalty", "penalties"),
    "stream": ("streaming",),
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """A refusal, taken apart. `places` are the paths that it names by themselves, the surest first."""

    status: int
    message: str
    code: str = ""
    places: tuple[str, ...] = ()
    waits: bool = False

    @classmethod
    def of(cls, status: int, message: str, body: object = None, *, waits: bool = False) -> Complaint:
        """`body` is what came with it, parsed; `message` the words in it; `waits`: it may be asked again."""
        if isinstance(body, list) and len(body) == 1:
            body = body[0]
        inner = body.get("error", body) if isinstance(body, Mapping) else None
        error = inner if isinstance(inner, Mapping) else {}
        codes = [error.get(name) for name in ("code", "type", "status")]
        code = " ".join(each.lower() for each in codes if isinstance(each, str))
        details = error.get("detail") or (body.get("detail") if isinstance(body, Mapping) else None)
        places = [*_locations(details), *([error["param"]] if isinstance(error.get("param"), str) else [])]
        return cls(status, message, code, tuple(places), waits)

    @property
    def text(self) -> str:
        return self.message[:LONGEST_READ].lower()

    @property
    def names(self) -> tuple[str, ...]:
        """What it names beside its message, whether it was sent or not: a field that is missing, for one."""
        found = (place.removeprefix("body.") for place in self.places)
        return tuple(name for name in found if re.fullmatch(r"[\w.\[\]]{1,80}", name))

    @property
    def is_about_content(self) -> bool:
        return bool(_ABOUT_CONTENT.search(f"{self.code} {self.text}"))

    @property
    def is_about_quota(self) -> bool:
        """Whether money or a quota is used up, rather than that too much was asked at once."""
        if self.status == 402 or _QUOTA_CODE.search(self.code):
            return True
        if self.status not in (200, 400, 403, 429) or not _QUOTA.search(self.text):
            return False
        return not (self.waits or _SOON.search(self.text))

    @property
    def says_unsupported(self) -> bool:
        return bool(_UNSUPPORTED.search(f"{self.code} {self.text}"))

    @property
    def is_about_pair(self) -> bool:
        """Whether each of two fields alone may be welcome."""
        return bool(_PAIR.search(self.text))

    @property
    def is_about_value(self) -> bool:
        """Whether another value of the same field may be welcome."""
        return bool(_ABOUT_VALUE.search(f"{self.code} {self.text}"))

    @property
    def may_be_mended(self) -> bool:
        """Whether it is about the request at all, rather than about who asks, how often, or about a fault."""
        return self.status in MENDABLE and not self.is_about_quota

    @property
    def says_range(self) -> bool:
        return bool(_RANGE.search(self.text))

    @property
    def wants_stream(self) -> bool:
        return bool(_WANTS_STREAM.search(self.text)) and not self.says_unsupported

    def named(self, body: Mapping[str, object]) -> tuple[Path, ...]:
        """The fields of `body` that it is about: several only where a validation lists them."""
        known = _Known(body)
        listed = tuple(dict.fromkeys(path for place in self.places if (path := known.path(place))))
        if listed:
            return listed
        text = self.text
        if _REFUSING.search(text):
            spelled = [match[1] for match in _QUOTED.finditer(text)] + _DOTTED.findall(text)
            paths = [path for each in spelled if (path := known.path(each))]
            within = [path for path in paths if path != ("messages",)] or paths
            named = within[0] if within else known.in_text(text)
            if named is not None:
                return (named,)
        if "tools" in body and _TOOLS.search(text):
            return (("tools",),)
        if "model_not_found" in self.code or _NO_MODEL.search(text):
            return (("model",),)
        return ()

    def refused_roles(self, sent: Collection[object]) -> frozenset[str]:
        """Which of the roles in `sent` it is about."""
        text = self.text
        places = {role: match.start() for role in ROLES if (match := re.search(rf"\b{role}\b", text))}
        if not re.search(r"\broles?\b|variant|developer|system message", text):
            return frozenset()
        rejected = {match[1] for match in _REJECTED_ROLE.finditer(text)}.intersection(sent)
        if rejected:
            return frozenset(str(role) for role in rejected)
        if len(places) > 2:
            marker = _LIST.search(text)
            begin = marker.start() if marker else min(places.values()) + 1
            taken = {role for role in places if text.find(role, begin) >= 0}
            return frozenset(role for role in ROLES if role in sent and role not in taken)
        instructing = frozenset(role for role in ROLES[:2] if role in sent)
        if instructing & places.keys() or len(instructing) != 1:
            return instructing & places.keys()
        # By its other name, by a list without it, or by nothing where only the usual two are beside it.
        if places.keys() & set(ROLES[:2]) or (places.keys() == USUAL and _LIST.search(text)):
            return instructing
        return instructing if not places and instructing.issuperset(set(sent) - USUAL) else frozenset()

    @property
    def says_ends(self) -> bool:
        """Whether it says where a range begins and where it ends."""
        return bool(_ENDS.search(_SPAN.sub(r"\1 to \2", self.text)))

    def numbers(self) -> tuple[float, ...]:
        """All that it mentions, but for those in names; of one that must not be reached, the nearest that
        may be."""
        found, text = [], _SPAN.sub(r"\1 to \2", self.text)
        for match in _NUMBER.finditer(text):
            number = float(match[0].replace(",", ""))
            before, behind = text[: match.start()], text[match.end() :]
            step = 1.0 if number > 1 and number.is_integer() else LEAST_STEP
            opened = _OPENED.search(before) and behind.lstrip().startswith(")")
            if opened or _BELOW.search(before) or re.match(r"\W*\(?exclusive", behind):
                number -= step if number > 0 else 0
            elif _ABOVE.search(before) or (before.rstrip().endswith("(") and _CLOSED.match(behind)):
                number += step
            found.append(number)
        return tuple(found)

    @property
    def is_about_prompt_too(self) -> bool:
        """Whether it is the prompt and the answer together that are too long."""
        return bool(_CONTEXT.search(self.text) or _SUM.search(self.text))

    def room(self, asked: int) -> int:
        """How many of the `asked` tokens may follow this prompt; half of all, where it does not say."""
        prompt, context = _PROMPT.search(self.text), _CONTEXT.search(self.text)
        taken = _count(prompt)
        size = _count(context)
        if size is None:
            smaller = [number for number in self.numbers() if number < asked and number != taken]
            size = int(max(smaller, default=asked))
        return size // 2 if taken is None else size - taken


class _Known:
    """The names of a body's fields, however a server spells them."""

    def __init__(self, body: Mapping[str, object]) -> None:
        self._spellings = [(each, name) for name in body for each in (name, *_ALIASES.get(name, ()))]
        self._top: dict[str, str] = {}
        for spelled, name in self._spellings:
            self._top.setdefault(_canonical(spelled), name)
        messages = body.get("messages")
        keys = (
            {key for each in messages if isinstance(each, Mapping) for key in each}
            if isinstance(messages, list)
            else set()
        )
        self._inner = {_canonical(key): str(key) for key in keys}

    def path(self, place: str) -> Path | None:
        """`messages[0].role`, `body.top_p`, `generationConfig.topK`: the field that is meant."""
        steps = [_canonical(step) for step in re.findall(r"[A-Za-z_]+", place)]
        while steps and steps[0] in _OUTER and steps[0] not in self._top:
            steps.pop(0)
        if not steps:
            return None
        name = self._top.get(steps[0])
        if name is None:
            inner = self._inner.get(steps[0]) if len(steps) == 1 and steps[0] != "content" else None
            return ("messages", inner) if inner else None
        if name != "messages":
            return (name,)
        inner = next((self._inner[step] for step in steps[1:] if step in self._inner), None)
        return (name, inner) if inner else (name,)

    def in_text(self, text: str) -> Path | None:
        found = []
        for spelled, name in self._spellings:
            if name in _UNSAFE:
                continue
            match = re.search(_said(spelled, name), text)
            if match is not None:
                found.append((match.start(), -len(spelled), name))
        return (min(found)[2],) if found else None


def _said(spelled: str, name: str) -> str:
    """What a sentence about a field of that name looks like."""
    word = re.escape(spelled).replace("_", "[_ -]?")
    alone = rf"(?<![\w.]){word}(?!\w)"
    if "_" in name or name in _PLAIN:
        return alone
    return rf"{_BEFORE}{alone}|{alone}(?:=\w{{1,10}})?{_BEHIND}|:\s{alone}\W{{0,3}}$"


def _count(match: re.Match[str] | None) -> int | None:
    digits = next((group for group in match.groups() if group), "") if match else ""
    return int(digits.replace(",", "")) if digits.strip(",") else None


def _canonical(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _locations(details: object) -> Iterator[str]:
    """The places of a validation's errors, as FastAPI's servers list them."""
    for each in details if isinstance(details, list) else ():
        place = each.get("loc") if isinstance(each, Mapping) else None
        if isinstance(place, list):
            yield ".".join(str(step) for step in place)
