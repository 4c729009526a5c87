"""Fields that have no name here, joined out of the pieces in which a streamed answer brings them."""

from __future__ import annotations

import copy
from collections.abc import Mapping

FEW = 64  # entries of one list that may be written at the same time
NAMING = ("id", "type", "format", "role", "name")  # texts that are sent whole, if they are sent again


def join_pieces(whole: dict[str, object], piece: Mapping[str, object]) -> None:
    """Adds a chunk's fields of the endpoint's own to what came before, as OpenAI's clients join chunks.

    Texts and lists grow, of what names or numbers a thing the last word holds. Entries of a list that have an
    index go on with the one that has the same, and the same type and id, if it is one of the last few: a
    list that grows for ever must not be searched for each entry.
    """
    for name, value in piece.items():
        before = whole.get(name)
        if isinstance(before, str) and isinstance(value, str) and name not in NAMING:
            whole[name] = before + value
        elif isinstance(before, dict) and isinstance(value, Mapping):
            join_pieces(before, value)
        elif isinstance(value, list):
            whole[name] = entries = before if isinstance(before, list) else []
            for entry in value:
                known = next((each for each in entries[: -FEW - 1 : -1] if _goes_on(each, entry)), None)
                if known is None:
                    entries.append(copy.deepcopy(entry))
                else:
                    join_pieces(known, entry)
        elif value is not None or name not in whole:
            whole[name] = copy.deepcopy(value)


def _goes_on(known: object, entry: object) -> bool:
    if not isinstance(known, dict) or not isinstance(entry, Mapping) or entry.get("index") is None:
        return False
    same = known.get("index") == entry["index"] and known.get("type") == entry.get("type")
    return same and (None in (known.get("id"), entry.get("id")) or known["id"] == entry["id"])


def update_fields(known: dict[str, object], came: Mapping[str, object]) -> None:
    """The last word holds; objects are joined, as a call's fields lie one level deep."""
    for name, value in came.items():
        before = known.get(name)
        if isinstance(before, dict) and isinstance(value, Mapping):
            before.update(value)
        else:
            known[name] = dict(value) if isinstance(value, Mapping) else value
