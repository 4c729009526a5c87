"""A file of rules, read: TOML, a table `[[rule]]` for each.

What is not understood is an error: a rule that was passed over would let out what it was written to keep.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import time
from pathlib import Path
from typing import cast

from edge_router.errors import InvalidRules
from edge_router.routing.rules.patterns import BadPattern, Either, Spans, folded, pattern, words
from edge_router.routing.rules.query import CONTENT, LANGUAGES, as_written
from edge_router.routing.rules.rule import (
    DAYS,
    PROTECTING,
    Condition,
    Contains,
    Days,
    Hours,
    LanguageCondition,
    Length,
    MetadataCondition,
    ProgramCondition,
    Rule,
    Says,
)
from edge_router.system.disk import read_small

_MOST_BYTES, _MOST_RULES, _LONGEST = 1 << 20, 500, 1000
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d) ?- ?([01]\d|2[0-3]):([0-5]\d)")
_READS = ("all", "last")


def read_rules(file: Path) -> tuple[Rule, ...]:
    """Raises `InvalidRules`, which names the rule and what is wrong in it."""
    try:
        return parse_rules(read_small(file, _MOST_BYTES).decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        raise InvalidRules(file, f"it is not UTF-8: {error}") from error
    except OSError as error:
        raise InvalidRules(file, f"it cannot be read: {error.strerror}") from error


def parse_rules(text: str, file: Path) -> tuple[Rule, ...]:
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidRules(file, f"it is not TOML: {reason}") from error
    tables = data.pop("rule", [])
    if data:
        raise InvalidRules(file, f"{next(iter(data))!r} is not known here; a rule begins with [[rule]]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidRules(file, "rules are written below [[rule]], each its own")
    if len(tables) > _MOST_RULES:
        raise InvalidRules(file, f"it holds more than {_MOST_RULES} rules")
    either = Either()
    rules = tuple(_Reader(table, number, file, either).rule() for number, table in enumerate(tables, start=1))
    names = [rule.name for rule in rules]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidRules(file, "there are two of that name", twice)
    return rules


class _Reader:
    """One table, key by key."""

    def __init__(self, table: Mapping[str, object], number: int, file: Path, either: Either) -> None:
        self._left, self._file, self._either = dict(table), file, either
        self._name = str(number)
        self._name = self._text("name", self._name)
        self._then = self._text("then")

    def rule(self) -> Rule:
        message = self._text("message", "")
        reads = self._one_of("reads", _READS, "all" if self._then in PROTECTING else "last")
        last = reads == "last"
        says = (("words", words), ("pattern", pattern))
        found: list[Condition | None] = [self._says(key, make, last) for key, make in says]
        found += [
            self._some("content", CONTENT, Contains),
            *(self._length(key, last) for key in ("longer_than", "shorter_than")),
            self._some("language", LANGUAGES, LanguageCondition),
            self._metadata(),
            self._program(),
            self._hours(),
            self._some("days", DAYS, Days),
        ]
        if self._left:
            self._unknown(next(iter(self._left)))
        return Rule(self._name, self._then, tuple(each for each in found if each is not None), message)

    def _bad(self, reason: str) -> InvalidRules:
        return InvalidRules(self._file, reason, self._name)

    def _unknown(self, key: str) -> None:
        near = difflib.get_close_matches(key, KEYS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f": it may have {', '.join(KEYS)}"
        raise self._bad(f"{key!r} is not known{hint}")

    def _text(self, key: str, default: str | None = None) -> str:
        value = self._left.pop(key, default)
        if value is None:
            raise self._bad(f"{key} is missing")
        if not isinstance(value, str) or not (value or default == "") or len(value) > _LONGEST:
            raise self._bad(f"{key} must be a text")
        if key in ("name", "then") and not value.isprintable():
            raise self._bad(f"{key} must be in one line")
        return value

    def _texts(self, key: str) -> tuple[str, ...]:
        """One text, or a list of them; nothing where the key is not there."""
        value = self._left.pop(key, ())
        listed = (value,) if isinstance(value, str) else value
        fits = isinstance(listed, list | tuple) and all(_is_text(each) for each in listed)
        if not fits or (listed == []):
            raise self._bad(f"{key} must be a text or a list of texts")
        return tuple(cast("Sequence[str]", listed))

    def _one_of(self, key: str, known: Sequence[str], default: str) -> str:
        value = self._text(key, default)
        if value not in known:
            raise self._bad(f"{key} = {value!r} must be one of {', '.join(known)}")
        return value

    def _says(self, key: str, make: Callable[..., Spans], last: bool) -> Says | None:
        listed = self._texts(key)
        if not listed:
            return None
        written = tuple(map(as_written, listed))
        if not all(map(_is_text, written)):
            raise self._bad(f"{key} has an entry that cannot be seen")
        if key == "words":
            return Says(key, (make(written),), last, tuple(map(folded, written)))
        try:
            spans = tuple(map(make, written))
        except BadPattern as error:
            raise self._bad(f"a pattern is not taken: {error}") from error
        for source in written:
            self._either.add(source)
        return Says(key, spans, last, among=self._either)

    def _some(
        self, key: str, known: Sequence[str], make: Callable[[frozenset[str]], Condition]
    ) -> Condition | None:
        listed = self._texts(key)
        wrong = next((each for each in listed if each not in known), None)
        if wrong is not None:
            raise self._bad(f"{key} = {wrong!r} must be one of {', '.join(known)}")
        return make(frozenset(listed)) if listed else None

    def _length(self, key: str, last: bool) -> Length | None:
        value = self._left.pop(key, None)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._bad(f"{key} must be a number of characters")
        return Length(key, value, last)

    def _metadata(self) -> MetadataCondition | None:
        table = self._left.pop("metadata", None)
        if table is None:
            return None
        if not isinstance(table, dict) or not table:
            raise self._bad('metadata must be a table, such as {team = "legal"}')
        wanted = {}
        for name, value in table.items():
            values = value if isinstance(value, list) else [value]
            if not values or not all(isinstance(each, str | int | bool) for each in values):
                raise self._bad(f"metadata.{name} must be a value or a list of values")
            wanted[name] = frozenset(str(each).lower() for each in values)
        return MetadataCondition(wanted)

    def _program(self) -> ProgramCondition | None:
        names = self._texts("program")
        return ProgramCondition(tuple(name.lower() for name in names)) if names else None

    def _hours(self) -> Hours | None:
        value = self._text("hours", "")
        if not value:
            return None
        found = _HOURS.fullmatch(value)
        times = [] if found is None else [time(int(found[n]), int(found[n + 1])) for n in (1, 3)]
        if len(set(times)) < len(("begin", "end")):
            raise self._bad(f"hours = {value!r} must be written as 22:00-06:00")
        return Hours(times[0], times[1])


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


KEYS = (
    *("name", "then", "message", "reads", "words", "pattern", "content", "longer_than", "shorter_than"),
    *("language", "metadata", "program", "hours", "days"),
)
