"""Kept answers: room, age, order, damage, and several who read and write at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edge_router.chat.events import Finished, TextDelta, Usage
from edge_router.errors import DiskFull, InvalidData, NotWritable
from edge_router.response_cache.store import AnswerStore, Entry, Totals
from edge_router.response_cache.transcript import Transcript

DAY_S = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def said(text: str) -> str:
    transcript = Transcript()
    for event in (TextDelta(text), Finished("stop", Usage(3, 1))):
        transcript.read(event)
    return transcript.dump()


def entry(key: str, text: str = "yes", time: float = 1_000_000.0, **more: object) -> Entry:
    return replace(Entry(key, "", time, "weak", "small", "maker", text=said(text)), **more)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "folder" / "responses.sqlite3"


def test_what_was_put_is_found_in_place_of_what_was_before(place: Path | None) -> None:
    store = AnswerStore(place, clock=Clock())
    assert store.find("a") is None and store.entries() == [] and store.totals() == Totals()
    assert store.clear() == 0
    for text in ("one", "two"):
        store.put(entry("a", text, caller="ann", endpoint="eu", score=0.25, vector=b"ab", context="c"))
    found = store.find("a")
    assert found is not None
    assert found.events() == [TextDelta("two"), Finished("stop", Usage(3, 1, cached_tokens=3))]
    assert (found.caller, found.endpoint, found.score, found.vector) == ("ann", "eu", 0.25, b"ab")
    assert (store.totals().answers, found.hits) == (1, 0)
    store.touch("a")
    store.touch("nobody's")
    assert store.totals().hits == 1
    (listed,) = store.entries()
    assert listed.text == "" and listed.hits == 1
    assert [each.key for each in store.similar("c")] == ["a"] and store.similar("d") == []
    assert [each.key for each in store.named("a")] == ["a"] and store.named("b") == []
    store.close()
    store.close()
    assert store.totals().answers == (0 if place is None else 1)


def test_the_longest_unasked_go_first(place: Path | None) -> None:
    clock = Clock()
    store = AnswerStore(place, max_bytes=5_000, clock=clock)
    for number in range(5):
        clock.now += 1
        store.put(entry(str(number), "x" * 500, clock.now))
    kept = store.totals()
    assert kept.answers == 5 and kept.bytes <= 5_000
    clock.now += 1
    store.touch("0")
    store.put(entry("5", "x" * 500, clock.now))
    assert [each.key for each in store.entries()] == ["5", "0", "4", "3", "2"]
    store.put(entry("6", "x" * 6_000, clock.now))  # larger than all of them may be
    assert store.find("6") is None and store.totals().answers == 5
    store.put(entry("7", "x" * 3_500, clock.now))
    assert [each.key for each in store.entries()][:1] == ["7"] and store.totals().bytes <= 5_000


def test_the_old_are_not_given_and_go_with_the_next(place: Path | None) -> None:
    clock = Clock()
    store = AnswerStore(place, max_age_s=DAY_S, clock=clock)
    store.put(entry("a", time=clock.now))
    clock.now += 60
    assert store.find("a") is not None and store.find("a", max_age_s=60) is not None
    assert store.find("a", max_age_s=59) is None
    assert store.find("a", max_age_s=10 * DAY_S) is not None
    clock.now += DAY_S
    assert store.find("a") is None and store.find("a", max_age_s=10 * DAY_S) is None and store.entries() == []
    store.put(entry("b", time=clock.now))
    assert store.totals().answers == 1
    clock.now -= 2 * DAY_S  # a clock that went back: it is from the future
    assert store.find("b") is None


def test_clearing(place: Path | None) -> None:
    store = AnswerStore(place, clock=Clock())
    for key, caller in (("a", "ann"), ("b", "bob"), ("c", "ann"), ("d", "")):
        store.put(entry(key, "a secret of theirs", caller=caller))
    assert store.clear(caller="ann") == 2
    assert {each.key for each in store.entries()} == {"b", "d"}
    store.remove(["b"])
    assert store.clear() == 1 and store.totals().answers == 0
    if place is not None:
        for file in place.parent.iterdir():
            assert b"secret of theirs" not in file.read_bytes(), file


def test_a_full_disk_keeps_nothing_and_loses_nothing(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path / "responses.sqlite3", clock=Clock())
    store.put(entry("a"))
    with store._place.writing() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(DiskFull):
        store.put(entry("b", "x" * 100_000))
    assert store.find("a") is not None and store.find("b") is None
    store.put(entry("c"))  # the next one begins afresh
    assert store.find("c") is not None


@pytest.mark.parametrize(
    "content", [b"", b"no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_damaged_file_says_so_until_it_is_cleared(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "responses.sqlite3"
    file.write_bytes(content)
    store = AnswerStore(file, clock=Clock())
    if content:  # an empty one is none
        for work in (lambda: store.find("a"), lambda: store.put(entry("a")), store.totals, store.entries):
            with pytest.raises(InvalidData, match="damaged"):
                work()
        with pytest.raises(InvalidData):
            store.clear(caller="ann")
        assert store.clear() == 0 and not file.exists()
    store.put(entry("a"))
    assert store.find("a") is not None


def test_rows_and_formats_of_another_version(tmp_path: Path) -> None:
    file = tmp_path / "responses.sqlite3"
    store = AnswerStore(file, clock=Clock())
    store.put(entry("a"))
    for column, value in (("tier", "both"), ("events", b"\xff"), ("time", "yesterday"), ("hits", b"x")):
        store.put(entry("a"))
        with store._place.writing() as connection:
            connection.execute(f"UPDATE answers SET {column} = ?", (value,))
        with pytest.raises(InvalidData):
            store.find("a")
    for text in (
        "",
        "[]",
        "[[],null]",
        '[[["text"]],["stop",null,null]]',
        '[[],["length",null,null]]',
        "[" * 9999,
    ):
        with pytest.raises(InvalidData):
            replace(entry("a"), text=text).events()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version=7")
    connection.close()
    with pytest.raises(InvalidData, match="format is 7, of another edge_router"):
        AnswerStore(file).find("a")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_where_nothing_may_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    with pytest.raises(NotWritable):
        AnswerStore(folder / "below" / "responses.sqlite3").put(entry("a"))


def test_many_threads(place: Path | None) -> None:
    store = AnswerStore(place, max_bytes=20_000, clock=Clock())

    def work(number: int) -> None:
        key = str(number % 7)
        store.put(entry(key, f"answer {key}"))
        found = store.find(key)
        assert found is not None and found.events()[0] == TextDelta(f"answer {key}")
        store.touch(key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))
    assert store.totals().answers == 7


@pytest.mark.integration
def test_several_processes_share_a_file(tmp_path: Path) -> None:
    """None loses an answer of another, none reads a half one, and nobody waits for who writes."""
    file = tmp_path / "responses.sqlite3"
    work = """
        import sys
        from pathlib import Path
        import time
        from edge_router.chat.events import Finished, TextDelta
        from edge_router.errors import LockTimeout
        from edge_router.response_cache.store import AnswerStore, Entry
        from edge_router.response_cache.transcript import Transcript

        def again(work):  # a busy machine may let one wait for long
            while True:
                try:
                    return work()
                except LockTimeout:
                    pass

        own, file = sys.argv[1], Path(sys.argv[2])
        store = AnswerStore(file)
        for number in range(60):
            key = f"{own}-{number}"
            transcript = Transcript()
            transcript.read(TextDelta(f"answer {key} " * 50))
            transcript.read(Finished("stop"))
            entry = Entry(key, "", time.time(), "weak", "m", "maker", text=transcript.dump())
            again(lambda: store.put(entry))
            for other in range(4):
                found = store.find(f"{other}-{number // 2}")
                if found is not None:
                    (text, end) = found.events()
                    assert text.text == f"answer {found.key} " * 50
                    again(lambda: store.touch(found.key))
        again(store.close)
    """
    command = [sys.executable, "-c", textwrap.dedent(work)]
    running = [subprocess.Popen([*command, str(number), str(file)]) for number in range(4)]
    assert [process.wait(120) for process in running] == [0] * 4
    store = AnswerStore(file)
    assert store.totals().answers == 240
    with store._place.writing() as connection:  # one who writes, for long
        connection.execute("BEGIN IMMEDIATE")
        assert AnswerStore(file).find("0-59") is not None
        connection.execute("ROLLBACK")
    store.close()
