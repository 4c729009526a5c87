"""Weights from the Hugging Face hub through huggingface_hub: its tokens, mirrors and offline mode.

The revision is resolved to a commit first, the files that are needed are chosen from the repository's list,
and every one of them is held against the size and the hash that the hub states before it counts as fetched.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_router.catalog import HubSource
from edge_router.catalog.gguf import models_among
from edge_router.errors import Cancelled, WeightsAmbiguous, WeightsCorrupt, WeightsUnavailable
from edge_router.hub.choosing import choose, looked_for, missing_parts, ways_to_name
from edge_router.hub.hashing import list_files
from edge_router.hub.hub_errors import http_reason, translate, wait_asked_s
from edge_router.hub.listing import CODINGS, Listing, RemoteFile, check_names, list_repository
from edge_router.hub.patience import Lines, left_behind
from edge_router.hub.records import (
    damage,
    describe,
    lock_path,
    partial_path,
    read_record,
    write_record,
)
from edge_router.hub.watching import watch
from edge_router.system.disk import (
    flush,
    hold,
    publish,
    remove_tree,
    require_space,
    storage_errors,
    tree_bytes,
)
from edge_router.system.telemetry import load_huggingface_hub
from edge_router.types import Progress, SilentProgress

LOCK_TIMEOUT_S = 6 * 3600.0
STALLED_S = 600.0  # without a whole piece, which has 10 MB by default
LONGEST_WAIT_S = 60.0  # that the hub may ask for before another try
_LISTED = 20  # file names in an error
_BLOCK = 1 << 20
_AT_ONCE = 4  # files
_TRIED_AGAIN = (408, 429)
_TRIES = 5  # of all files together
_FETCHES = "edge-router-fetch"  # the threads that do
_LOOK_S = 0.5
_ENDING_S = 3.0  # for threads to notice


def repository_target(source: HubSource, downloads: Path) -> Path:
    """The folder in which the files will lie."""
    words = [source.revision, *([source.gguf] if source.gguf else [])]
    return downloads / "hub" / source.repo.replace("/", "--") / "--".join(words).replace("/", "--")


def fetch_repository(source: HubSource, downloads: Path, *, progress: Progress, offline: bool) -> Path:
    target = repository_target(source, downloads)
    if _fetched(source, target, progress) or _copied(source, target, progress):
        return target
    if offline:
        raise WeightsUnavailable(str(source), "the network is switched off", target)
    with storage_errors(downloads):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock, doing = lock_path(target), f"fetches {source}"
        with hold(lock, timeout_s=LOCK_TIMEOUT_S, progress=progress, doing=doing):
            if not _fetched(source, target, SilentProgress()):  # said already
                _make(source, target, progress)
    return target


def _make(source: HubSource, target: Path, progress: Progress) -> None:
    """Downloads beside the target; an interrupted download goes on with the files that are missing."""
    partial = partial_path(target)
    with _hub(source, target):
        listing = list_repository(source)
        names = _chosen(source, listing, target)
        check_names(names, source)
    total = sum(listing.files[name].bytes for name in names)
    partial.mkdir(exist_ok=True)
    require_space(partial, total - tree_bytes(partial))
    with (
        watch(lambda: tree_bytes(partial), total, progress=progress, name=f"fetch {source}"),
        _hub(source, target),
    ):
        _download(source, listing, names, partial)
    _check(listing, names, partial)
    unhashed = [name for name in names if not (listing.files[name].sha256 or listing.files[name].git_sha1)]
    if unhashed:
        progress.note(f"the hub states no hash of {_some(unhashed)}: nothing but the size was checked")
    for name in set(list_files(partial)) - set(names):
        (partial / name).unlink()  # of another revision, from an interrupted download
    remove_tree(partial / ".cache")
    remove_tree(target)
    flush(partial)
    write_record(target, describe(partial, str(source), listing.commit, progress=progress))
    publish(partial, target)


def _chosen(source: HubSource, listing: Listing, target: Path) -> list[str]:
    """The files to fetch. Raises `WeightsAmbiguous`, `WeightsUnavailable`."""
    names = choose(listing.files, source.files, source.gguf)
    models = [] if source.files else list(models_among(listing.files))
    if not names and models:
        sources = [str(replace(source, gguf=way)).removesuffix("@main") for way in ways_to_name(models)]
        raise WeightsAmbiguous(f"hf:{source.repo}", models, sources, source.gguf)
    if not names:
        held = _some(sorted(listing.files))
        reason = f"looked for {looked_for(source.files)}; the repository holds {held or 'nothing'}"
        raise WeightsUnavailable(str(source), reason, target)
    if missing := missing_parts(names):
        raise WeightsUnavailable(str(source), f"the repository has no {_some(missing[:3])}", target)
    return names


def _some(names: list[str]) -> str:
    """In quotes: a name may hold blanks, commas and whatever else its owner thought of."""
    return ", ".join(map(ascii, names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")


def _download(source: HubSource, listing: Listing, names: list[str], partial: Path) -> None:
    """Each file by itself: what is asked for as a whole is taken for whole where the hub fails in between.

    Raises `WeightsCorrupt` for a file that goes on beyond its stated size, as soon as it does, and
    `WeightsUnavailable` where the hub keeps its caller waiting for longer than anybody would.
    """
    hub, heard = load_huggingface_hub(), _Heard()
    left = deque(names)

    def fetch(name: str) -> None:
        stated, here = listing.files[name].bytes, partial / name
        if here.is_file() and here.stat().st_size != stated:
            here.unlink()  # of another revision; where the hub fails it would be taken for this one
        counter = _counter(here, stated, heard)
        hub.hf_hub_download(
            source.repo,
            name,
            revision=listing.commit,
            local_dir=partial,
            tqdm_class=counter,
            headers={"Accept-Encoding": "identity"},
        )
        heard.now()

    def work() -> None:
        heard.lines.mine()
        while not heard.stop.is_set():
            try:
                name = left.popleft()
            except IndexError:
                return
            fetch(name)

    with _quiet(heard.lines), heard.every_answer(source):
        under_way = [
            left_behind(work, name=f"{_FETCHES}-{number}") for number in range(min(_AT_ONCE, len(names)))
        ]
        try:
            while wait(under_way, _LOOK_S, FIRST_EXCEPTION).not_done:
                if any(one.done() and one.exception() for one in under_way):
                    break
                if heard.silent_s > STALLED_S:
                    reason = f"the hub has sent nothing more for {heard.silent_s:.0f} s"
                    raise WeightsUnavailable(str(source), reason)
            for one in under_way:
                if one.done():
                    one.result()
        finally:  # Ctrl-C, too, ends the others
            heard.stop.set()
            if wait(under_way, _ENDING_S).not_done:
                heard.lines.hang_up()
                wait(under_way, _ENDING_S)


class _Heard:
    """When something last came from the hub, whether all is to stop, and what no answer may ask for."""

    def __init__(self) -> None:
        self.stop, self.lines = threading.Event(), Lines()
        self._last = time.monotonic()
        self._refused = 0

    def now(self) -> None:
        self._last = time.monotonic()

    @property
    def silent_s(self) -> float:
        return time.monotonic() - self._last

    @contextmanager
    def every_answer(self, source: HubSource) -> Iterator[None]:
        """Inside, some answers are the end.

        One that asks to be tried again much later, for which the library would wait; and that to a request
        for content which the library does not ask again, for it would read all that a refusal says.
        """

        def look(response: Any) -> None:
            if self.stop.is_set():
                raise Cancelled
            coding = response.headers.get("Content-Encoding", "").strip().lower()
            if coding not in CODINGS:
                reason = f"the hub packs a file in a way that was not asked for ({coding[:20]!a})"
                raise WeightsUnavailable(str(source), reason)
            if response.status_code < 400:
                return
            with_body = response.request.method == "GET"
            self._refused += with_body
            again = response.status_code in _TRIED_AGAIN and self._refused < _TRIES
            if (wait_asked_s(response.headers) or 0) > LONGEST_WAIT_S or (with_body and not again):
                reason = http_reason(response.status_code, response.headers, source)
                raise WeightsUnavailable(str(source), reason)

        with self.lines.seen(load_huggingface_hub("utils").get_session(), look):
            yield


def _counter(file: Path, stated: int, heard: _Heard) -> type:
    """What huggingface_hub tells of every piece: a bar that shows nothing and ends what has no end."""

    class Counter(load_huggingface_hub("utils").tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: object, initial: int = 0, **options: object) -> None:
            super().__init__(*arguments, **{**options, "initial": initial, "disable": True})
            self._got = initial

        def update(self, n: float | None = 1) -> None:
            self._got += int(n or 0)
            heard.now()
            if heard.stop.is_set():
                raise Cancelled
            if self._got > stated:
                raise WeightsCorrupt(file, f"{stated} bytes", f"{self._got} and more")

    return Counter


def _check(listing: Listing, names: list[str], partial: Path) -> None:
    """A file that is not what the hub states is deleted, so that the next attempt fetches it anew."""
    for name in names:
        expected, file = listing.files[name], partial / name
        if not file.is_file():
            raise WeightsCorrupt(file, f"{expected.bytes} bytes", "no such file")
        problem = _difference(expected, file)
        if problem is not None:
            file.unlink()
            raise WeightsCorrupt(file, *problem)


def _difference(expected: RemoteFile, file: Path) -> tuple[str, str] | None:
    found = file.stat().st_size
    if found != expected.bytes:
        return f"{expected.bytes} bytes", f"{found}"
    if expected.sha256 is None and expected.git_sha1 is None:
        return None
    digest = hashlib.sha256() if expected.sha256 else hashlib.sha1(usedforsecurity=False)
    if not expected.sha256:
        digest.update(f"blob {found}\0".encode())  # what git hashes before a file's content
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    wanted = expected.sha256 or expected.git_sha1
    if digest.hexdigest() != wanted:
        return f"{digest.name} {wanted}", digest.hexdigest()
    return None


def _fetched(source: HubSource, target: Path, progress: Progress) -> bool:
    record = read_record(target)
    if record is None or record.source != str(source):
        return False
    reason = damage(target, record)
    if reason is not None and target.exists():
        progress.note(f"{source} is fetched again: {reason}")
    return reason is None


def _copied(source: HubSource, target: Path, progress: Progress) -> bool:
    """Whether a person put the files in place; there is nothing to hold them against without the hub."""
    if read_record(target) is not None or not target.is_dir():
        return False
    names = list(list_files(target))
    described = any(name in ("config.json", "mlc-chat-config.json") for name in names) or models_among(names)
    # Whoever put one model in GGUF there has chosen, whatever its name.
    chosen = choose(names, source.files, source.gguf) or choose(names, source.files)
    complete = bool(described and chosen and not missing_parts(chosen))
    if complete:
        progress.note(f"using the files in {target} as they are")
    return complete


@contextmanager
def _hub(source: HubSource, target: Path) -> Iterator[None]:
    """Whatever huggingface_hub raises inside becomes ours; its HTTP library differs between its versions."""
    try:
        yield
    except Exception as error:
        ours = translate(error, source, target)
        if ours is None:
            raise
        raise ours from error


@contextmanager
def _quiet(lines: Lines) -> Iterator[None]:
    """What it says of the calls of these threads is dropped: stderr belongs to the caller.

    Its bars are off by their class, see `_counter`.
    """

    def passes(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not lines.owns(record.thread)

    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(passes)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(passes)
