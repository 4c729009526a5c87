"""What three operating systems say of a processor; the texts are shortened, their form is the real one."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edge_router.device.cpu import baseline_cpu, parse_cpuinfo, parse_registry, parse_sysctl, read_cpu

ZEN = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 97
model name\t: AMD Ryzen 9 7950X 16-Core Processor
stepping\t: 2
flags\t\t: fpu sse sse2 pni ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt avx f16c abm bmi1 avx2 bmi2 avx512f {}

processor\t: 1
model name\t: AMD Ryzen 9 7950X 16-Core Processor
flags\t\t: fpu sse sse2 pni ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt avx f16c abm bmi1 avx2 bmi2 avx512f {}
"""
PI = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Hardware\t: BCM2835
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
BIG_LITTLE = """processor\t: 0
Features\t: fp asimd asimddp
CPU part\t: 0xd05

processor\t: 4
Features\t: fp asimd asimddp i8mm sve
CPU part\t: 0xd41
"""
INTEL_MAC = """machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz
machdep.cpu.features: FPU SSE SSE2 SSE3 SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES AVX1.0 RDRAND F16C
machdep.cpu.leaf7_features: BMI1 AVX2 BMI2 ADX
machdep.cpu.extfeatures: SYSCALL LZCNT RDTSCP
hw.optional.floatingpoint: 1
"""
APPLE = """machdep.cpu.brand_string: Apple M2 Pro
machdep.cpu.core_count: 12
hw.optional.AdvSIMD: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_FP16: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_SME: 0
hw.optional.arm.FEAT_SHA3: 0
"""
WINDOWS = """
HKEY_LOCAL_MACHINE\\HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0
    Component Information    REG_BINARY    00000000000000000000000000000000
    Identifier    REG_SZ    AMD64 Family 25 Model 33 Stepping 2
    ProcessorNameString    REG_SZ    AMD Ryzen 7 5800X 8-Core Processor               \r
    VendorIdentifier    REG_SZ    AuthenticAMD
    ~MHz    REG_DWORD    0xed1

"""


def test_linux_on_x86() -> None:
    cpu = parse_cpuinfo(ZEN.format("avx512_vnni", "avx512_vnni"))
    assert cpu.name == "AMD Ryzen 9 7950X 16-Core Processor"
    assert {"sse3", "sse4.2", "lzcnt", "bmi", "avx512vnni", "avx512f"} <= set(cpu.features)
    assert "fpu" not in cpu.features and "avx512_vnni" not in cpu.features


def test_only_what_every_core_has_counts() -> None:
    assert "avx512vnni" not in parse_cpuinfo(ZEN.format("avx512_vnni", "")).features
    cpu = parse_cpuinfo(BIG_LITTLE)
    assert cpu.features == ("dotprod", "neon") and "0xd05" in cpu.identity and "0xd41" in cpu.identity


def test_another_processor_or_a_masked_extension_is_another_identity() -> None:
    texts = [
        ZEN.format("x", "x"),
        ZEN.format("avx_vnni", "avx_vnni"),
        ZEN.format("x", "x").replace("97", "33"),
    ]
    assert len({parse_cpuinfo(text).identity for text in texts}) == 3
    faster = ZEN.format("x", "x") + "cpu MHz\t: 4500.0\n"
    assert parse_cpuinfo(faster).identity == parse_cpuinfo(texts[0]).identity


def test_linux_on_arm(tmp_path: Path) -> None:
    cpu = parse_cpuinfo(PI)
    assert cpu.name == "Raspberry Pi 5 Model B Rev 1.0"
    assert cpu.features == ("crc", "dotprod", "fullfp16", "lse", "neon")
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "proc" / "cpuinfo").write_text(BIG_LITTLE)
    (tmp_path / "proc" / "device-tree" / "model").write_bytes(b"Radxa ROCK 5B\0")
    assert read_cpu("Linux", root=tmp_path).name == "Radxa ROCK 5B"


def test_macs_of_both_kinds() -> None:
    intel = read_cpu("Darwin", run=lambda command: INTEL_MAC)
    assert intel == parse_sysctl(INTEL_MAC)
    assert intel.name.startswith("Intel(R) Core(TM) i7")
    assert {"avx", "avx2", "bmi", "fma", "lzcnt", "rdrnd", "sse4.1"} <= set(intel.features)
    apple = parse_sysctl(APPLE)
    assert apple.name == "Apple M2 Pro"
    assert apple.features == ("bf16", "dotprod", "fullfp16", "i8mm", "neon")
    assert apple.identity != intel.identity


def test_windows() -> None:
    cpu = read_cpu("Windows", run=lambda command: WINDOWS)
    assert cpu == parse_registry(WINDOWS)
    assert cpu.name == "AMD Ryzen 7 5800X 8-Core Processor" and cpu.features == ()
    assert "Family 25 Model 33" in cpu.identity


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows", "Plan9"])
def test_a_system_that_says_nothing_is_no_error(system: str, tmp_path: Path) -> None:
    cpu = read_cpu(system, run=lambda command: "", root=tmp_path)
    assert cpu.name == "" and cpu.features == ()


def test_a_program_that_is_not_there_says_nothing() -> None:
    if platform.system() != "Windows":
        assert read_cpu("Windows").identity == ""


@pytest.mark.parametrize(
    ("machine", "features", "name"),
    [
        ("x86_64", ("sse3",), "x86-64"),
        ("AMD64", ("cx16", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"), "x86-64-v2"),
        ("x86_64", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"), "x86-64"),
        ("arm64", ("neon",), "generic"),
    ],
)
def test_the_processor_that_extensions_guarantee(machine: str, features: tuple[str, ...], name: str) -> None:
    assert baseline_cpu(machine, features) == name


def test_the_whole_ladder() -> None:
    flags = "avx512bw avx512cd avx512dq avx512vl"
    assert baseline_cpu("x86_64", parse_cpuinfo(ZEN.format(flags, flags)).features) == "x86-64-v4"
    assert baseline_cpu("x86_64", parse_cpuinfo(ZEN.format("", "")).features) == "x86-64-v3"
