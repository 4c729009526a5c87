"""What says that a request must not leave this machine: a header, a query, a field, an entry of its metadata.

Whatever was meant to say so and is not understood is an `InvalidRequest`, never a "no".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from edge_router.errors import InvalidRequest
from edge_router.parsing.field_names import check_marks, nearly_private
from edge_router.parsing.fields import shown

PRIVATE_HEADER = "x-edge-router-private"
MAX_METADATA = 100  # entries
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def header_marks(headers: Iterable[tuple[str, str]]) -> Iterator[bool]:
    """What those say that can only be ours. Raises `InvalidRequest` for one that was meant to be."""
    for name, value in headers:
        if name.lower() == PRIVATE_HEADER:
            yield mark(value, PRIVATE_HEADER)
        elif _means_our_header(name.lower()):
            raise InvalidRequest(shown(name.lower()), f"is not known here; did you mean {PRIVATE_HEADER}?")


@lru_cache(maxsize=256)  # every request has the same ones
def _means_our_header(name: str) -> bool:
    letters = "".join(letter for letter in name if letter.isalnum()).removeprefix("x")
    rest = letters.removeprefix("edgerouter").removeprefix("x")
    return rest == "private" or (letters.startswith("edgerouter") and nearly_private(rest))


def body_marks(layer: dict[str, object], within: str = "") -> Iterator[bool]:
    """The marks of privacy in a request's body, its field and those of its metadata, which are taken out of
    it. Raises `InvalidRequest` for one that stands anywhere else."""
    yield mark(layer.pop("private", None), f"{within}private")
    yield from _metadata_marks(layer, within)
    check_marks(layer, within)


def _metadata_marks(layer: dict[str, object], within: str) -> Iterator[bool]:
    metadata = layer.get("metadata")
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise InvalidRequest(f"{within}metadata", "must be an object")
    if len(metadata) > MAX_METADATA:
        raise InvalidRequest(f"{within}metadata", f"holds more than {MAX_METADATA} fields")
    yield from marks(metadata.items(), f"{within}metadata.")
    layer["metadata"] = {k: v for k, v in metadata.items() if k != "private"} or None


def marks(pairs: Iterable[tuple[str, object]], within: str) -> Iterator[bool]:
    """What those named `private` say. Raises `InvalidRequest` for a name that was meant to be."""
    for name, value in pairs:
        if name == "private":
            yield mark(value, within + name)
        elif nearly_private(name):
            raise InvalidRequest(within + shown(name), f"is not known here; did you mean {within}private?")


def mark(value: object, name: str) -> bool:
    """One mark of privacy; nothing is none. What can't be read is no "no": it raises `InvalidRequest`."""
    if value is None or isinstance(value, bool):
        return bool(value)
    word = (
        str(int(value == 1)) if value in (0, 1) else value.strip().lower() if isinstance(value, str) else ""
    )
    if word not in (*_YES, *_NO):
        raise InvalidRequest(name, "must be true or false")
    return word in _YES
