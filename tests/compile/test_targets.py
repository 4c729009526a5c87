"""What a library is compiled for: this machine's processor, as it is and not as its name promises."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
from table import each

from edge_router.compile.kernels.isa import Dot, Isa
from edge_router.compile.targets import TargetSpec, check_layers, host_target, tvm_target
from edge_router.device import Host, host
from edge_router.errors import UnsupportedTarget

AVX2 = ("avx", "avx2", "fma", "f16c")
AVX512 = (*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl")


def machine(system: str, name: str, cpu: str = "", features: tuple[str, ...] = ()) -> Host:
    return Host(system, name, "", cpu, features, 4, 8, 1 << 34, 1 << 33)


@pytest.mark.parametrize(
    ("system", "name", "triple"),
    [
        ("Linux", "x86_64", "x86_64-unknown-linux-gnu"),
        ("Linux", "aarch64", "aarch64-unknown-linux-gnu"),
        ("Darwin", "arm64", "aarch64-apple-darwin"),
        ("Windows", "AMD64", "x86_64-pc-windows-msvc"),
    ],
)
def test_triples(system: str, name: str, triple: str) -> None:
    assert host_target(machine(system, name)).triple == triple


def test_unknown_machines_are_refused() -> None:
    for unknown in (machine("Linux", "riscv64"), machine("Plan9", "x86_64")):
        with pytest.raises(UnsupportedTarget):
            host_target(unknown)


@pytest.mark.parametrize(
    ("features", "cpu", "isa"),
    [
        ((*AVX512, "avx512vnni"), "x86-64-v4", Isa(16, 32, Dot.VNNI)),
        (AVX512, "x86-64-v4", Isa(16, 32, Dot.PAIRS)),
        (("avx512f", *AVX2), "x86-64-v3", Isa(8, 16, Dot.PAIRS)),
        ((*AVX2, "avxvnni"), "x86-64-v3", Isa(8, 16, Dot.VNNI)),
        (AVX2, "x86-64-v3", Isa(8, 16, Dot.PAIRS)),
        (("sse2",), "x86-64", Isa(4, 16, Dot.PAIRS, half=False)),
    ],
)
def test_an_unknown_processor_is_taken_by_its_features(features: tuple[str, ...], cpu: str, isa: Isa) -> None:
    spec = host_target(machine("Linux", "x86_64", features=features))
    assert spec.cpu == cpu
    assert spec.isa() == isa


def test_activations_become_bytes_where_asked_and_where_bytes_are_multiplied() -> None:
    spec = host_target(machine("Linux", "x86_64", features=AVX2))
    asked = replace(spec, bytes=True)
    assert asked.isa() == Isa(8, 16, Dot.PAIRS, bytes=True)
    assert asked.fingerprint_parts() != spec.fingerprint_parts()
    for plain in (
        machine("Linux", "x86_64", features=("sse2",)),
        machine("Darwin", "arm64", features=("neon",)),
    ):
        spec = host_target(plain)
        asked = replace(spec, bytes=True)
        assert (asked.isa(), asked.fingerprint_parts()) == (spec.isa(), spec.fingerprint_parts())


def test_linux_spelling_of_features_is_understood() -> None:
    assert Isa.of("x86_64", ["avx512_vnni", *AVX512]).dot is Dot.VNNI


def test_arm() -> None:
    spec = host_target(machine("Darwin", "arm64", features=("neon",)))
    assert spec.cpu == "generic"
    assert spec.isa() == Isa(4, 32, Dot.FLOAT)


def test_vectors_narrow_to_what_divides() -> None:
    assert [Isa(16, 32, Dot.VNNI).narrowed(width).lanes for width in (64, 80, 40, 12)] == [16, 16, 8, 4]


def test_every_part_changes_the_fingerprint() -> None:
    spec = TargetSpec("llvm", "x86_64-unknown-linux-gnu", "znver4", ("avx2", "fma"))
    others = [
        replace(spec, kind="cuda"),
        replace(spec, triple="aarch64-unknown-linux-gnu"),
        replace(spec, cpu="znver5"),
        replace(spec, features=("avx2",)),
    ]
    assert all(other.fingerprint_parts() != spec.fingerprint_parts() for other in others)
    same = replace(spec, features=("fma", "avx2"))
    assert same.fingerprint_parts() == spec.fingerprint_parts()


def test_this_machine_can_be_compiled_for() -> None:
    target = tvm_target(host_target(host()))
    assert target.kind.name == "llvm"


def test_hidden_extensions_are_switched_off() -> None:
    """A hypervisor that hides AVX-512 from a processor whose name promises it."""
    spec = TargetSpec("llvm", "x86_64-unknown-linux-gnu", "znver4", AVX2)
    from tvm.target import codegen

    features = {str(name) for name in codegen.llvm_get_cpu_features(tvm_target(spec))}
    assert "avx2" in features
    assert not {name for name in features if name.startswith("avx512")}


def test_a_name_that_llvm_does_not_know_falls_back() -> None:
    spec = TargetSpec("llvm", "x86_64-unknown-linux-gnu", "znver99", (*AVX512, "avx512vnni"))
    assert str(tvm_target(spec).attrs["mcpu"]) == "x86-64-v4"


def test_other_kinds_are_refused() -> None:
    with pytest.raises(UnsupportedTarget, match=r"abacus.*the targets are llvm, cuda, metal"):
        tvm_target(TargetSpec("abacus", "x86_64-unknown-linux-gnu", "znver4"))


def test_targets_need_no_tvm() -> None:
    script = (
        "import sys, edge_router.compile.targets, edge_router.compile.link, edge_router.compile.library;"
        "assert not {'tvm', 'tvm_ffi', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@each(
    "kind, model_type, said",
    [
        ("cuda", "qwen3_moe", "layers of qwen3_moe have experts, which only the processor's and WebGPU's"),
        ("metal", "qwen3_moe", "have experts"),
        ("llvm", "qwen3_moe", None),
        ("webgpu", "qwen3_moe", None),
        ("webgpu", "lfm2", "layers of lfm2 keep states, which only the processor's kernels compute"),
        ("cuda", "lfm2", "keep states"),
        ("cuda", "llama", None),
    ],
)
def test_what_is_not_computed_there_is_refused_with_what_can(
    kind: str, model_type: str, said: str | None
) -> None:
    with nullcontext() if said is None else pytest.raises(UnsupportedTarget, match=said):
        check_layers(kind, model_type)
