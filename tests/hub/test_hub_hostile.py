"""A hub that is hostile or broken: each answer ends in the right file or in one sentence, within bounds."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import threading
import time
import types
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psutil
import pytest

from edge_router.catalog import HubSource
from edge_router.errors import EdgeRouterError, WeightsCorrupt, WeightsUnavailable
from edge_router.hub import fetch, huggingface, listing, target_of
from edge_router.hub.listing import check_names
from edge_router.system.disk import file_sizes
from edge_router.system.telemetry import load_huggingface_hub

huggingface_hub = load_huggingface_hub()
REPO = "someone/Tiny-Instruct"
COMMIT = "1234567890abcdef1234567890abcdef12345678"
SOURCE = HubSource(REPO)
CONFIG = b'{"model_type": "llama"}'
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB

Request = BaseHTTPRequestHandler
Manner = Callable[[Request, bytes], None]


@pytest.fixture
def repository(hub: Any) -> Any:
    return hub.add(REPO, small={"config.json": CONFIG}, large={"model.safetensors": WEIGHTS})


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of seconds instead of minutes, and no pauses between the library's tries."""
    hurried = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(min(seconds, 0.01))})
    monkeypatch.setattr("huggingface_hub.file_download.time", hurried)
    monkeypatch.setattr("huggingface_hub.utils._http.time", hurried)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)
    monkeypatch.setattr(listing, "SILENCE_S", 1.0)
    monkeypatch.setattr(listing, "LIST_S", 2.0)
    monkeypatch.setattr(listing, "LARGEST_LIST", 1 << 20)
    monkeypatch.setattr(huggingface, "STALLED_S", 3.0)
    monkeypatch.setattr(huggingface, "_ENDING_S", 1.0)


def head(request: Request, status: int = 200, **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.close_connection = True


def silent(hub: Any) -> Manner:
    return lambda request, body: hub.gone.wait()


def dripping(hub: Any, *, head_too: bool = False) -> Manner:
    def answer(request: Request, body: bytes) -> None:
        if head_too:
            request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        else:
            head(request, Content_Length=str(len(body)), ETag='"x"')
        with contextlib.suppress(OSError):
            while not hub.gone.wait(0.1):
                request.wfile.write(b" ")

    return answer


def endless(hub: Any, begin: bytes, *, gzipped: bool = False, status: int = 200) -> Manner:
    """For 256 MB, or until its client has had enough; `hub.sent` counts."""

    def answer(request: Request, body: bytes) -> None:
        packer, piece = zlib.compressobj(wbits=31), b" " * (1 << 20)
        head(request, status, **({"Content_Encoding": "gzip"} if gzipped else {}))
        with contextlib.suppress(OSError):
            request.wfile.write(packer.compress(begin) if gzipped else begin)
            while hub.sent < 256 << 20:
                request.wfile.write(packer.compress(piece) if gzipped else piece)
                hub.sent += len(piece)

    return answer


def said(source: HubSource, downloads: Path, error: type[EdgeRouterError] = WeightsUnavailable) -> str:
    """The one sentence; nothing half is left where a whole should be."""
    with pytest.raises(error) as caught:
        fetch(source, downloads)
    assert not target_of(source, downloads).exists()
    return str(caught.value)


# ---- the list ------------------------------------------------------------------------------------------------


def test_a_list_that_never_comes_or_never_ends_is_one_sentence(
    hub: Any, repository: Any, downloads: Path
) -> None:
    memory = psutil.Process().memory_info().rss
    table: list[tuple[str, Manner, str]] = [
        ("silent", silent(hub), "the hub cannot be reached (ReadTimeout)"),
        ("drips", dripping(hub), "had not sent its list"),
        ("drips its head", dripping(hub, head_too=True), "had not sent its list"),
        ("endless", endless(hub, b'{"siblings": ['), "has no end"),
        ("endless and packed", endless(hub, b'{"siblings": [', gzipped=True), "has no end"),
        ("refuses for ever", endless(hub, b'{"error": "', status=503), "HTTP 503"),
        ("cut", lambda request, body: head(request, Content_Length="7"), "cannot be reached"),
        ("no list", lambda request, body: head(request, 204), "HTTP 204"),
        ("round", lambda request, body: head(request, 307, Location=request.path), "cannot be reached"),
        ("nowhere", lambda request, body: head(request, 307), "HTTP 307"),
        ("packed oddly", lambda request, body: head(request, Content_Encoding="br"), "packs its list"),
    ]
    for what, hub.list_manner, expected in table:
        hub.sent, begun = 0, time.monotonic()
        assert expected in said(SOURCE, downloads), what
        assert hub.sent < 256 << 20, what
        assert time.monotonic() - begun < 60, what  # the bound is 2 s, the machine may be busy
    assert psutil.Process().memory_info().rss - memory < 400 << 20
    assert not any("/resolve/" in line for line in hub.requests)
    hub.list_manner = lambda request, body: hub.reply(
        request, gzip.compress(body), headers={"Content-Encoding": "gzip"}
    )
    assert (fetch(SOURCE, downloads) / "model.safetensors").read_bytes() == WEIGHTS


def test_names_that_no_file_may_have_are_refused_before_anything_is_written(
    hub: Any, repository: Any, downloads: Path
) -> None:
    table = {
        "../model.safetensors": "outside its folder",
        "a/../../model.safetensors": "outside its folder",
        "/model.safetensors": "outside its folder",
        "a//model.safetensors": "outside its folder",
        "./model.safetensors": "outside its folder",
        "..\\model.safetensors": "outside its folder",
        "": "outside its folder",
        "C:/model.safetensors": "not every system",
        "model.safetensors:hidden": "not every system",
        "nul.safetensors": "not every system",
        "model.safetensors.": "not every system",
        "model\0.safetensors": "can't be shown",
        "model\n.safetensors": "can't be shown",
        "model\u202e.safetensors": "can't be shown",
        "model\ud800.safetensors": "no text",
        "m" * 256 + ".safetensors": "too long",
        "m/" * 800 + "model.safetensors": "too long",
        ".cache/huggingface/download/model.safetensors.metadata": "notes",
        "Model.safetensors": "where case does not count",
        "config.json/model.safetensors": "a file itself",
    }
    everything = HubSource(REPO, files=("*",))
    honest = dict(repository.small)
    for name, expected in table.items():
        repository.small = {**honest, name: b"x"}
        text = said(everything, downloads)
        assert expected in text and len(text) < 500, name
    assert not any("/resolve/" in line for line in hub.requests)
    assert not [file for file in downloads.rglob("*") if file.is_file() and file.suffix != ".lock"]
    repository.small = {**honest, "../README.md": b"x"}  # what nobody asked for harms nobody
    assert (fetch(SOURCE, downloads) / "model.safetensors").read_bytes() == WEIGHTS
    check_names(["модель/Größe 1.safetensors", "a-b_c+d=e@f.json"], SOURCE)


def test_a_list_that_contradicts_itself_or_points_elsewhere(
    hub: Any, repository: Any, downloads: Path
) -> None:
    weights = {"rfilename": "model.safetensors", "size": len(WEIGHTS)}
    for siblings, sha, expected in (
        ([weights, {**weights, "size": 7}], COMMIT, "twice"),
        ([{**weights, "lfs": {"sha256": "../../x"}}], COMMIT, "no hub"),
        ([{**weights, "blobId": "7"}], COMMIT, "no hub"),
        ([weights], "../../etc", "no hub"),
        ([weights], "x" * 1000, "no hub"),
        ([{"rfilename": "m" * 10**5, "size": None}], COMMIT, "states no size"),
    ):
        hub.info = json.dumps({"sha": sha, "siblings": siblings}).encode()
        text = said(SOURCE, downloads)
        assert expected in text and len(text) < 500, (siblings, sha)


# ---- files ---------------------------------------------------------------------------------------------------


def ranged(request: Request) -> int:
    """Where the client wants to go on."""
    return int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])


def cut_once(answer: Manner) -> Manner:
    """The first answer ends after half of the body; the others are `answer`'s."""
    begun: list[int] = []

    def manner(request: Request, body: bytes) -> None:
        if begun:
            answer(request, body)
        else:
            begun.append(1)
            head(request, Content_Length=str(len(body)))
            request.wfile.write(body[: len(body) // 2])

    return manner


def plain(request: Request, body: bytes, *, status: int = 200, **headers: str) -> None:
    head(request, status, **{"Content_Length": str(len(body)), **headers})
    request.wfile.write(body)


def test_a_file_comes_whole_or_not_at_all(hub: Any, repository: Any, downloads: Path) -> None:
    """None: the right file; otherwise what the sentence says."""

    def at(start: Callable[[int], int], *, state: str = "") -> Manner:
        def answer(request: Request, body: bytes) -> None:
            begin = start(ranged(request))
            where = state or f"bytes {begin}-{len(body) - 1}/{len(body)}"
            plain(request, body[begin:], status=206, Content_Range=where)

        return answer

    def without_length(request: Request, body: bytes) -> None:
        head(request)
        request.wfile.write(body)

    def packed(request: Request, body: bytes) -> None:
        plain(request, gzip.compress(body), Content_Encoding="gzip")

    def elsewhere(request: Request, body: bytes) -> None:
        if "again" in request.path:
            plain(request, body)
        else:
            head(request, 302, Location=f"{hub.cdn}{request.path}?again", Content_Length="0")

    def lone(**headers: str) -> Manner:
        return lambda request, body: head(request, **headers)

    table: list[tuple[str, Manner, str | None]] = [
        ("gone on with", cut_once(at(lambda wanted: wanted)), None),
        ("200 instead of 206", cut_once(plain), None),
        ("no length", without_length, None),
        ("packed", packed, None),
        (
            "deflated",
            lambda request, body: plain(request, zlib.compress(body), Content_Encoding="deflate"),
            None,
        ),
        ("another host", elsewhere, None),
        ("from the wrong place", cut_once(at(lambda wanted: wanted // 2)), ""),
        ("from a place behind", cut_once(at(lambda wanted: wanted + 7)), ""),
        ("another range than stated", cut_once(at(lambda wanted: 0, state="bytes 0-0/1")), ""),
        ("too long", lambda request, body: plain(request, body + b"!"), ""),
        ("too short", lambda request, body: plain(request, body[:-1]), ""),
        ("nothing", lambda request, body: plain(request, b""), ""),
        ("other content", lambda request, body: plain(request, body[::-1]), ""),
        ("a length too large", lambda request, body: plain(request, body, Content_Length="9" * 9), None),
        ("a length too small", lambda request, body: plain(request, body, Content_Length="7"), ""),
        ("a length that is none", lambda request, body: plain(request, body, Content_Length="many"), ""),
        ("not packed as it says", lambda request, body: plain(request, body, Content_Encoding="gzip"), ""),
        (
            "packed as brotli",
            lambda request, body: plain(request, body, Content_Encoding="br"),
            "not asked for",
        ),
        (
            "packed twice",
            lambda request, body: plain(request, body, Content_Encoding="gzip, br"),
            "not asked",
        ),
        ("blows up", endless(hub, b"", gzipped=True), ""),
        ("endless", endless(hub, b""), ""),
        ("refused", lone_status(403), "refuses the token"),
        ("no right", lone_status(401), "no token opens it"),
        ("not found", lone_status(404), "HTTP 404"),
        ("broken", lone_status(500), "HTTP 500"),
        ("busy", lone_status(503), "HTTP 503"),
        ("too many", lone_status(429), "too many requests for the hub (HTTP 429)"),
        ("a pause", lone_status(429, Retry_After="1"), "asks to wait 1 s"),
        ("a long pause", lone_status(429, Retry_After="86400"), "asks to wait 86400 s"),
        ("until then", lone_status(429, Retry_After=formatdate(time.time() + 9000, usegmt=True)), "to wait "),
        (
            "an odd pause",
            lone_status(429, Retry_After="soon" * 99),
            "too many requests for the hub (HTTP 429)",
        ),
        ("refuses for ever", endless(hub, b'{"error": "', status=403), "refuses the token"),
        ("busy for ever", endless(hub, b'{"error": "', status=429), "too many requests"),
        ("range refused", cut_once(lone_status(416)), "HTTP 416"),
        ("round", lambda request, body: head(request, 302, Location=request.path), "cannot be reached"),
        ("silent", silent(hub), ""),
        ("drips", dripping(hub), "sent nothing more for"),
        ("drips its head", dripping(hub, head_too=True), "sent nothing more for"),
        ("cut at once", lone(Content_Length="7"), ""),
    ]
    whole = len(WEIGHTS) + len(CONFIG)
    for number, (what, hub.file_manner, expected) in enumerate(table):
        place, hub.sent, seen = downloads / str(number), 0, _most_bytes(downloads / str(number))
        text = None
        with seen as most:
            try:
                folder = fetch(SOURCE, place)
            except (WeightsUnavailable, WeightsCorrupt) as error:
                text = str(error)
        if expected is None:
            assert text is None and (folder / "model.safetensors").read_bytes() == WEIGHTS, (what, text)
        else:
            assert text is not None and expected in text and len(text) < 500, (what, text)
            assert not target_of(SOURCE, place).exists(), what
        assert hub.sent < 256 << 20, what
        assert max(most, default=0) <= whole + (64 << 10), what  # with the library's notes
        hub.file_manner = None
        assert (fetch(SOURCE, place) / "model.safetensors").read_bytes() == WEIGHTS, what


def lone_status(status: int, **headers: str) -> Manner:
    return lambda request, body: head(request, status, Content_Length="0", **headers)


@contextlib.contextmanager
def _most_bytes(folder: Path) -> Any:
    """The bytes that lay below a folder, seen every few milliseconds."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            seen.append(sum(file_sizes(folder)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


# ---- beside others in the same process -----------------------------------------------------------------------


def test_a_hub_that_fails_us_costs_nobody_else_a_download(hub: Any, repository: Any, downloads: Path) -> None:
    """The embedding program uses huggingface_hub, too, and another of our models is fetched at the same time."""
    theirs, other = "someone/theirs", HubSource("someone/other")
    hub.add(theirs, small={"config.json": CONFIG}, large={"model.safetensors": WEIGHTS})
    hub.add(other.repo, small={"config.json": CONFIG}, large={"model.safetensors": WEIGHTS})
    session = huggingface_hub.utils.get_session()
    hooks = {kind: list(those) for kind, those in session.event_hooks.items()}
    table: dict[str, tuple[Manner | None, Manner | None]] = {
        "a list that drips": (dripping(hub), None),
        "a list whose head drips": (dripping(hub, head_too=True), None),
        "no list": (silent(hub), None),
        "a file that drips": (None, dripping(hub)),
        "a file whose head drips": (None, dripping(hub, head_too=True)),
        "no file": (None, silent(hub)),
        "a refusal": (None, lone_status(403)),
        "a long pause": (None, lone_status(429, Retry_After="86400")),
        "too much": (None, endless(hub, b"")),
    }
    for number, (what, (of_list, of_file)) in enumerate(table.items()):
        ended, begun, hub.sent = threading.Event(), threading.Semaphore(0), 0

        def until_ours_has_ended(
            request: Request, body: bytes, ended: threading.Event = ended, begun: threading.Semaphore = begun
        ) -> None:
            head(request, Content_Length=str(len(body)))
            at = 0
            while at < len(body):
                request.wfile.write(body[at : at + 8192])
                at += 8192
                begun.release()
                if not ended.wait(0.1):
                    continue
                request.wfile.write(body[at:])
                at = len(body)

        def only_ours(bad: Manner | None, good: Manner) -> Manner:
            return lambda request, body: (bad if bad and REPO in request.path else good)(request, body)

        hub.list_manner = only_ours(of_list, plain)
        hub.file_manner = only_ours(of_file, until_ours_has_ended if of_file or of_list else plain)
        place = downloads / str(number)
        with ThreadPoolExecutor(2) as pool:
            try:
                download = huggingface_hub.hf_hub_download
                asked = pool.submit(download, theirs, "model.safetensors", local_dir=place / "theirs")
                fetched = pool.submit(fetch, other, place)
                for _ in range(2):
                    assert begun.acquire(timeout=30), what
                said(SOURCE, place, EdgeRouterError)
            finally:
                ended.set()
            assert Path(asked.result(30)).read_bytes() == WEIGHTS, what
            assert (fetched.result(30) / "model.safetensors").read_bytes() == WEIGHTS, what
        assert huggingface_hub.utils.get_session() is session, what
        assert {kind: list(those) for kind, those in session.event_hooks.items()} == hooks, what
        assert not any(handler.filters for handler in logging.getLogger("huggingface_hub").handlers), what
