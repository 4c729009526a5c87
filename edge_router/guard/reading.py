"""Text as a person reads it: without what cannot be seen, with look-alike letters and digits as plain ones.

A key that was copied out of a page or a chat may hold a zero-width space, a number wide digits or a dash that
is none; who sees them reads the key and the number all the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cached_property, lru_cache

# Letters of other alphabets that look as these do.
_ALIKE = dict(
    zip(
        "АВЕЅІЈКМНОРСТХаеѕіјорсхуһԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧοɡı",
        "ABESIJKMHOPCTXaesijopcxyhdqwABEZHIKMNOPTYXogi",
        strict=True,
    )
)


@lru_cache(4096)
def _shown(letter: str) -> str:
    """What is seen in the place of `letter`: one letter, or none."""
    if letter.isascii():
        return letter
    if letter in _ALIKE:
        return _ALIKE[letter]
    kind = unicodedata.category(letter)
    if kind in ("Cf", "Mn", "Me"):
        return ""
    if kind == "Zs":
        return " "
    if kind == "Pd":
        return "-"
    digit = unicodedata.decimal(letter, None)
    if digit is not None:
        return str(digit)
    shape = unicodedata.normalize("NFKC", letter)
    return shape if len(shape) == 1 and shape.isascii() else letter


class Reading:
    """`plain` is what is looked through; `span` says where in the text itself a piece of it stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        if text.isascii():
            self.plain = text
        else:
            changed = {ord(letter): plain for letter in set(text) if (plain := _shown(letter)) != letter}
            self.plain = text.translate(changed) if changed else text

    @cached_property
    def _places(self) -> Sequence[int]:
        """Where each letter of `plain` stands in `text`."""
        if len(self.plain) == len(self.text):
            return range(len(self.text))
        return [at for at, letter in enumerate(self.text) if _shown(letter)]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Of a piece that is not empty."""
        return self._places[start], self._places[end - 1] + 1
