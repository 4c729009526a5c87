"""The names of a request's fields: slips of the pen in those we know, and those that no request may set.

What nobody here knows is passed on to a strong model, so a misspelt `private` would leave the machine: a name
that is nearly one of ours is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache

from edge_router.errors import InvalidRequest
from edge_router.parsing.fields import shown

# Where the strong model lives, with which key and through what: the configuration's alone.
FORBIDDEN = (
    "base_url",
    "api_base",
    "api_key",
    "api_type",
    "api_version",
    "organization",
    "endpoint",
    "headers",
    "default_headers",
    "default_query",
    "http_client",
    "proxy",
    "proxies",
    "user_config",
    "model_list",
)
_STEERS = frozenset(name.replace("_", "") for name in (*FORBIDDEN, "organisation"))
# Any name with one of these in it, as proxies that take addresses and keys from bodies know many.
_STEERING_PARTS = (
    *("apikey", "apibase", "baseurl", "endpoint", "authorization", "credential", "adtoken"),
    *("secretkey", "accesskey", "sessiontoken", "customllmprovider", "litellm"),
)
# A schema may well describe something with such a name, and a call may be told something under it.
_SCHEMAS = frozenset(
    {
        *("schema", "json_schema", "guided_json", "structured_outputs", "parameters", "input_schema"),
        *("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"),
        *("const", "default", "enum", "examples", "input_examples"),
    }
)
_ARGUMENTS = frozenset({"arguments", "input"})  # where they are an object

_PRIVATE = "private"
_MEANS_PRIVATE = frozenset(
    {
        *("priv", "pvt", "confidential", "incognito", "nonpublic"),
        *("offline", "local", "localonly", "ondevice", "weakonly", "nocloud", "noremote"),
        *("nonetwork", "nostrong", "airgap", "airgapped"),
    }
)
# Fields of other servers that look like slips of the pen.
_NO_SLIPS = frozenset({"models", "mode", "speed", "min_tokens", "min_completion_tokens", "message_id"})
_LONGEST = 40  # characters of a name that is compared
_COMPARED = 2 * _LONGEST  # characters of a name that are looked at, and kept with what was found of it


def check_names(names: Iterable[str], known: frozenset[str], within: str = "") -> None:
    """Raises `InvalidRequest` for a name that no request may set, and for one that is nearly a known one."""
    for name in names:
        if name in known:
            continue
        if steers(name):
            raise InvalidRequest(
                within + shown(name), "can be set in the configuration only, not by a request"
            )
        meant = _PRIVATE if nearly_private(name) else nearest(name, known)
        if meant is not None:
            raise InvalidRequest(within + shown(name), f"is no field of a request; did you mean {meant}?")


def check_inner(value: object, within: str) -> None:
    """The same for what would steer, in all that a field for the strong model holds; schemas may call things
    so."""
    if isinstance(value, list):
        for item in value:
            check_inner(item, within)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if steers(name):
                reason = "can be set in the configuration only, not by a request"
                raise InvalidRequest(f"{within}.{shown(name)}", reason)
            if name not in _SCHEMAS:
                check_inner(item, within)


def check_marks(body: Mapping[str, object], within: str = "") -> None:
    """Raises `InvalidRequest` for a mark of privacy anywhere in `body`, where nobody looks for one; schemas
    and the arguments of calls may call things so."""
    found = _way_to_mark(body)
    if found is not None:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in found[::-1])
        reason = "is not heard there: write private beside messages"
        raise InvalidRequest(within + place.removeprefix("."), reason)


def _way_to_mark(value: object) -> list[str | int] | None:
    """From the innermost name outwards."""
    if isinstance(value, str):  # most values; that it is no mapping would take ten times as long to see
        return None
    if isinstance(value, list):
        for index, item in enumerate(value):
            found = _way_to_mark(item)
            if found is not None:
                return [*found, index]
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if item and _holds_private(name[:_COMPARED]):
                return [name]
            if name not in _SCHEMAS and not (name in _ARGUMENTS and isinstance(item, Mapping)):
                found = _way_to_mark(item)
                if found is not None:
                    return [*found, name]
    return None


@lru_cache(maxsize=1024)
def _holds_private(name: str) -> bool:
    return "privat" in _letters(name)


def steers(name: str) -> bool:
    """Whether it would say where the strong model lives, or with which key, however it is spelled."""
    letters = _letters(name)
    return letters in _STEERS or any(part in letters for part in _STEERING_PARTS)


def nearly_private(name: str) -> bool:
    """Whether somebody who wrote it may have meant `private`, which it is not."""
    if name == _PRIVATE:
        return False
    letters = _letters(name)
    if "privat" in letters or "privac" in letters or letters in _MEANS_PRIVATE:
        return True
    return 5 <= len(letters) <= 9 and distance(letters, _PRIVATE, most=2) <= 2


def sounds_private(name: str) -> bool:
    """Whether somebody who sets it wants nothing to leave the machine."""
    return name.casefold() == _PRIVATE or nearly_private(name)


def nearest(name: str, known: frozenset[str]) -> str | None:
    """The known name that this one was meant to be; None where it is another's."""
    if name in _NO_SLIPS or len(name) > _LONGEST:
        return None
    letters, others = _letters(name), _spelled(known)
    if letters in others:
        return others[letters]
    for right, other in others.items():
        # Of short names a letter that differs makes another name: top_k, top_p and top_a.
        most = 2 if len(right) >= 8 else 1 if len(right) >= 4 else 0
        one_end = letters[:1] == right[0] or letters[-1:] == right[-1]  # saves most of the time
        another = len(right) < 6 and len(letters) == len(right) and sorted(letters) != sorted(right)
        if most and one_end and not another and distance(letters, right, most=most) <= most:
            return other
    return None


@cache
def _spelled(known: frozenset[str]) -> dict[str, str]:
    return {_letters(name): name for name in sorted(known)}


def distance(one: str, other: str, *, most: int) -> int:
    """Letters to add, drop, change or swap with their neighbour; `most` + 1 for all that is more."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        line = [row]
        for column, wanted in enumerate(other, start=1):
            best = min(last[column] + 1, line[-1] + 1, last[column - 1] + (letter != wanted))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == wanted:
                best = min(best, before[column - 2] + 1)
            line.append(best)
        if min(line) > most:
            return most + 1
        before, last = last, line
    return min(last[-1], most + 1)


def _letters(name: str) -> str:
    """Without case, underscores and what only looks like another letter."""
    folded = unicodedata.normalize("NFKC", name[:_COMPARED]).casefold()
    return "".join(letter for letter in folded if letter.isalnum())
