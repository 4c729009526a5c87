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


_ASCII = bytes(range(128))


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


def _visible(letter: str) -> str:
    """`letter`, or nothing where it cannot be seen."""
    return letter if letter.isascii() or unicodedata.category(letter) != "Cf" else ""


def _beyond_ascii(text: str) -> str:
    """Its letters but those of ASCII, which most are: by way of bytes, in a sixth of the time."""
    return text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")


class Reading:
    """`plain` is what is looked through; `span` says where in the text itself a piece of it stands.

    Without `alike` letters stay what they are, and only what cannot be seen is left out.
    """

    def __init__(self, text: str, *, alike: bool = True) -> None:
        self.text, self._shown = text, _shown if alike else _visible
        if text.isascii():
            self.plain = text
        else:
            letters = set(_beyond_ascii(text))
            changed = {ord(letter): plain for letter in letters if (plain := self._shown(letter)) != letter}
            self.plain = text.translate(changed) if changed else text

    @cached_property
    def _places(self) -> Sequence[int]:
        """Where each letter of `plain` stands in `text`."""
        if len(self.plain) == len(self.text):
            return range(len(self.text))
        return [at for at, letter in enumerate(self.text) if self._shown(letter)]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Of a piece that is not empty."""
        return self._places[start], self._places[end - 1] + 1
