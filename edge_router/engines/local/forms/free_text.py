"""The text of a free tool's call, out of the JSON in which a local model writes it, as that comes."""

from __future__ import annotations

import re

from edge_router.parsing.strict_json import unescaped
from edge_router.prompts.forms import FREE_TEXT

_OPENING = re.compile(rf'\s*\{{\s*"{FREE_TEXT}"\s*:\s*"')
_WHOLE = re.compile(  # characters and escapes that are whole, and no half of a pair
    r'(?:[^"\\]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}'
    r'|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\["\\/bfnrt])*'
)


class FreeText:
    """`push` the JSON of its arguments, in pieces. What has another form comes out as it is, as `rest`."""

    def __init__(self) -> None:
        self._held, self._within, self._over = "", False, False

    def push(self, spelled: str) -> str:
        self._held += spelled
        if not self._within and not self._over and (opening := _OPENING.match(self._held)):
            self._held, self._within = self._held[opening.end() :], True
        if not self._within:
            return ""
        found = _WHOLE.match(self._held)
        assert found is not None
        self._held = self._held[found.end() :]
        self._over, self._within = self._held.startswith('"'), not self._held.startswith('"')
        return unescaped(found[0])

    def rest(self) -> str:
        """Once the arguments are whole."""
        return "" if self._over else self._held
