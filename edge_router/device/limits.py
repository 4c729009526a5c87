"""How much of the machine this process may use: cores and memory under Linux's control groups.

Containers and services see the whole machine in /proc, and are throttled or killed when they use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_router.records import dataclass

_UNLIMITED = 1 << 60  # version 1 writes a number near 2^63 for "no limit"


@dataclass(frozen=True, slots=True)
class MachineLimits:
    """None where nothing limits. `memory_free` is what is left below the tightest memory limit, in bytes."""

    cores: float | None = None
    memory_total: int | None = None
    memory_free: int | None = None


def read_limits(root: Path = Path("/")) -> MachineLimits:
    """The tightest limits on the way from this process's control group to the top. Empty off Linux."""
    cores: list[float] = []
    memory: list[tuple[int, int]] = []
    for folder, version in _groups(root):
        quota = _quota(folder, version)
        if quota is not None:
            cores.append(quota)
        usage = _memory(folder, version)
        if usage is not None:
            memory.append(usage)
    return MachineLimits(
        cores=min(cores, default=None),
        memory_total=min((total for total, _ in memory), default=None),
        memory_free=min((free for _, free in memory), default=None),
    )


def physical_among(cpus: Iterable[int], root: Path = Path("/")) -> int | None:
    """How many physical cores the logical `cpus` are; None where the kernel does not say."""
    siblings = set()
    for cpu in cpus:
        topology = root / "sys/devices/system/cpu" / f"cpu{cpu}" / "topology"
        text = _text(topology / "thread_siblings_list") or _text(topology / "core_cpus_list")
        if not text:
            return None
        siblings.add(text)
    return len(siblings) or None


def _groups(root: Path) -> Iterator[tuple[Path, int]]:
    """Folders of this process's control groups, innermost first, each with its version."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0" and not controllers:
            yield from _upwards(root / "sys/fs/cgroup", name, 2)
        for controller in ("memory", "cpu"):
            if controller in controllers.split(","):
                yield from _upwards(root / "sys/fs/cgroup" / controller, name, 1)


def _upwards(mount: Path, name: str, version: int) -> Iterator[tuple[Path, int]]:
    folder = mount / name.lstrip("/")
    if not folder.is_dir():  # inside a container the name is the host's, and the mount is the group itself
        folder = mount
    while True:
        yield folder, version
        if folder == mount or mount not in folder.parents:
            return
        folder = folder.parent


def _quota(folder: Path, version: int) -> float | None:
    if version == 2:
        words = _text(folder / "cpu.max").split()
    else:
        words = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
    numbers = [_number(word) for word in words]
    if len(numbers) != 2 or numbers[0] is None or numbers[0] <= 0 or not numbers[1]:
        return None
    return numbers[0] / numbers[1]


def _memory(folder: Path, version: int) -> tuple[int, int] | None:
    """Limit and what is left of it; file pages that the kernel can drop count as left."""
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, used = _number(_text(folder / names[0])), _number(_text(folder / names[1]))
    if limit is None or used is None or limit >= _UNLIMITED:
        return None
    droppable = 0
    for line in _text(folder / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == names[2]:
            droppable = _number(value) or 0
    return limit, max(0, limit - max(0, used - droppable))


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
