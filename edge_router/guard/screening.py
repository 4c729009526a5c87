"""A request looked through: what was found in it, and the request without that.

`Screening` is made of what to look for; a request that holds nothing of it is told in one pass over all of
its texts. What cannot be taken out (it stands in a file, or as a name) is still there when the request is
looked through once more, and keeps it here.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar, cast

from edge_router.chat.message import Part, Reasoning, Refusal, Text, ToolCall, ToolResult
from edge_router.chat.request import ChatRequest
from edge_router.guard.detectors import Detector
from edge_router.guard.encodings import decoded, encoded
from edge_router.guard.gates import CODED, all_of, gate
from edge_router.guard.key_formats import KEY_FORMATS
from edge_router.guard.reading import Reading
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.surfaces.wire import dumps

T = TypeVar("T")
_LISTS = (tuple, list, frozenset)

# Of a request what is never sent, or chosen by us.
_STAYS = frozenset({"target", "private", "mask", "signals", "names", "program", "reader", "keep"})
PLACEHOLDER = re.compile(r"\[[A-Z]+_[0-9]+\]")
# The same in an answer: models write names in small letters, and a backslash where Markdown may want one.
_REWRITTEN = re.compile(r"\[([A-Za-z]+)\\{0,2}_([0-9]+)\]")
_BLOB = re.compile(r"(?:data:[^,\s]{0,200};base64,)?[A-Za-z0-9+/_\-]*={0,2}")
_DEPTH = 2  # one code within another
_SEAM = 96  # letters on each side of where one text ends and the next begins
_LARGE = 256  # letters of base64 that are read as a file and not as words
_BEGINNINGS = tuple(prefix for form in KEY_FORMATS for prefix in form.prefixes)


@dataclass(frozen=True, slots=True)
class Detection:
    """Where something stands in a text. `what` says which exactly, where that is known."""

    kind: str
    label: str
    what: str
    start: int
    end: int


@dataclass(slots=True)
class Vault:
    """What was taken out of a request: placeholders and what they stand for."""

    taken: frozenset[str] = frozenset()  # placeholders that somebody has written
    values: dict[str, str] = field(default_factory=dict)  # by placeholder
    _places: dict[tuple[str, str], str] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    def placeholder(self, label: str, value: str) -> str:
        """The same one for the same value, numbered in the order in which they come: what a conversation
        has begun with is written the same way in each of its turns."""
        known = self._places.get((label, value))
        while known is None:
            self._counts[label] += 1
            new = f"[{label}_{self._counts[label]}]"
            if new not in self.taken:
                self._places[label, value] = known = new
                self.values[new] = value
        return known


def spelled(rewritten: re.Match[str]) -> str:
    """A placeholder as it was written first."""
    return f"[{rewritten[1].upper()}_{rewritten[2]}]"


def put_back(text: str, values: Mapping[str, str]) -> str:
    """`text` with what its placeholders stand for; the others stay."""
    return _REWRITTEN.sub(lambda found: values.get(spelled(found), found[0]), text)


class Screening:
    """Looks for what `detectors` find. Safe to use from any number of threads."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = tuple(detectors)
        self._as_written = not all(each.alike for each in self.detectors)
        self._across_kinds = frozenset(each.kind for each in self.detectors if each.across)
        own = [each.gate for each in self.detectors]
        self._gates = {each: gate(each) for each in (*own, CODED) if each is not None}
        self._gate = all_of([*own, CODED])

    def found(self, request: ChatRequest) -> Counter[tuple[str, str]]:
        """How often what was found, by kind and what exactly it is."""
        texts = texts_of(request)
        if not self.detectors:
            return Counter()
        whole = self.findings("\n".join(texts))
        found = [each for text in texts for each in self.findings(text)] if whole else []
        return Counter((each.kind, each.what) for each in (*found, *self._across(request)))

    def _across(self, request: ChatRequest) -> Iterator[Detection]:
        """What has its beginning in one text and its end in the next."""
        places = seams(request)
        if not places or not self.findings("\n".join(left + right for left, right in places)):
            return
        for left, right in places:
            # What stands wholly in one of them is found there.
            left, right = self.masked(left, Vault()), self.masked(right, Vault())
            for each in self.findings(left + right):
                if each.start < len(left) < each.end and each.kind in self._across_kinds:
                    yield each

    def hidden(self, request: ChatRequest) -> tuple[ChatRequest, Vault]:
        """`request` with placeholders in the place of whatever can be taken out of it."""
        taken = frozenset(spelled(found) for text in texts_of(request) for found in _REWRITTEN.finditer(text))
        vault = Vault(taken)
        return mapped(request, lambda text: self.masked(text, vault)), vault

    def masked(self, text: str, vault: Vault) -> str:
        """`text` with placeholders of `vault`."""
        pieces, at = [], 0
        for each in self.findings(text):
            pieces += [text[at : each.start], vault.placeholder(each.label, text[each.start : each.end])]
            at = each.end
        return "".join([*pieces, text[at:]])

    def findings(self, text: str, depth: int = 0) -> list[Detection]:
        """In the order in which they stand there; none within another."""
        reading = Reading(text)
        if self._gate is not None and not self._gate(reading.plain):
            return []
        as_written = Reading(text, alike=False) if self._as_written else reading
        found: list[Detection] = []
        for detector in self.detectors:
            read = reading if detector.alike else as_written
            if detector.gate is not None and not self._gates[detector.gate](read.plain):
                continue
            for start, end, what in detector.find(read.plain):
                if end > start:
                    found.append(Detection(detector.kind, detector.label, what, *read.span(start, end)))
        if depth < _DEPTH and self._gates[CODED](reading.plain):
            found += self._coded(reading, depth)
        return [each for each in _apart(found) if not PLACEHOLDER.fullmatch(text, each.start, each.end)]

    def _coded(self, reading: Reading, depth: int) -> Iterator[Detection]:
        """What stands in base64 or as the numbers of its letters: all of that is one finding."""
        pieces = [piece for piece in encoded(reading.plain) if piece[2]]
        if len(pieces) > 1 and not self.findings("\n".join(inner for _, _, inner in pieces), depth + 1):
            return
        for start, end, inner in pieces:
            first = next(iter(self.findings(inner, depth + 1)), None)
            if first is not None:
                yield Detection(first.kind, first.label, first.what, *reading.span(start, end))


def _apart(found: Sequence[Detection]) -> list[Detection]:
    """In their order, without those that overlap one of a detector before, or a longer one of the same."""
    kept: list[Detection] = []
    starts: list[int] = []
    ends: list[int] = []
    for each in found:
        first, last = bisect_right(ends, each.start), bisect_left(starts, each.end)
        if all(other.kind == each.kind and _within(other, each) for other in kept[first:last]):
            kept[first:last], starts[first:last], ends[first:last] = [each], [each.start], [each.end]
    return kept


def _within(inner: Detection, outer: Detection) -> bool:
    size = outer.end - outer.start
    return outer.start <= inner.start and inner.end <= outer.end and inner.end - inner.start < size


# ---- every text of a request -------------------------------------------------------------------------------


def texts_of(request: ChatRequest) -> list[str]:
    """All texts that would be sent, keys of objects among them, messages first.

    Raises `TypeError` for what nobody has thought of: it must not pass unseen.
    """
    found: list[str] = []
    for name in _names(ChatRequest):
        value = getattr(request, name)
        if value and name not in _STAYS:
            _gather(value, found)
    return found


@lru_cache(64)
def _names(kind: object) -> tuple[str, ...]:
    """Of the fields of a dataclass."""
    return tuple(each.name for each in fields(cast(Any, kind)))


def words_of(request: ChatRequest) -> list[str]:
    """The texts that somebody wrote: without roles and the like, which are the same for all."""
    found: list[str] = []
    for message in request.messages:
        for part in message.parts:
            if type(part) is Text and part.text and not part.extra:  # which most are
                found.append(_payload(part.text) if len(part.text) >= _LARGE else part.text)
            else:
                _gather(part, found)
        for told in (message.name, message.extra):
            if told:
                _gather(told, found)
    for more in (request.tools, request.output, request.raw_prompt, request.extra.fields):
        if more:
            _gather(more, found)
    return found


def seams(request: ChatRequest) -> list[tuple[str, str]]:
    """The end of each text, and how those go on that follow it: in the whole conversation, and in what the
    same one wrote."""
    said: dict[str, list[str]] = {}
    whole = said[""] = []
    for message in request.messages:
        texts = [text for text in spoken(message.parts) if text.strip()]
        whole += texts
        said.setdefault(message.role, []).extend(texts)
    rows = said.values() if len(said) > 2 else (whole,)
    return list(dict.fromkeys(pair for texts in rows for pair in _pairs(texts)))


def _pairs(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place in range(1, len(texts)):
        after, at = "", place
        while len(after) < _SEAM and at < len(texts):
            after, at = after + texts[at][: 2 * _SEAM].strip()[:_SEAM], at + 1
        before = texts[place - 1][-2 * _SEAM :].rstrip()[-_SEAM:]
        yield before, after
        if before[-1:].isdigit() and after[:1].isdigit():  # groups of digits
            yield f"{before} ", after


def spoken(parts: Sequence[Part]) -> Iterator[str]:
    """The texts in which somebody wrote something, in their order."""
    for part in parts:
        if isinstance(part, ToolResult):
            yield from spoken(part.parts)
        elif isinstance(part, ToolCall):
            yield part.arguments
        elif isinstance(part, Text | Reasoning | Refusal):
            yield part.text


def _gather(value: object, found: list[str]) -> None:
    if isinstance(value, str):
        found.append(_payload(value) if len(value) >= _LARGE else value)
    elif isinstance(value, ToolCall) and not value.free:
        found += (value.id, value.name)
        _gather(_arguments(value), found)
        _gather(value.extra, found)
    elif isinstance(value, _LISTS):
        for inner in value:
            _gather(inner, found)
    elif is_dataclass(value):
        for name in _names(cast(object, type(value))):
            if inner := getattr(value, name):  # what is empty or 0 holds no text
                _gather(inner, found)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _gather(name, found)
            _gather(inner, found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found.append(str(value))
    elif not (value is None or isinstance(value, bool)):
        raise TypeError(f"{type(value).__name__} in a request")


def _payload(text: str) -> str:
    """A file's words in the place of its base64: the letters of a picture or of a signature mean nothing, but
    where they begin as a key does."""
    if text.startswith(_BEGINNINGS) or not _BLOB.fullmatch(text):
        return text
    head, _, body = text.rpartition(",")
    return f"{head}\n{decoded(body)}"


def _arguments(call: ToolCall) -> object:
    """What the JSON of a call holds; the text itself where it is none, or says one thing twice."""
    try:
        return cast(object, strict_json.parse_object(call.arguments, once=True))
    except ValueError:
        return call.arguments


def mapped(value: T, change: Callable[[str], str]) -> T:
    """`value` with `change` made to each of the texts in it, but names in objects, and files."""
    return cast(T, _mapped(value, change))


def _mapped(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        is_file = value.startswith("data:") or (len(value) >= _LARGE and _payload(value) == "\n")
        return value if is_file else change(value)
    if isinstance(value, ChatRequest):
        return _replaced(value, change, _STAYS)
    if isinstance(value, ToolCall) and not value.free:
        before = _arguments(value)
        after = _mapped(before, change)
        written = value.arguments if after == before else after if isinstance(after, str) else _json(after)
        return replace(_replaced(value, change, {"arguments"}), arguments=written)
    if isinstance(value, Mapping):
        return {name: _mapped(inner, change) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_mapped(inner, change) for inner in value)
    return _replaced(value, change, ()) if is_dataclass(value) else value


def _replaced(value: Any, change: Callable[[str], str], but: Any) -> Any:
    new = {
        each.name: _mapped(getattr(value, each.name), change)
        for each in fields(value)
        if each.name not in but
    }
    return replace(value, **new)


def _json(value: object) -> str:
    return dumps(cast(Any, value)).decode()
