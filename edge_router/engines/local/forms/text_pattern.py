"""A JSON schema's demands on a text as a regular expression, for texts that are written without quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edge_router.errors import UnsupportedRequest

_DAY = (
    r"[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31)"
)
_TIME = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_FORMATS: Mapping[object, str] = {
    "date": _DAY,
    "time": _TIME,
    "date-time": f"{_DAY}T{_TIME}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "ipv4": rf"(?:{_BYTE}\.){{3}}{_BYTE}",
    "hostname": rf"{_LABEL}(?:\.{_LABEL}){{0,8}}",
    "email": rf"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+){{0,8}}@{_LABEL}(?:\.{_LABEL}){{1,8}}",
}
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_MEANING = re.compile(r"[\\.+*?()|\[\]{}^$#&~/-]")  # more than itself in a regular expression
_CLASSES = {r"\d": "0-9", r"\w": "A-Za-z0-9_"}  # of ASCII, as schemas have them


def escaped(text: str) -> str:
    """`text` within a regular expression of a grammar."""
    return _MEANING.sub(r"\\\g<0>", text).replace("\n", r"\n")


def fitting(schema: Mapping[str, object]) -> str | None:
    """What a text fits that fits `schema`, between slashes; None where any does.

    Raises `UnsupportedRequest` for more than one demand at a time, and for formats without a pattern.
    """
    asked = [key for key in ("pattern", "format") if key in schema]
    lengths = {"minLength", "maxLength"} & {*schema}
    if len(asked) + bool(lengths) > 1:
        raise UnsupportedRequest("schema", "of a text only one of pattern, format and length can be followed")
    if "pattern" in schema:
        return _whole(str(schema["pattern"]))
    if "format" in schema:
        found = _FORMATS.get(schema["format"])
        if found is None:
            raise UnsupportedRequest("schema", f"the format {schema['format']} cannot be followed")
        return found.replace("/", r"\/")
    if lengths:
        return f"(?s:.{{{schema.get('minLength', 0)},{schema.get('maxLength', '')}}})"
    return None


def _whole(pattern: str) -> str:
    """A pattern that is sought anywhere in a text as one of the whole text."""
    pieces = [found[0] for found in _PIECE.finditer(pattern)]
    depth, bars = 0, False
    for piece in pieces:
        depth += (piece == "(") - (piece == ")")
        bars = bars or (piece == "|" and not depth)
    begins, ends = pieces[:1] == ["^"], pieces[-1:] == ["$"]
    if bars and (begins or ends):
        raise UnsupportedRequest("schema", f"the pattern {pattern[:80]!r} cannot be followed")
    inner = "".join(map(_ascii, pieces[begins : len(pieces) - ends]))
    return f"{'' if begins else '(?s:.*)'}(?:{inner}){'' if ends else '(?s:.*)'}"


def _ascii(piece: str) -> str:
    if piece in _CLASSES:
        return f"[{_CLASSES[piece]}]"
    if piece.startswith("["):
        piece = re.sub(r"\\.", lambda found: _CLASSES.get(found[0], found[0]), piece, flags=re.DOTALL)
    return (
        piece.replace("\n", r"\n") if piece.startswith("[") else {"/": r"\/", "\n": r"\n"}.get(piece, piece)
    )
