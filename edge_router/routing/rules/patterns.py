"""Words and regular expressions of the user's, and where they stand in a text; both in linear time.

The expressions are RE2's: no look-ahead and no references back, and none that takes longer than its text is
long, whoever wrote that. Python's own would let one line of a file stop every answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

Spans: TypeAlias = Callable[[str], Iterator[tuple[int, int]]]

_HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair, which JSON can spell and UTF-8 can't
_FROM_NOTHING = re.compile(r"\{,\d")
_MOST_MEMORY = 4 << 20  # bytes of one expression's machine


class BadPattern(ValueError):
    """`str(error)` says why it is none."""


def words(listed: Sequence[str]) -> Spans:
    """Where one of them stands as a word, in any case; in scripts without spaces, wherever it stands."""
    either = "|".join(_bounded(word) for word in sorted(listed, key=len, reverse=True))
    expression = re.compile(either, re.IGNORECASE)
    return lambda text: (each.span() for each in expression.finditer(text))


def folded(text: str) -> str:
    """The same for all that `words` takes for the same, which knows more pairs than capital and small."""
    if text.isascii():
        return text.lower()
    return text.casefold().replace("i\u0307", "i").replace("\u0131", "i")


def _bounded(word: str) -> str:
    begin, end = (r"(?<!\w)" if _spaced(word[0]) else "", r"(?!\w)" if _spaced(word[-1]) else "")
    return begin + re.escape(word) + end


def _spaced(letter: str) -> bool:
    """Whether its script puts spaces between words: those with capitals and small letters do."""
    return letter.isdigit() or letter.lower() != letter.upper()


class Either:
    """Expressions that are all tried at once: most texts have none of them, which one pass tells."""

    def __init__(self) -> None:
        self._sources: list[str] = []
        self._search: Callable[[bytes], object] | None = None

    def add(self, source: str) -> None:
        """One that `pattern` has taken, before the first text comes."""
        quoting = source.rfind(r"\Q") > source.rfind(r"\E")  # to its end, and then those behind it
        self._sources.append(source + r"\E" * quoting)

    def stands_in(self, text: bytes) -> bool:
        """Whether one of them does, or may: some cannot be put together."""
        if self._search is None:
            self._search = self._together()
        return self._search(text) is not None

    def _together(self) -> Callable[[bytes], object]:
        import re2

        options = re2.Options()
        options.log_errors, options.never_capture, options.max_mem = False, True, 8 * _MOST_MEMORY
        try:
            search: Callable[[bytes], object] = re2.compile(
                "|".join(f"(?:{source})" for source in self._sources), options
            ).search
        except re2.error:
            return lambda text: text
        return search


def pattern(source: str) -> Spans:
    """Where the expression matches. Raises `BadPattern`."""
    import re2

    options = re2.Options()
    options.log_errors, options.max_mem = False, _MOST_MEMORY
    if _FROM_NOTHING.search(source):  # which RE2 takes as it is written, letter by letter
        raise BadPattern("{,n} is not taken: write {0,n}")
    try:
        compiled = re2.compile(source, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise BadPattern(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from error
    except UnicodeEncodeError as error:
        raise BadPattern("it is no valid text") from error
    if compiled.search("") is not None:
        raise BadPattern("it matches where nothing stands, and so everywhere")

    return lambda text: (each.span() for each in compiled.finditer(well_formed(text)))


def well_formed(text: str) -> str:
    """`text` as UTF-8 can hold it."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)
