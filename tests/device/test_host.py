"""This machine, and machines made of files."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from edge_router.device import Host, host
from edge_router.device.limits import MachineLimits, physical_among, read_limits
from edge_router.system.paths import Paths


class Llvm:
    """Counts how often it was asked."""

    def __init__(self, answer: tuple[str, tuple[str, ...]] = ("znver4", ("avx2",))) -> None:
        self.answer, self.asked = answer, 0

    def __call__(self) -> tuple[str, tuple[str, ...]]:
        self.asked += 1
        return self.answer


def test_this_machine_makes_sense(tmp_path: Path) -> None:
    found = host(tmp_path / "host.json", ask_llvm=Llvm())
    assert found.system == platform.system() and found.machine == platform.machine() and found.cpu_name
    assert 1 <= found.physical_cores <= found.logical_cores <= (os.cpu_count() or 1)
    assert 0 < found.memory_free <= found.memory_total


@pytest.mark.integration
def test_llvm_knows_this_processor(tmp_path: Path) -> None:
    memory = tmp_path / "host.json"
    found = host(memory)
    assert found.cpu not in ("", "generic") and found.features
    assert json.loads(memory.read_text())["cpu"] == found.cpu
    if platform.machine() == "x86_64" and platform.system() == "Linux":
        from edge_router.device.cpu import read_cpu

        # LLVM asks the processor, the kernel's list is another way to the same facts.
        assert set(read_cpu("Linux").features) <= set(found.features)


def test_llvm_is_asked_once(tmp_path: Path) -> None:
    llvm, memory = Llvm(), tmp_path / "deep" / "host.json"
    first, second = host(memory, ask_llvm=llvm), host(memory, ask_llvm=llvm)
    assert llvm.asked == 1
    assert (first.cpu, first.features) == (second.cpu, second.features) == ("znver4", ("avx2",))


def test_what_is_remembered_loads_no_compiler(paths: Paths) -> None:
    host(ask_llvm=Llvm())
    assert (paths.artifacts / "host.json").is_file()
    code = "import sys; from edge_router.device import host; print(host().cpu, 'tvm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["znver4", "False"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"key": 1}', '{"key": "other", "cpu": "x", "features": []}']
)
def test_a_memory_of_another_processor_or_a_broken_one_is_not_believed(tmp_path: Path, text: str) -> None:
    llvm, memory = Llvm(), tmp_path / "host.json"
    memory.write_text(text)
    assert host(memory, ask_llvm=llvm).cpu == "znver4" and llvm.asked == 1
    assert host(memory, ask_llvm=llvm).cpu == "znver4" and llvm.asked == 1


def test_another_compiler_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llvm, memory = Llvm(), tmp_path / "host.json"
    host(memory, ask_llvm=llvm)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    host(memory, ask_llvm=llvm)
    assert llvm.asked == 2


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert host(tmp_path / "file" / "host.json", ask_llvm=Llvm()).cpu == "znver4"


def test_without_a_compiler_the_baseline_is_taken_and_not_remembered(tmp_path: Path) -> None:
    def missing() -> tuple[str, tuple[str, ...]]:
        raise ImportError("No module named 'tvm'")

    found = host(tmp_path / "host.json", ask_llvm=missing)
    assert found.cpu in ("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "generic")
    assert not (tmp_path / "host.json").exists()


def test_control_groups_narrow_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = host(tmp_path / "host.json", ask_llvm=Llvm())
    monkeypatch.setattr(
        "edge_router.device.machine.read_limits", lambda: MachineLimits(1.5, 1 << 28, 1 << 27)
    )
    narrow = host(tmp_path / "host.json", ask_llvm=Llvm())
    assert (narrow.physical_cores, narrow.logical_cores) == (1, 1)
    assert (narrow.memory_total, narrow.memory_free) == (1 << 28, 1 << 27)
    assert isinstance(wide, Host) and wide.memory_total > 1 << 28


def test_a_system_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(pid: int) -> set[int]:
        raise AttributeError("sched_getaffinity")

    monkeypatch.setattr(os, "sched_getaffinity", missing, raising=False)
    assert host(tmp_path / "host.json", ask_llvm=Llvm()).logical_cores >= 1


def tree(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


GIB = 1 << 30


def test_no_groups_no_limits(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == MachineLimits()


def test_version_two_takes_the_tightest_on_the_way_up(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/app.scope\n",
            "sys/fs/cgroup/user.slice/app.scope/memory.max": "max\n",
            "sys/fs/cgroup/user.slice/app.scope/memory.current": f"{GIB}\n",
            "sys/fs/cgroup/user.slice/app.scope/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/user.slice/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/user.slice/memory.stat": f"anon 5\ninactive_file {GIB}\n",
            "sys/fs/cgroup/user.slice/cpu.max": "250000 100000\n",
        },
    )
    assert read_limits(root) == MachineLimits(2.5, 8 * GIB, 6 * GIB)


def test_inside_a_container_the_mount_is_the_group(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../../kubepods/pod1\n",
            "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
        },
    )
    assert read_limits(root) == MachineLimits(0.5, 2 * GIB, 0)


def test_version_one(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{4 * GIB}",
            "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": f"{GIB}",
            "sys/fs/cgroup/memory/docker/abc/memory.stat": f"total_inactive_file {GIB // 2}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert read_limits(root) == MachineLimits(4.0, 4 * GIB, 4 * GIB - GIB // 2)


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"]):
        tree(tmp_path, {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{siblings}\n"})
    assert physical_among(range(8), tmp_path) == 4
    assert physical_among([0, 4], tmp_path) == 1
    assert physical_among([8], tmp_path) is None and physical_among([], tmp_path) is None


@pytest.mark.integration
def test_another_process_asks_the_compiler(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge_router.device import host, llvm\n"
        "print(host(Path(sys.argv[1])).cpu == llvm.ask_llvm()[0], 'tvm' in sys.modules, llvm._ask()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "host.json")], capture_output=True, text=True, check=True
    )
    same, loaded, name = done.stdout.split()
    assert (same, loaded) == ("True", "False") and name
