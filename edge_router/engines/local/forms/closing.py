"""How an answer under way can be ended soon: a short text, closing what is open, with what is missing.

A matcher over single bytes goes along with the answer; a step of it takes a microsecond, so a way to the end
is looked for by trying. It is a short one, if not the shortest: what may end ends, and of several beginnings
that of the shortest value is taken.
"""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edge_router.records import dataclass

_QUOTE, _BACKSLASH = 0x22, 0x5C
_LINE, _RAW_LINE = b"\\n", b"\n"  # the end of a line, as JSON's texts have it and others
_LETTER = list(b"z")  # of no number, and of no word that JSON has
_NUMBER = frozenset(b"0123456789.-+eE")
_BYTES = (1 << 256) - 1
LONGEST = 8192  # bytes of a way that is looked for
_BOUNDS = (256, 2048, LONGEST)  # tried in turns, for a manner may go in circles
_MANNERS = 9
_STEPS = _MANNERS * sum(_BOUNDS)
_SHORT = 64  # bytes
_ENOUGH = 3  # ways that were found and did not fit
_ENDS_VALUE, _ENDS_TEXT = b"}]),", b'"'  # or go on, where more is demanded
_BEGINNINGS = b'0n"t[f{123456789-.'  # those of short values first
_IN_TEXTS = b"0a-.@:/_ "  # what patterns ask for


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the next byte stands: in a string, behind a backslash, behind these bytes of a number.

    `infinite`: what came last has written a number that is none to whoever reads it.
    """

    within: bool = False
    escaped: bool = False
    number: bytes = b""
    infinite: bool = False

    def after(self, data: bytes, *, quotes: bool = True) -> _Place:
        """`quotes`: one begins a string."""
        within, escaped, number, infinite = self.within, self.escaped, self.number, False
        for byte in data:
            if within:
                within, escaped = escaped or byte != _QUOTE, byte == _BACKSLASH and not escaped
            elif byte in _NUMBER:
                number += bytes([byte])
            else:
                within = quotes and byte == _QUOTE
                if number:
                    infinite, number = infinite or _infinite(number), b""
        return _Place(within, escaped, number, infinite or _infinite(number))


def _infinite(number: bytes) -> bool:
    """JSON has no bound for an exponent, and computers have one."""
    try:
        return b"e" in number.lower() and math.isinf(float(number))
    except ValueError:  # it is under way
        return False


class Closing:
    """Follows one answer. `push` what comes, `pop` the last of it; `way` is bytes that end it.

    `endings` are what ends a text in which any byte may come. `numbers`: what looks like a number is one.
    """

    def __init__(self, matcher: Any, endings: Sequence[bytes] = (), *, numbers: bool = True) -> None:
        self._matcher, self._endings, self._numbers = matcher, tuple(map(list, endings)), numbers
        # Texts end with a line where JSON has its strings, too, and else with what stands for its quotes.
        self._quotes = all(ending.startswith(_RAW_LINE) for ending in endings)
        self._place = self._before = _Place()
        self._length = 0  # of what was pushed last, behind `_before`
        self._manner = 0  # that found a way the last time
        self.fault = ""  # why llguidance could not go on, where it could not

    def copy(self) -> Closing:
        """One that stands where this does, and goes on by itself."""
        found = copy.copy(self)
        found._matcher = self._matcher.deep_copy()
        return found

    @property
    def complete(self) -> bool:
        """Nothing more can come."""
        return bool(self._matcher.is_accepting()) and not _allowed(self._matcher) & _BYTES

    @property
    def digits(self) -> int:
        """Of the number under way."""
        return len(self._place.number)

    @property
    def infinite(self) -> bool:
        """Whether what came last has made a number too large to be one."""
        return self._numbers and self._place.infinite

    def push(self, data: bytes) -> bool:
        """False, and nothing has come, where the form does not allow it."""
        steps = list(data)
        if self._matcher.validate_tokens(steps) < len(steps):
            return False
        ending, self._before = self._ends_text(), self._place
        self._matcher.try_consume_tokens(steps)
        self._length = len(data)
        within = ending not in data if ending else bool(self._ends_text())
        self._place = _Place() if within else self._after(data.rpartition(ending)[2] if ending else data)
        return True

    def fitting(self, data: bytes) -> int:
        """How many of these bytes may come."""
        return int(self._matcher.validate_tokens(list(data)))

    def pop(self) -> None:
        self._place = self._before
        self._matcher.rollback(self._length)

    def way(
        self, fits: Callable[[bytes], bool], longest: int = LONGEST, *, steps: int = _STEPS
    ) -> bytes | None:
        """A way to the end that `fits`, of at most `longest` bytes; None where none is found in `steps`."""
        left = sorted(range(_MANNERS), key=lambda manner: manner != self._manner)
        for bound in sorted({min(bound, longest) for bound in _BOUNDS}):
            for manner in tuple(left):
                found = self._try(manner, bound)
                steps -= bound if found is None else len(found)
                if found is None and steps > 0:
                    continue
                if found is None:
                    return None
                best = manner
                if manner == 0 and len(found) > _SHORT and (other := self._try(1, len(found))) is not None:
                    best, found = min((0, found), (1, other), key=lambda each: len(each[1]))
                if fits(found):
                    self._manner = best
                    return found
                left.remove(manner)
                if len(left) <= _MANNERS - _ENOUGH or steps <= 0:
                    return None
        return None

    def ends_by(self, way: bytes) -> bool:
        """Whether that is a way to the end."""
        if self._numbers and b"e" in self._place.number.lower() and self._after(way).infinite:
            return False
        matcher, steps = self._matcher, list(way)
        if matcher.validate_tokens(steps) < len(steps):
            return False
        matcher = matcher.deep_copy()
        return bool(matcher.try_consume_tokens(steps) == len(steps) and matcher.is_accepting())

    def _after(self, data: bytes) -> _Place:
        return self._place.after(data, quotes=self._quotes)

    def _ends_text(self) -> bytes:
        """What ends the text that this is in, where no number can be; nothing elsewhere."""
        ending = self._ending(self._matcher) if self._endings else b""
        return ending if ending and self._matcher.validate_tokens(_LETTER) else b""

    def _try(self, manner: int, longest: int) -> bytes | None:
        matcher, choose = self._matcher.deep_copy(), _Choice(manner)
        place, way = self._place, bytearray()
        while not matcher.is_accepting():
            if len(way) > longest:
                return None
            step = matcher.compute_ff_bytes() or self._ending(matcher)
            if not step:
                line = self._line(matcher, within=place.within)
                step = choose.next(_allowed(matcher), within=place.within, line=line)
            else:
                choose.forget()
            if not step or matcher.try_consume_tokens(list(step)) < len(step):
                self.fault = str(matcher.get_error())
                return None
            way += step
            place = place.after(step, quotes=self._quotes)
        return bytes(way)

    def _line(self, matcher: Any, *, within: bool) -> bytes:
        """What ends a line of a text here; nothing where no line may end."""
        lines: list[bytes] = [_LINE] * within + [_RAW_LINE] * bool(self._endings)
        for line in lines:
            if matcher.validate_tokens(list(line)) == len(line):
                return line
        return b""

    def _ending(self, matcher: Any) -> bytes:
        """What ends the text that `matcher` is in; nothing where it is in none."""
        for ending in self._endings:
            if matcher.validate_tokens(ending) == len(ending):
                return bytes(ending)
        return b""


class _Choice:
    """Of the bytes that may come next, the likeliest to lead to an end; each manner has another opinion."""

    def __init__(self, manner: int) -> None:
        self._random = random.Random(manner) if manner > 2 else None
        self._backwards = manner == 2
        self._ends_lines = manner > 0  # within a text, where its pattern may want it
        self._ended_line = False
        self._forgets = manner != 1  # else each way of going on is taken once before another comes again
        self._used: Counter[int] = Counter()

    def forget(self) -> None:
        if self._forgets:
            self._used.clear()

    def next(self, allowed: int, *, within: bool, line: bytes = b"") -> bytes:
        """`line` ends one of a text, where that is allowed."""
        ends, self._ended_line = bool(line) and self._ends_lines and not self._ended_line, False
        raw = line == _RAW_LINE  # in such texts braces end nothing
        if ends and raw:
            self._ended_line = True
            return line
        for byte in b"" if raw else _ENDS_TEXT if within else _ENDS_VALUE:
            if allowed >> byte & 1:
                self.forget()
                return bytes([byte])
        if ends:
            self._ended_line = True
            return line
        rest = [byte for byte in _ordered(within=within or raw) if allowed >> byte & 1]
        if not rest:
            return b""
        # The least used, so that neither a pattern nor a number can keep it in a circle.
        least = min(self._used[byte] for byte in rest)
        rest = [byte for byte in rest if self._used[byte] == least]
        byte = self._random.choice(rest) if self._random is not None else rest[-self._backwards]
        self._used[byte] += 1
        return bytes([byte])


def _allowed(matcher: Any) -> int:
    """A bit for each byte that may come; the next one is for the end."""
    return int.from_bytes(matcher.compute_bitmask(), "little")


def _ordered(*, within: bool) -> Iterator[int]:
    first = _IN_TEXTS if within else _BEGINNINGS
    yield from first
    yield from (byte for byte in range(0x20, 0x7F) if byte not in first and byte != _BACKSLASH)
    yield from range(0x80, 0x100)
    yield _BACKSLASH
