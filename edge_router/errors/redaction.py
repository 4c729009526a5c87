"""What looks like a key, and how a setting is told of without one. Pure.

People put keys where addresses, names and models belong. Whoever tells of such a value calls `shown`.
"""

from __future__ import annotations

import re

HIDDEN = "[key]"
REST = "…"

# How the keys of the services that speak OpenAI's API, and of their neighbours, begin.
_PREFIXES = r"sk|rk|pk|sess|gsk|csk|psk|xai|hf|r8|fw|fpk|nvapi|pplx|tgp|gh[oprsu]|github_pat|glpat|dapi"
_KNOWN = re.compile(
    rf"(?<![A-Za-z0-9])(?:(?:{_PREFIXES})[-_][A-Za-z0-9_\-]{{12,}}|AIza[A-Za-z0-9_\-]{{16,}}"
    r"|AKIA[A-Z0-9]{12,}|eyJ[A-Za-z0-9_\-]{12,}(?:\.[A-Za-z0-9_\-]+)*)"
    r"|(?i:(?<=bearer )|(?<=basic ))[^\s\"',;]+"
)
# Without a telling beginning: a long run of letters and digits mixed, or a UUID.
_MIXED = r"(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{20,}"
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_LIKELY = re.compile(rf"(?<![A-Za-z0-9])(?:{_MIXED}|{_UUID})")
_CODED = re.compile(r"[A-Za-z0-9+/_\-]{40,}={0,2}")
_SECRET_NAME = re.compile(
    r"(?:^|[._-])(?:[a-z]*key|[a-z]*token|secret|password|passwd|auth|authorization|bearer|credentials?)$",
    re.IGNORECASE,
)
_SURE = re.compile(
    r"(?:sk|rk|gsk|csk|xai|hf|nvapi|pplx|gh[oprsu]|github_pat|glpat)[-_](?=\S*[0-9])[A-Za-z0-9_\-]{16,}"
    r"|AIza[A-Za-z0-9_\-]{30,}|eyJ[A-Za-z0-9_\-]{12,}\.\S+|(?i:bearer|basic)\s+\S{8,}"
)


def is_key(text: str) -> bool:
    """Whether `text`, all of it, can hardly be anything but a key."""
    return _SURE.fullmatch(text.strip()) is not None


def may_be_key(text: str) -> bool:
    """Whether something in it may be one."""
    return hidden(text) != text


def names_key(name: str) -> bool:
    """Whether a setting or a variable of that name would hold a key."""
    return _SECRET_NAME.search(name) is not None


def hidden(text: str) -> str:
    """`text` with [key] in the place of whatever may be one."""
    text = _LIKELY.sub(HIDDEN, _KNOWN.sub(HIDDEN, text))
    return _CODED.sub(_coded, text)


def _coded(found: re.Match[str]) -> str:
    """Base64 mixes all kinds of characters; folders and names do not."""
    text = found[0]
    mixed = all(re.search(kind, text) for kind in (r"[a-z]", r"[A-Z]", r"[0-9]"))
    return HIDDEN if mixed and text.count("/") * 16 < len(text) else text


def address(text: str) -> str:
    """An address, usable or not, without what may stand in it beside the place: user, password, query."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    _, marked, place = rest.rpartition("@")
    place = re.split(r"[?#]", place, maxsplit=1)[0]
    return hidden(f"{scheme}{separator}{REST + '@' if marked else ''}{place}")


def shown(name: str, value: object) -> object:
    """The value of the setting `name`, as an error or a log may hold it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if names_key(name):
        return REST
    if isinstance(value, str):
        is_address = "://" in value or "@" in value or name.endswith("url")
        return address(value) if is_address else hidden(value)
    text = repr(value)
    inside = re.findall(r"[\w.-]+", text)
    return REST if may_be_key(text) or any(map(names_key, inside)) else value
