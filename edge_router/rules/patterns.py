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


def _bounded(word: str) -> str:
    begin, end = (r"(?<!\w)" if _spaced(word[0]) else "", r"(?!\w)" if _spaced(word[-1]) else "")
    return begin + re.escape(word) + end


def _spaced(letter: str) -> bool:
    """Whether its script puts spaces between words: those with capitals and small letters do."""
    return letter.isdigit() or letter.lower() != letter.upper()


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

    def found(text: str) -> Iterator[tuple[int, int]]:
        whole = text if text.isascii() else _HALF.sub("\ufffd", text)
        return (each.span() for each in compiled.finditer(whole))

    return found
