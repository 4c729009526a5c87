"""Beginnings of prompts on the disk: for their user alone, bounded, and never believed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_router.errors import GenerationFailed
from edge_router.store import ArtifactStore
from edge_router.store.prefixes import KIND, PrefixStore
from edge_router.system.disk import hold
from edge_router.types import SilentProgress

INPUTS: dict[str, object] = {"model": "m", "tokens": 3, "pages": {"page": [2, 3]}, "caller": None}
DATA = bytes(range(200))
SIZE = len(DATA)


class Pages:
    """What is read, and what would be written."""

    def __init__(self) -> None:
        self.read = b""

    def take(self, read: Callable[[memoryview], None]) -> None:
        for size in (50, SIZE - 50):
            target = bytearray(size)
            read(memoryview(target))
            self.read += target

    def give(self, write: Callable[[memoryview], None]) -> None:
        write(memoryview(DATA[:120]))
        write(memoryview(DATA[120:]))


@pytest.fixture
def prefixes(root: Path, notes: Any) -> PrefixStore:
    return PrefixStore(root, 10 * SIZE, notes)


def folders(root: Path) -> list[Path]:
    return sorted(each for each in (root / KIND).iterdir() if each.is_dir()) if (root / KIND).is_dir() else []


def found(prefixes: PrefixStore, **other: object) -> bytes | None:
    pages = Pages()
    return pages.read if prefixes.read({**INPUTS, **other}, SIZE, pages.take) else None


def test_what_was_written_is_read_by_who_asks_for_the_very_same(prefixes: PrefixStore, root: Path) -> None:
    assert found(prefixes) is None
    prefixes.write(INPUTS, SIZE, Pages().give)
    assert found(prefixes) == DATA and found(PrefixStore(root, 0)) == DATA
    for other in ({"tokens": 4}, {"caller": "ann"}, {"pages": {"page": [2, 4]}}):
        assert found(prefixes, **other) is None, other
    assert len(folders(root)) == 1
    assert not prefixes.read(INPUTS, SIZE + 1, Pages().take) and not folders(root)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_only_its_user_may_read_it(prefixes: PrefixStore, root: Path) -> None:
    prefixes.write(INPUTS, SIZE, Pages().give)
    (folder,) = folders(root)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "pages.bin").stat().st_mode & 0o777 == 0o600


def damages() -> Iterator[tuple[str, Callable[[Path], object]]]:
    def manifest(**changes: object) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            file = folder / "manifest.json"
            file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

        return change

    yield "shorter", lambda folder: os.truncate(folder / "pages.bin", SIZE - 1)
    yield "longer", lambda folder: (folder / "pages.bin").write_bytes(DATA + b"x")
    yield "other numbers", lambda folder: (folder / "pages.bin").write_bytes(DATA[::-1])
    yield "gone", lambda folder: (folder / "pages.bin").unlink()
    yield "no manifest", lambda folder: (folder / "manifest.json").unlink()
    yield "no JSON", lambda folder: (folder / "manifest.json").write_text("{")
    yield "of another model", manifest(inputs={**INPUTS, "model": "other"})
    yield "without files", manifest(files={})
    yield "with a sum that is none", manifest(files={"pages.bin": {"bytes": SIZE}})


def test_what_is_damaged_or_foreign_is_removed_and_told(root: Path, notes: Any) -> None:
    for name, damage in damages():
        prefixes = PrefixStore(root, 10 * SIZE, notes)
        prefixes.write(INPUTS, SIZE, Pages().give)
        damage(folders(root)[0])
        notes.lines.clear()
        assert found(prefixes) is None and not folders(root), name
        assert len(notes.lines) == 1 and "read again" in notes.lines[0], name
        prefixes.write(INPUTS, SIZE, Pages().give)
        assert found(prefixes) == DATA, name


def test_what_was_used_the_longest_ago_goes_first(root: Path, notes: Any) -> None:
    prefixes = PrefixStore(root, 3 * SIZE, notes)
    for number in range(3):
        prefixes.write({**INPUTS, "tokens": number}, SIZE, Pages().give)
        (newest,) = set(folders(root)) - {folder for folder in folders(root) if _aged(folder)}
        os.utime(newest / "manifest.json", (number + 1, number + 1))
    assert found(prefixes, tokens=0) == DATA  # which is a use
    prefixes.write({**INPUTS, "tokens": 3}, SIZE, Pages().give)
    assert [found(prefixes, tokens=number) is not None for number in range(4)] == [True, False, True, True]
    prefixes.write({**INPUTS, "tokens": 4}, 4 * SIZE, Pages().give)
    assert found(prefixes, tokens=4) is None and "weak.keep_max_size" in notes.lines[-1]


def _aged(folder: Path) -> bool:
    return (folder / "manifest.json").stat().st_mtime < 1e6


def test_what_the_file_system_refuses_is_told_once(unwritable: Path, notes: Any) -> None:
    prefixes = PrefixStore(unwritable / "artifacts", 10 * SIZE, notes)
    for _ in range(2):
        prefixes.write(INPUTS, SIZE, Pages().give)
        assert found(prefixes) is None
    assert len(notes.lines) == 1 and "not kept" in notes.lines[0]


def test_a_full_disk_is_told_and_nothing_half_stays(
    prefixes: PrefixStore, root: Path, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_router.system.disk.free_bytes", lambda path: SIZE)
    prefixes.write(INPUTS, SIZE, Pages().give)
    assert not folders(root) and "no space left" in notes.lines[0]


def test_who_breaks_off_leaves_nothing(prefixes: PrefixStore, root: Path) -> None:
    def give(write: Callable[[memoryview], None]) -> None:
        write(memoryview(DATA[:120]))
        raise GenerationFailed("fake", "the device is gone")

    with pytest.raises(GenerationFailed):
        prefixes.write(INPUTS, SIZE, give)
    assert not folders(root)
    prefixes.write(INPUTS, SIZE, Pages().give)
    assert found(prefixes) == DATA


def test_two_that_write_the_same_do_it_once(prefixes: PrefixStore, root: Path, notes: Any) -> None:
    begun, go = threading.Event(), threading.Event()

    def slowly(write: Callable[[memoryview], None]) -> None:
        begun.set()
        assert go.wait(20)
        Pages().give(write)

    first = threading.Thread(target=prefixes.write, args=(INPUTS, SIZE, slowly))
    first.start()
    assert begun.wait(20)
    PrefixStore(root, 10 * SIZE, notes).write(INPUTS, SIZE, lambda write: pytest.fail("it is being written"))
    assert found(prefixes) is None and not notes.lines  # nothing is there before all is
    go.set()
    first.join(20)
    assert found(prefixes) == DATA


def test_a_writer_that_was_killed_is_swept_away(prefixes: PrefixStore, root: Path) -> None:
    partial = root / KIND / ".0123.partial"
    partial.mkdir(parents=True)
    (partial / "pages.bin").write_bytes(DATA)
    with hold(root / KIND / ".0123.lock", timeout_s=0, progress=SilentProgress(), doing=""):
        pass
    prefixes.write(INPUTS, SIZE, Pages().give)
    assert not partial.exists()


def test_they_are_listed_and_cleared_like_all_that_was_built(prefixes: PrefixStore, root: Path) -> None:
    prefixes.write(INPUTS, SIZE, Pages().give)
    store = ArtifactStore(root)
    (record,) = store.scan().records
    assert (record.kind, record.model, record.bytes) == (KIND, "m", SIZE)
    store.verify(record)
    assert store.plan_removal(kind="weights").items == ()
    store.plan_removal(kind=KIND).execute()
    assert found(prefixes) is None
