"""The artifact store: published whole or not at all, found again, rebuilt when damaged."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_router.errors import ArtifactCorrupt, BuildFailed, DiskFull, LockTimeout, NotWritable
from edge_router.store import ArtifactStore, changed_inputs, manifest
from edge_router.system.disk import hold
from edge_router.types import SilentProgress

INPUTS: dict[str, object] = {"model": "m", "tvm": "0.27", "target": {"cpu": "znver5", "features": ["avx2"]}}


class Builder:
    """Writes two files and remembers how often it was asked."""

    def __init__(self, text: str = "code") -> None:
        self.text, self.folders = text, list[Path]()

    def __call__(self, folder: Path) -> None:
        self.folders.append(folder)
        (folder / "library.so").write_text(self.text)
        (folder / "more").mkdir()
        (folder / "more" / "params.bin").write_bytes(b"\0" * 100)


def test_an_artifact_is_built_once_and_found_again(store: ArtifactStore, root: Path) -> None:
    build = Builder()
    assert store.find("library", "k1") is None
    first = store.obtain("library", "k1", build, inputs=INPUTS)
    assert first == root / "library" / "k1"
    assert (first / "library.so").read_text() == "code"
    assert store.obtain("library", "k1", build, inputs=INPUTS) == first
    assert ArtifactStore(root).find("library", "k1") == first  # another process, later
    assert len(build.folders) == 1
    assert store.find("library", "k2") is None and store.find("weights", "k1") is None


def test_the_manifest_says_what_went_in_and_what_came_out(store: ArtifactStore) -> None:
    folder = store.obtain("library", "k1", Builder(), inputs=INPUTS)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["inputs"] == INPUTS
    assert manifest["files"]["more/params.bin"]["bytes"] == 100
    # sha256 of the four bytes "code"
    assert manifest["files"]["library.so"]["sha256"].startswith("5694d08a2e53ffcae0c3103e5ad6f607")
    assert set(manifest["files"]) == {"library.so", "more/params.bin"}


def test_it_is_built_on_the_same_file_system_and_nothing_else_stays(store: ArtifactStore, root: Path) -> None:
    build = Builder()
    store.obtain("library", "k1", build, inputs=INPUTS)
    assert root in build.folders[0].parents
    assert [item.name for item in (root / "library").iterdir() if item.is_dir()] == ["k1"]


def test_a_check_that_fails_publishes_nothing(store: ArtifactStore, root: Path) -> None:
    def check(folder: Path) -> None:
        assert (folder / "library.so").is_file()
        raise BuildFailed("m", "load", "undefined symbol")

    with pytest.raises(BuildFailed, match="undefined symbol"):
        store.obtain("library", "k1", Builder(), inputs=INPUTS, check=check)
    assert store.find("library", "k1") is None
    assert [item for item in root.rglob("*") if item.is_dir()] == [root / "library"]
    build = Builder()
    assert store.obtain("library", "k1", build, inputs=INPUTS) and len(build.folders) == 1


def test_a_build_that_is_interrupted_leaves_nothing(store: ArtifactStore, root: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.obtain("library", "k1", interrupted, inputs=INPUTS)
    assert not list(root.rglob("half"))
    assert store.find("library", "k1") is None


def shorten(folder: Path) -> None:
    (folder / "library.so").write_text("co")


def delete(folder: Path) -> None:
    (folder / "more" / "params.bin").unlink()


def unfinished(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": 1, "files"')


def empty_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


def no_files(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": 1}')


def no_inputs(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["inputs"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (shorten, "library.so has 2 bytes instead of 4"),
        (delete, "more/params.bin is missing"),
        (unfinished, "manifest.json is missing"),
        (cut_manifest, "manifest.json cannot be read"),
        (empty_manifest, "manifest.json cannot be read"),
        (no_files, "manifest.json does not list its files"),
        (no_inputs, "manifest.json is incomplete"),
    ],
)
def test_a_damaged_artifact_counts_as_absent_and_is_built_again(
    store: ArtifactStore, notes: Any, harm: Callable[[Path], None], said: str
) -> None:
    folder = store.obtain("library", "k1", Builder(), inputs=INPUTS)
    harm(folder)
    [damage] = store.scan().damaged
    assert damage.path == folder and said in damage.reason and damage.bytes > 0
    assert store.find("library", "k1") is None
    assert notes.lines == [line for line in notes.lines if said in line] != []
    store.obtain("library", "k1", Builder("new"), inputs=INPUTS)
    assert (folder / "library.so").read_text() == "new"
    assert store.find("library", "k1") == folder and not store.scan().damaged


@pytest.mark.parametrize("kept", ["nothing", "size", "size and time"])
def test_a_change_is_seen_before_use(store: ArtifactStore, kept: str) -> None:
    folder = store.obtain("library", "k1", Builder(), inputs=INPUTS)
    [record] = store.scan().records
    store.verify(record)
    library = folder / "library.so"
    times = library.stat()
    library.write_text("evil" if kept != "nothing" else "longer than it was")
    if kept == "size and time":
        os.utime(library, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.find("library", "k1") is None
    with pytest.raises(ArtifactCorrupt, match=r"library\.so has"):
        store.verify(record)
    again = store.obtain("library", "k1", Builder(), inputs=INPUTS)
    assert store.find("library", "k1") == again == folder


def test_what_is_right_is_read_once_and_then_looked_at(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.obtain("library", "k1", Builder(), inputs=INPUTS)
    read: list[Path] = []
    whole = manifest._sha256
    monkeypatch.setattr(manifest, "_sha256", lambda file: [read.append(file), whole(file)][1])
    assert store.find("library", "k1") == folder and read == []
    (folder / "library.so").touch()  # as a copy would: another time, the same content
    assert store.find("library", "k1") == folder and [file.name for file in read] == ["library.so"]
    assert store.find("library", "k1") == folder and len(read) == 1
    (folder / manifest.STAMPS).write_text("[]")  # damaged, or from before there were any
    assert store.find("library", "k1") == folder and len(read) > 1


def test_leftovers_go_when_their_owner_is_gone_and_stay_while_it_works(
    store: ArtifactStore, root: Path
) -> None:
    for key in ("dead", "alive"):
        (root / "library" / f".{key}.partial").mkdir(parents=True)
        (root / "library" / f".{key}.partial" / "file").write_bytes(b"x" * 10)
    with hold(root / "library" / ".alive.lock", timeout_s=1, progress=SilentProgress(), doing="builds"):
        [leftover] = store.scan().damaged
        assert leftover.path.name == ".dead.partial" and leftover.bytes == 10
        store.obtain("library", "k1", Builder(), inputs=INPUTS)
        assert not (root / "library" / ".dead.partial").exists()
        assert (root / "library" / ".alive.partial").exists()


def test_a_leftover_of_the_same_key_is_not_built_upon(store: ArtifactStore, root: Path) -> None:
    partial = root / "library" / ".k1.partial"
    partial.mkdir(parents=True)
    (partial / "stale.bin").write_text("old")
    folder = store.obtain("library", "k1", Builder(), inputs=INPUTS)
    assert not (folder / "stale.bin").exists()


def test_two_threads_build_once(store: ArtifactStore, notes: Any) -> None:
    build, begun = Builder(), threading.Event()

    def slow(folder: Path) -> None:
        begun.set()
        while not notes.lines:  # until the other one says that it waits
            time.sleep(0.01)
        build(folder)

    found: list[Path] = []
    first = threading.Thread(target=lambda: found.append(store.obtain("library", "k1", slow, inputs=INPUTS)))
    first.start()
    assert begun.wait(30)
    found.append(store.obtain("library", "k1", build, inputs=INPUTS))
    first.join()
    assert len(build.folders) == 1 and len(set(found)) == 1
    assert notes.lines == ["waiting for another process that builds the same library"]


def test_waiting_for_too_long_is_an_error(root: Path) -> None:
    (root / "library").mkdir(parents=True)
    store = ArtifactStore(root, lock_timeout_s=0.05)
    with (
        hold(root / "library" / ".k1.lock", timeout_s=1, progress=SilentProgress(), doing="builds"),
        pytest.raises(LockTimeout),
    ):
        store.obtain("library", "k1", Builder(), inputs=INPUTS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_nothing_stays(store: ArtifactStore, root: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "params.bin").symlink_to("/dev/full")
        (folder / "params.bin").write_bytes(b"x" * 10_000)

    with pytest.raises(DiskFull) as caught:
        store.obtain("weights", "k1", fill, inputs=INPUTS)
    assert caught.value.path == root and caught.value.free is not None
    assert not list((root / "weights").glob("**/params.bin"))


def test_a_compiler_that_fails_on_a_full_disk_means_the_disk(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError("ld: final link failed")

    with pytest.raises(RuntimeError, match="final link failed"):
        store.obtain("library", "k1", fail, inputs=INPUTS)
    monkeypatch.setattr("edge_router.store.artifacts.free_bytes", lambda path: 4096)
    with pytest.raises(DiskFull) as caught:
        store.obtain("library", "k1", fail, inputs=INPUTS)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_store_that_cannot_be_written_is_said(unwritable: Path) -> None:
    store = ArtifactStore(unwritable / "artifacts")
    assert store.find("library", "k1") is None
    with pytest.raises(NotWritable):
        store.obtain("library", "k1", Builder(), inputs=INPUTS)
    assert store.scan().records == ()


def test_a_builder_that_may_not_read_its_own_input_is_not_our_folder(store: ArtifactStore) -> None:
    def forbidden(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/else/weights.gguf")

    with pytest.raises(PermissionError):
        store.obtain("library", "k1", forbidden, inputs=INPUTS)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "x" * 200])
def test_names_cannot_leave_the_store(store: ArtifactStore, name: str) -> None:
    for kind, key in ((name, "k"), ("library", name)):
        with pytest.raises(ValueError, match="cannot name an artifact"):
            store.find(kind, key)


def test_finding_counts_as_use(store: ArtifactStore) -> None:
    folder = store.obtain("library", "k1", Builder(), inputs=INPUTS)
    long_ago = time.time() - 1000
    os.utime(folder / "manifest.json", (long_ago, long_ago))
    assert store.scan().records[0].last_used == pytest.approx(long_ago, abs=1)
    store.find("library", "k1")
    assert store.scan().records[0].last_used > long_ago + 900


def test_the_nearest_artifact_tells_why_something_is_built_again(store: ArtifactStore) -> None:
    store.obtain("library", "k1", Builder(), inputs={**INPUTS, "tvm": "0.25"})
    store.obtain("library", "k2", Builder(), inputs={**INPUTS, "tvm": "0.26"})
    store.obtain("library", "k3", Builder(), inputs={**INPUTS, "model": "other"})
    store.obtain("weights", "k4", Builder(), inputs=INPUTS)
    near = store.nearest("library", INPUTS)
    assert near is not None and near.key == "k2"
    assert changed_inputs(near.inputs, INPUTS) == ("tvm",)
    assert store.nearest("library", {**INPUTS, "model": "unknown"}) is None
    store.obtain("library", "k5", Builder(), inputs=INPUTS)
    found = store.nearest("library", INPUTS)
    assert found is not None and found.key == "k2"  # not the one whose inputs are just these


def test_changed_inputs_are_named_with_their_place() -> None:
    new = {"model": "m", "tvm": "0.27", "target": {"cpu": "znver4", "features": ("avx2",)}, "window": 2048}
    assert changed_inputs(INPUTS, new) == ("target.cpu", "window")
    assert changed_inputs(INPUTS, INPUTS) == ()
