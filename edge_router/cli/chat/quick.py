"""`edge-router chat PROMPT` as it is mostly typed, read without typer, which a tenth of a second goes into.

Whatever else stands there (help, an option that nobody knows, no prompt) is typer's to read, and to refuse.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_router.cli.options import Options

VERB = "chat"
# A parameter of the verb's or the root's, and what it makes of the word behind it.
TAKING: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "--model": ("model", str),
    "-m": ("model", str),
    "--system": ("system", str),
    "-s": ("system", str),
    "--temperature": ("temperature", float),
    "--top-p": ("top_p", float),
    "--max-tokens": ("max_tokens", int),
    "--seed": ("seed", int),
    "--resume": ("resume", str),
    "--device": ("device", str),
    "--threads": ("threads", int),
    "--config": ("config", str),
    "--set": ("settings", str),
    "-o": ("settings", str),
}
SWITCHES: Mapping[str, tuple[str, bool]] = {
    "--private": ("private", True),
    "--offline": ("offline", True),
    "--yes": ("yes", True),
    "-y": ("yes", True),
    "--thinking": ("thinking", True),
    "--no-thinking": ("thinking", False),
    "--json": ("json", True),
    "--keep": ("keep", True),
    "--debug": ("debug", True),
    "--quiet": ("quiet", True),
    "-q": ("quiet", True),
}
_OF_ALL = ("config", "debug", "quiet")


class Context:
    """What stands for typer's context."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def ensure_object(self, kind: type[Options], /) -> Options:
        return self._options


class Typed:
    """What stands there: `options` of the program, and the question's `fields` by the names of `Question`."""

    def __init__(self, options: dict[str, Any], fields: dict[str, Any]) -> None:
        self.options, self.fields = options, fields


def is_completing() -> bool:
    """Whether a shell asks how a word may end."""
    return any(name.startswith("_EDGE_ROUTER_") for name in os.environ)


def read(arguments: Sequence[str]) -> Typed | None:
    """None where typer has to read it."""
    if VERB not in arguments or is_completing():
        return None
    found: dict[str, Any] = {}
    words, settings = list[str](), list[str]()
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if word in SWITCHES:
            key, switched = SWITCHES[word]
            found[key] = switched
        elif name in TAKING and (equals == "" or name.startswith("--")):
            key, made = TAKING[name]
            try:
                taken = made(value if equals else next(rest))
            except (ValueError, StopIteration):
                return None
            settings += [taken] if key == "settings" else []
            found[key] = taken
        elif word.startswith("-"):
            return None
        else:
            words.append(word)
    verb, *prompt = words or [""]
    sets = all(setting.partition("=")[0].strip() and "=" in setting for setting in settings)
    if verb != VERB or not "".join(prompt).strip() or not sets:
        return None
    found.pop("settings", None)
    options: dict[str, Any] = {name: found.pop(name) for name in _OF_ALL if name in found}
    return Typed(options | ({"settings": settings} if settings else {}), {"prompt": tuple(prompt), **found})
