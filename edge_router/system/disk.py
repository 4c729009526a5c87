"""What a file system does to us: its refusals as our errors, locks between processes, atomic publishing."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_router.errors import DiskFull, LockTimeout, NotWritable, StorageError
from edge_router.types import Progress

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG}  # the last: a limit, or FAT32
_WINDOWS_FULL = {39, 112}  # ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Inside, "full" or "not allowed" about `folder` becomes `DiskFull` or `NotWritable`.

    Other errors, and refusals about files elsewhere, pass unchanged.
    """
    try:
        yield
    except OSError as error:
        ours = as_storage_error(error, folder)
        if ours is None:
            raise
        raise ours from error


def as_storage_error(error: OSError, folder: Path) -> StorageError | None:
    if error.errno in _FULL or getattr(error, "winerror", None) in _WINDOWS_FULL:
        return DiskFull(folder, None, free_bytes(folder))
    if error.errno not in _REFUSED:
        return None
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
    # The refusal may be about the first parent that does not exist yet, or about something below.
    if where != folder and folder not in where.parents and where not in folder.parents:
        return None
    return NotWritable(where, error.strerror or "")


def free_bytes(path: Path) -> int:
    """Free space where `path` is or would be."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def require_space(folder: Path, needed: int) -> None:
    """Raises `DiskFull` before minutes of work rather than in their midst."""
    free = free_bytes(folder)
    if free < needed:
        raise DiskFull(folder, needed, free)


@contextmanager
def hold(lock: Path, *, timeout_s: float, progress: Progress, doing: str) -> Iterator[None]:
    """Holds `lock` between processes and threads; says once what another one is doing while it waits.

    Raises `LockTimeout`. The lock is the operating system's, so a killed owner never leaves it held.
    """
    from filelock import FileLock, Timeout

    file = FileLock(lock, mode=0o600)
    try:
        try:
            file.acquire(timeout=0)
        except Timeout:
            progress.note(f"waiting for another process that {doing}")
            file.acquire(timeout=timeout_s)
    except Timeout as error:
        raise LockTimeout(lock, timeout_s) from error
    try:
        yield
    finally:
        file.release()


def is_held(lock: Path) -> bool:
    """Whether someone holds `lock` now."""
    from filelock import FileLock, Timeout

    if not lock.exists():
        return False
    file = FileLock(lock)
    try:
        file.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # nobody builds where nobody may write
        return False
    file.release()
    return False


def stamp(file: Path) -> str:
    """A text that changes whenever the file's content does, for the price of a look at its size and times.

    ctime tells on content that was replaced under the old size and mtime (not on Windows).
    """
    status = file.stat()
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def read_small(path: Path, most: int = 1 << 20) -> bytes:
    """The bytes of a file that people write, `most` of them.

    Raises `OSError` whose `strerror` says what it is: a device or a pipe may never end.
    """
    if str(path) == os.devnull:  # as people write it for an empty one
        return b""
    if not stat.S_ISREG(path.stat().st_mode):
        reason = "it is a folder" if path.is_dir() else "it is no file but a device or a pipe"
        raise OSError(errno.EINVAL, reason, str(path))
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(path))
    return content


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def whole_lines(path: Path) -> list[bytes]:
    """Of a file to which lines are added; none where there is no file. Raises `StorageError`.

    Half a line, from a run that was killed, is cut off, so that the next one begins where a line does.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with storage_errors(path.parent):
            write_bytes(path, whole)
    return whole.splitlines()


def write_bytes(path: Path, content: bytes, *, like: Path | None = None) -> None:
    """Writes as a whole or not at all, and to the disk before it returns; who may read it, as of `like`."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            if like is not None and like.exists():
                shutil.copymode(like, draft)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.filename == str(draft):
            error.filename = str(path)  # what was asked for; nobody knows the draft
        raise
    finally:
        draft.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Forces what lies at or below `path` to the disk: a power cut after publishing then loses nothing."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        # Windows flushes only what is open for writing; a file made read-only on purpose goes without.
        if file.is_file() and os.access(file, os.W_OK):
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())


def publish(partial: Path, final: Path, *, last: str | None = None, system: str | None = None) -> None:
    """Moves a finished file or folder to its name, where nothing is yet.

    Windows refuses to move a folder while a library in it is loaded: there it is copied, the file `last`,
    whose presence says that all is there, at the end.
    """
    try:
        partial.replace(final)
    except PermissionError:
        if (system or platform.system()) != "Windows" or not partial.is_dir():
            raise
        copy_folder(partial, final, last=last)


def copy_folder(source: Path, target: Path, *, last: str | None = None) -> None:
    """A copy whose file `last` is written when all others are there."""

    def all_but_last(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name == last and Path(folder) == source]

    shutil.copytree(source, target, ignore=all_but_last, copy_function=shutil.copyfile, dirs_exist_ok=True)
    if last is not None:
        shutil.copy2(source / last, target / last)


def remove_tree(path: Path) -> None:
    """Removes a file or folder; one that is gone already is no error."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def file_sizes(path: Path) -> Iterator[int]:
    """Bytes of each file below `path`. Files and folders may come and go meanwhile, under another's hands."""
    for folder, _, names in os.walk(path):  # which skips folders that are gone, where Path.rglob raises
        for name in names:
            with suppress(OSError):
                yield Path(folder, name).stat().st_size


def tree_bytes(path: Path) -> int:
    """Of a file or of everything below a folder."""
    return path.stat().st_size if path.is_file() else sum(file_sizes(path))
