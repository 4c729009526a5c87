"""Text that is written in other letters: base64, also over several lines, and hexadecimal numbers. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

_SHORTEST = 24  # letters of base64; with fewer there is no key
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-]{24,}={0,2}")
_LINE = re.compile(r"[A-Za-z0-9+/_\-]{2,}={0,2}")
_HEX = re.compile(r"[0-9a-fA-F]{32,}")
# With something between the letters or before them, as in dumps, programs and addresses.
_PARTED_HEX = re.compile(r"(?:(?:\\x|0x|%)?[0-9a-fA-F]{2}[ ,:;]{0,2}\n?){15,}(?:\\x|0x|%)?[0-9a-fA-F]{2}")
_FIRST_DIGITS, _FEWEST = "234567", 16  # of the numbers of ASCII's letters; shorter pieces hold no key
_SEEN = bytes(code if 0x20 <= code < 0x7F else 0x0A for code in range(256))
_HEAD = 96  # of which the first ones tell whether it is text
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")

Piece = tuple[int, int, str]


def encoded(text: str) -> Iterator[Piece]:
    """Start, end and meaning of each piece of `text` that stands for another text."""
    words = text.split()
    numbered = sum(map(text.count, _FIRST_DIGITS)) >= _FEWEST
    at = 0
    lines: list[tuple[int, str]] = []  # that go on with what the line before has begun
    for word in words if any(len(word) >= _SHORTEST for word in words) else ():
        at = text.index(word, at)
        goes_on = bool(lines) and _LINE.fullmatch(word) is not None
        if goes_on:
            lines.append((at, word))
        if not goes_on or len(word) < _SHORTEST:
            yield from _joined(lines)
            lines = []
        if len(word) >= _SHORTEST:
            runs = list(_base64(word))
            if not lines and runs and runs[-1][1] == len(word):
                lines = [(at + runs[-1][0], word[runs[-1][0] :])]
            for start, end, inner in (*runs, *(_hexadecimal(word) if numbered else ())):
                yield at + start, at + end, inner
        at += len(word)
    yield from _joined(lines)
    for run in _PARTED_HEX.finditer(text) if numbered else ():
        yield *run.span(), _letters(re.sub(r"\\x|0x|[^0-9a-fA-F]", "", run[0]))


def _joined(lines: list[tuple[int, str]]) -> Iterator[Piece]:
    """The last one may be a word that only follows."""
    for count in (len(lines), len(lines) - 1):
        inner = decoded("".join(word for _, word in lines[:count])) if count > 1 else ""
        if inner:
            at, last = lines[count - 1]
            yield lines[0][0], at + len(last), inner
            return


def _base64(word: str) -> Iterator[Piece]:
    for run in _BASE64.finditer(word):
        yield *run.span(), decoded(run[0])


def _hexadecimal(word: str) -> Iterator[Piece]:
    """A digit may stand before it that is none of its own."""
    for run in _HEX.finditer(word):
        for first in (0, 1):
            yield *run.span(), _letters(run[0][first:])


def _letters(numbers: str) -> str:
    """Those that can be seen, with line ends for whatever else the numbers stand for."""
    return bytes.fromhex(numbers[: len(numbers) // 2 * 2]).translate(_SEEN).decode("ascii")


def decoded(run: str) -> str:
    """The text that base64 of either alphabet stands for; nothing where it is no text."""
    run = run.rstrip("=").replace("-", "+").replace("_", "/")
    head = _of_base64(run[:_HEAD], cut=True)
    return head and (head if len(run) <= _HEAD else _of_base64(run))


def _of_base64(run: str, *, cut: bool = False) -> str:
    try:
        return _text(base64.b64decode(run[: len(run) // 4 * 4] + _rest(run)), cut=cut and len(run) == _HEAD)
    except (binascii.Error, ValueError):
        return ""


def _text(data: bytes, *, cut: bool = False) -> str:
    """Raises `ValueError`. `cut`: it may end in mid-letter."""
    if b"\0" in data and not data[1::2].strip(b"\0"):
        return data[: len(data) // 2 * 2].decode("utf-16-le")
    text = data.decode("utf-8", "ignore" if cut else "strict")
    return "" if _CONTROL.search(text) else text


def _rest(run: str) -> str:
    """The last letters, padded; one alone stands for nothing."""
    rest = run[len(run) // 4 * 4 :]
    return rest + "=" * (4 - len(rest)) if len(rest) > 1 else ""
