"""The processor's name and extensions as the operating system states them; the parsers are pure.

Extensions are given in LLVM's spelling, so that they can be compared with a compiled library's.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

Run = Callable[[list[str]], str]

# The kernel's spelling -> LLVM's, of the extensions that matter to compiled code.
_X86 = {
    name: name
    for name in """adx aes avx avx2 avx512bw avx512cd avx512dq avx512f avx512ifma avx512vbmi avx512vl bmi2 cx16
    f16c fma gfni movbe popcnt sse sse2 sse4a ssse3 vaes vpclmulqdq xsave xsavec xsaveopt xsaves""".split()
} | {
    "pni": "sse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "abm": "lzcnt",
    "bmi1": "bmi",
    "pclmulqdq": "pclmul",
    "rdrand": "rdrnd",
    "sha_ni": "sha",
    "avx_vnni": "avxvnni",
    "avx512_bf16": "avx512bf16",
    "avx512_bitalg": "avx512bitalg",
    "avx512_fp16": "avx512fp16",
    "avx512_vbmi2": "avx512vbmi2",
    "avx512_vnni": "avx512vnni",
    "avx512_vpopcntdq": "avx512vpopcntdq",
    "amx_bf16": "amx-bf16",
    "amx_int8": "amx-int8",
    "amx_tile": "amx-tile",
}
_ARM = {
    "asimd": "neon",
    "asimddp": "dotprod",
    "asimdhp": "fullfp16",
    "asimdfhm": "fp16fml",
    "atomics": "lse",
    "crc32": "crc",
} | {name: name for name in ("aes", "bf16", "i8mm", "sha2", "sha3", "sve", "sve2")}
# How sysctl spells them on a Mac: words of machdep.cpu.* (Intel), names below hw.optional (Apple's own).
_MAC_X86 = {
    name: name
    for name in "adx aes avx2 bmi2 cx16 f16c fma movbe popcnt sse sse2 sse3 sse4.1 sse4.2 ssse3".split()
} | {"avx1.0": "avx", "bmi1": "bmi", "lzcnt": "lzcnt", "rdrand": "rdrnd"}
_MAC_ARM = {
    "AdvSIMD": "neon",
    "FEAT_AES": "aes",
    "FEAT_BF16": "bf16",
    "FEAT_DotProd": "dotprod",
    "FEAT_FP16": "fullfp16",
    "FEAT_I8MM": "i8mm",
    "FEAT_LSE": "lse",
    "FEAT_SHA3": "sha3",
}
_X86_LEVELS = (  # the psABI's levels, which LLVM knows as processors; extensions that we compile for
    ("x86-64-v4", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
    ("x86-64-v3", ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")),
    ("x86-64-v2", ("cx16", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3")),
)


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
    table = _X86 if "flags" in facts else _ARM
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
    features = [_MAC_X86[word] for word in words.lower().split() if word in _MAC_X86]
    for key, value in facts.items():
        last = key.rpartition(".")[2]
        if value == "1" and last in _MAC_ARM:
            features.append(_MAC_ARM[last])
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
    """LLVM's name of a processor that all machines with these extensions are; for when LLVM can't be asked."""
    if machine.lower() not in ("x86_64", "amd64"):
        return "generic"
    has, reached = set(features), "x86-64"
    for level, needed in reversed(_X86_LEVELS):
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
