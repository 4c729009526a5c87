"""Refusals of the file system as our errors; publishing, locking."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge_router.errors import DiskFull, LockTimeout, NotWritable
from edge_router.system import disk
from edge_router.types import SilentProgress


def os_error(number: int, path: Path | str | None = None) -> OSError:
    return OSError(number, os.strerror(number), str(path)) if path else OSError(number, os.strerror(number))


def test_full_and_forbidden_become_ours(tmp_path: Path) -> None:
    full = disk.as_storage_error(os_error(errno.ENOSPC), tmp_path)
    assert isinstance(full, DiskFull) and full.path == tmp_path and full.free
    for number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG):
        for place in (tmp_path, tmp_path / "below", tmp_path.parent):
            refused = disk.as_storage_error(os_error(number, place), tmp_path)
            assert isinstance(refused, NotWritable) and refused.path == place
    windows = OSError(errno.EINVAL, "There is not enough space on the disk")
    windows.winerror = 112  # type: ignore[attr-defined]
    assert isinstance(disk.as_storage_error(windows, tmp_path), DiskFull)


def test_everything_else_stays_what_it_is(tmp_path: Path) -> None:
    for error in (os_error(errno.ENOENT, tmp_path), os_error(errno.EACCES, "/somewhere/else")):
        assert disk.as_storage_error(error, tmp_path) is None
        with pytest.raises(OSError) as caught, disk.storage_errors(tmp_path):
            raise error
        assert caught.value is error


def test_space_is_measured_where_a_folder_would_be(tmp_path: Path) -> None:
    place = tmp_path / "not" / "yet"
    assert disk.free_bytes(place) > 0
    disk.require_space(place, 1)
    with pytest.raises(DiskFull) as caught:
        disk.require_space(place, 1 << 62)
    assert caught.value.needed == 1 << 62 and caught.value.free
    assert not place.exists()


def test_a_text_is_written_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "record.json"
    disk.write_text(file, "old\n")

    def fail(number: int) -> None:
        raise os_error(errno.ENOSPC)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError):
        disk.write_text(file, "new\n")
    assert file.read_bytes() == b"old\n" and [item.name for item in tmp_path.glob("*.draft")] == []


def artifact(tmp_path: Path) -> Path:
    partial = tmp_path / "partial"
    (partial / "sub").mkdir(parents=True)
    (partial / "sub" / "library.dll").write_text("code")
    (partial / "manifest.json").write_text("{}")
    return partial


def test_a_folder_is_published_by_one_move(tmp_path: Path) -> None:
    partial, final = artifact(tmp_path), tmp_path / "final"
    disk.publish(partial, final, last="manifest.json")
    assert (final / "sub" / "library.dll").read_text() == "code" and not partial.exists()


def test_windows_keeps_loaded_libraries_so_they_are_copied_the_manifest_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial, final = artifact(tmp_path), tmp_path / "final"

    def refuse(path: Path, target: Path) -> None:
        raise os_error(errno.EACCES, path)

    monkeypatch.setattr(type(partial), "replace", refuse)
    with pytest.raises(PermissionError):  # elsewhere it means what it says
        disk.publish(partial, final, last="manifest.json", system="Linux")
    seen: list[bool] = []
    real = disk.shutil.copy2

    def watching(source: object, target: object, **kwargs: object) -> object:
        seen.append((final / "sub" / "library.dll").exists())
        return real(source, target)  # type: ignore[call-overload]

    monkeypatch.setattr(disk.shutil, "copy2", watching)
    disk.publish(partial, final, last="manifest.json", system="Windows")
    assert seen == [True]
    assert (final / "manifest.json").exists() and partial.exists()


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    partial = artifact(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(partial)
    disk.remove_tree(link)
    assert partial.exists()
    for _ in range(2):
        disk.remove_tree(partial)
        disk.remove_tree(tmp_path / "file")
    assert not partial.exists()


def test_sizes(tmp_path: Path) -> None:
    partial = artifact(tmp_path)
    assert disk.tree_bytes(partial) == 6 and disk.tree_bytes(partial / "manifest.json") == 2
    (partial / "dangling").symlink_to(tmp_path / "nowhere")
    assert disk.tree_bytes(partial) == 6 and disk.tree_bytes(tmp_path / "nowhere") == 0


def test_flushing_passes_over_what_is_read_only(tmp_path: Path) -> None:
    partial = artifact(tmp_path)
    (partial / "manifest.json").chmod(0o444)
    disk.flush(partial)
    disk.flush(partial / "manifest.json")
    assert (partial / "manifest.json").read_text() == "{}"


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    assert not disk.is_held(lock) and not lock.exists()
    with disk.hold(lock, timeout_s=1, progress=SilentProgress(), doing="works"):
        assert disk.is_held(lock)
        with (
            pytest.raises(LockTimeout) as caught,
            disk.hold(lock, timeout_s=0, progress=SilentProgress(), doing="works"),
        ):
            raise AssertionError
        assert caught.value.path == lock
    assert not disk.is_held(lock)


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    assert disk.whole_lines(file) == [] and not file.exists()
    file.write_text("one\ntwo\nhal", encoding="utf-8")
    assert disk.whole_lines(file) == [b"one", b"two"] and file.read_text(encoding="utf-8") == "one\ntwo\n"
    file.write_text("hal", encoding="utf-8")
    assert disk.whole_lines(file) == [] and file.read_text(encoding="utf-8") == ""


def test_what_people_write_is_read_from_files_of_a_bounded_size(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"x" * 1024)
    assert disk.read_small(file, 1024) == b"x" * 1024
    assert disk.read_small(Path(os.devnull)) == b""
    with pytest.raises(OSError, match="it is larger than 1023 bytes"):
        disk.read_small(file, 1023)
    with pytest.raises(OSError, match="it is a folder"):
        disk.read_small(tmp_path)
    with pytest.raises(FileNotFoundError):
        disk.read_small(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_nobody_waits_for_a_pipe_or_reads_a_device_for_ever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(OSError, match="a device or a pipe"):
            disk.read_small(path)
