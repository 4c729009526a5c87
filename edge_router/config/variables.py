"""Names of environment variables: which are meant for us, and which only look like it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

PREFIX = "EDGE_ROUTER_"
_LINK = re.compile(r"_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)$|_PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?$")
_PORT = re.compile(r"_PORT$")


def without_links(environment: Mapping[str, str]) -> dict[str, str]:
    """All but what Kubernetes and Docker tell every container of a service that is named as we are.

    EDGE_ROUTER_SERVICE_HOST and EDGE_ROUTER_PORT=tcp://10.0.0.7:6060 were set by nobody.
    """
    return {
        name: value
        for name, value in environment.items()
        if not (name.startswith(PREFIX) and (_LINK.search(name) or (_PORT.search(name) and "://" in value)))
    }


def named(variable: str) -> str | None:
    """What stands behind our prefix, however that is written; None where it is not."""
    found = re.fullmatch(r"edge[-_. ]?router[-_. ]*(.+)", variable, re.IGNORECASE)
    return found[1] if found else None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The variable among `known` that `name` is most likely meant for; None where none is near."""
    import difflib

    names = {variable.removeprefix(PREFIX): variable for variable in known}
    near = difflib.get_close_matches(name.upper(), names, n=1, cutoff=0.8)
    near = near or [full for full in names if full.endswith(f"_{name.upper()}")][:1]
    return names[near[0]] if near else None


def letters(name: str) -> str:
    """Without what is easily mistaken: case, and the signs between words."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def variable_of(key: str) -> str:
    """The variable of a setting: `weak.threads` is EDGE_ROUTER_WEAK_THREADS."""
    return PREFIX + key.replace(".", "_").upper()
