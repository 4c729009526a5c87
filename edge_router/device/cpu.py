"""The processor's name and extensions as the operating system states them; the parsers are pure.

Extensions are given in LLVM's spelling, so that they can be compared with a compiled library's.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_router.device.features import LINUX_ARM, LINUX_X86, MAC_ARM, MAC_X86, X86_LEVELS
from edge_router.records import dataclass

Run = Callable[[list[str]], str]


@dataclass(frozen=True, slots=True)
class CpuText:
    """`identity` holds everything that was stated, and changes when the processor does."""

    name: str
    features: tuple[str, ...]
    identity: str


def read_cpu(system: str, *, run: Run | None = None, root: Path = Path("/")) -> CpuText:
    """`system` as in `platform.system()`. What can't be read is left empty."""
    run = run or _run
    if system == "Darwin":
        return parse_sysctl(run(["/usr/sbin/sysctl", "machdep.cpu", "hw.optional"]))
    if system == "Windows":
        key = r"HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        return parse_registry(run(["reg", "query", key]))
    cpu = parse_cpuinfo(_read(root / "proc" / "cpuinfo"))
    if not cpu.name:  # ARM boards say what they are elsewhere
        board = _read(root / "proc" / "device-tree" / "model").strip("\0\n ")
        cpu = CpuText(board, cpu.features, cpu.identity)
    return cpu


def parse_cpuinfo(text: str) -> CpuText:
    """/proc/cpuinfo, of x86 and of ARM (where cores of two sorts may share a machine)."""
    facts: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), []).append(value.strip())

    def distinct(key: str) -> list[str]:
        return sorted(set(facts.get(key, [])))

    names = distinct("model name") or distinct("Model")
    sets = [set(line.split()) for line in facts.get("flags", facts.get("Features", []))]
    flags = set.intersection(*sets) if sets else set()
    table = LINUX_X86 if "flags" in facts else LINUX_ARM
    stated = ["vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant"]
    identity = [*names, *(value for key in stated for value in distinct(key)), *sorted(flags)]
    features = tuple(sorted(table[flag] for flag in flags if flag in table))
    return CpuText(", ".join(names), features, " ".join(identity))


def parse_sysctl(text: str) -> CpuText:
    """`sysctl machdep.cpu hw.optional` on macOS, for Intel and for Apple's own processors."""
    facts = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts[key.strip()] = value.strip()
    name = facts.get("machdep.cpu.brand_string", "")
    words = " ".join(
        facts.get(f"machdep.cpu.{key}", "") for key in ("features", "leaf7_features", "extfeatures")
    )
    features = [MAC_X86[word] for word in words.lower().split() if word in MAC_X86]
    for key, value in facts.items():
        last = key.rpartition(".")[2]
        if value == "1" and last in MAC_ARM:
            features.append(MAC_ARM[last])
    stated = [f"{key}={facts[key]}" for key in sorted(facts)]
    return CpuText(name, tuple(sorted(set(features))), " ".join(stated))


def parse_registry(text: str) -> CpuText:
    """`reg query ...\\CentralProcessor\\0` on Windows, which states no extensions."""
    values = dict(re.findall(r"^\s+(\S+)\s+REG_\w+\s+(.*?)\s*$", text, re.MULTILINE))
    name = re.sub(r"\s+", " ", values.get("ProcessorNameString", "")).strip()
    identity = " ".join(
        values.get(key, "") for key in ("ProcessorNameString", "Identifier", "VendorIdentifier")
    )
    return CpuText(name, (), identity.strip())


def baseline_cpu(machine: str, features: Iterable[str]) -> str:
    """LLVM's name of the processor that these extensions guarantee; for when LLVM can't be asked."""
    if machine.lower() not in ("x86_64", "amd64"):
        return "generic"
    has, reached = set(features), "x86-64"
    for level, needed in reversed(X86_LEVELS):
        if not has.issuperset(needed):
            break
        reached = level
    return reached


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
