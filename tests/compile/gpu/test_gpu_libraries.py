"""Libraries for GPUs, compiled on a machine without one: what they hold, and what they compute when emulated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.architectures import architecture, architectures
from edge_router.compile.gpu import nvrtc
from edge_router.compile.gpu.machine_code import device_code, machine_code
from edge_router.compile.library import check_device_code, compile_library
from edge_router.compile.targets import TargetSpec, gpu_target, host_target, tvm_target
from edge_router.device import Host, host
from edge_router.engines.tvm.engine import TvmRunner
from edge_router.errors import ArtifactCorrupt, UnsupportedTarget

OTHERS = (
    *("mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "ministral3", "smollm3", "granite"),
    *("olmo2", "olmo3", "exaone4"),
)
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90")
NAMES = ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
KERNELS = {"attention_fresh", "attention_cached", "attention_decode", "merge_attention", "rms_norm", "linear"}


@pytest.mark.skipif(
    not nvrtc.available(), reason="CUDA's compiler (pip install 'edge-router[cuda]') is missing"
)
@pytest.mark.parametrize("name", NAMES)
def test_a_cuda_library_holds_machine_code_for_the_architecture(
    models: Any, cubins: Any, name: str, tmp_path: Path
) -> None:
    number = list(models.MODELS).index(name)
    asked = ARCHITECTURES[number % len(ARCHITECTURES)]
    spec, library = gpu_target("cuda", host(), asked), tmp_path / "model.tar"
    said = compile_library(models.chat(models.directory(name)), "q4f16_1", spec, library)
    assert {"prefill", "decode", "embed"} <= set(said["memory_usage"])
    found = {code.kind: code for code in device_code(library)}
    assert found["cubin"].architecture == asked
    assert found["cubin"].code.startswith(b"\x7fELF")
    for held in (found["cubin"].kernels, found["cuda"].kernels):
        assert {kernel.removesuffix("_kernel") for kernel in held} >= KERNELS
    frames = cubins.frames(found["cubin"].code)
    assert len(frames) > 20
    assert not any(frames.values()), "a thread keeps in memory what should be in registers"
    check_device_code(library, spec)
    other = replace(spec, gpu="sm_75")
    with pytest.raises(ArtifactCorrupt, match="no cubin code for sm_75"):
        check_device_code(library, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_metal_library_holds_its_kernels(models: Any, name: str, tmp_path: Path) -> None:
    spec, library = gpu_target("metal", replace(host(), system="Linux")), tmp_path / "model.tar"
    compile_library(models.chat(models.directory(name)), "q4f16_1", spec, library)
    (found,) = device_code(library)
    assert found.kind == "metal"
    assert {kernel.removesuffix("_kernel") for kernel in found.kernels} >= KERNELS
    content = library.read_bytes()
    assert content.count(b"\xcf\xfa\xed\xfe")  # the host's part is for macOS: Mach-O, 64 bits
    check_device_code(library, spec)


@pytest.mark.parametrize("asked", ARCHITECTURES)
def test_machine_code_is_of_the_architecture_that_was_asked_for(asked: str) -> None:
    from edge_router.compile.gpu.machine_code import architecture as architecture_of
    from edge_router.compile.gpu.machine_code import with_machine_code

    if not nvrtc.available():
        pytest.skip("CUDA's compiler (pip install 'edge-router[cuda]') is missing")
    source = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
    code = nvrtc.to_cubin(source, asked)
    assert architecture_of(code) == asked
    together = with_machine_code(source, {"sm_70": b"another", asked: code})
    assert machine_code(together, asked) == code
    assert machine_code(together, "sm_70") == b"another"
    assert machine_code(together, "sm_75") is None


def test_every_architecture_is_among_them(models: Any) -> None:
    # Those that no GPU of TVM's runs yet.
    left_out = {name for name in architectures() if architecture(name).mixers or architecture(name).experts}
    left_out.add("gemma3")  # a name of gemma3_text
    assert set(models.MODELS) == {"llama", *OTHERS} == set(architectures()) - left_out


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Host("Linux", "x86_64", "", "znver4", (), 1, 1, 1, 1)
    spec = gpu_target("cuda", here, "sm_86")
    assert spec == TargetSpec("cuda", "x86_64-unknown-linux-gnu", "znver4", (), "sm_86")
    other = gpu_target("cuda", here, "sm_90").fingerprint_parts()
    assert spec.fingerprint_parts() != other
    for changed in (replace(spec, graphs=True), replace(spec, also=("sm_89",))):
        assert changed.fingerprint_parts() != spec.fingerprint_parts()
    monkeypatch.setattr("edge_router.compile.targets.machine_code_compiler", lambda: "another")
    assert gpu_target("cuda", here, "sm_90").fingerprint_parts() != other
    assert gpu_target("metal", here).triple == "arm64-apple-darwin"
    with pytest.raises(UnsupportedTarget, match="named like sm_89"):
        gpu_target("cuda", here, "ada")
    monkeypatch.setattr("edge_router.device.gpus", lambda: ())
    with pytest.raises(UnsupportedTarget, match="no NVIDIA GPU is in sight"):
        gpu_target("cuda", here)
    for kind in ("vulkan", "rocm"):
        with pytest.raises(UnsupportedTarget, match=rf"{kind}.*built without.*edge-router\[webgpu\]"):
            tvm_target(gpu_target(kind, host()))


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_computes_on_an_emulated_gpu_what_it_does_on_the_processor(
    gpu: Any, models: Any, name: str, tmp_path: Path
) -> None:
    """The whole of it: TVM's runtime for CUDA, its KV cache, our kernels in chunks, decoding and forking."""
    model_dir = models.directory(name)
    libraries = {}
    for spec in (host_target(host()), gpu_target("cuda", host(), "sm_89")):
        libraries[spec.kind] = tmp_path / f"{spec.kind}.tar"
        compile_library(models.chat(model_dir), "q4f16_1", spec, libraries[spec.kind])
    runner = TvmRunner(model_dir, libraries["llvm"], max_sequences=2)
    calls = [*models.conversation(), *(models.questions() if runner.together > 1 else ())]
    wanted = models.answers(runner, calls)
    runner.close()
    found = gpu.ask("logits", model_dir=model_dir, library=libraries["cuda"], calls=calls)
    assert models.largest_error(found, wanted) < models.CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_cuda_graphs_start_fewer_launches_and_compute_the_same(
    gpu: Any, models: Any, tables: Any, name: str, tmp_path: Path
) -> None:
    """As many as models/README.md counts on, which is by the layer."""
    model_dir, found = models.directory(name), {}
    spec = gpu_target("cuda", host(), "sm_89")
    for graphs in (False, True):
        library = tmp_path / f"{graphs}.tar"
        said = compile_library(models.chat(model_dir), "q4f16_1", replace(spec, graphs=graphs), library)
        assert said["memory_usage"]["decode"] > 0  # type: ignore[index]
        counts, logits = gpu.ask("launches", model_dir=model_dir, library=library)
        expected = tables.launches(name, 2, graphs=graphs)
        assert counts[-2:] == 2 * [[expected.single, expected.graphs, counts[-1][2]]]
        found[graphs] = counts[-1], logits
    assert np.array_equal(found[False][1], found[True][1])
    alone, captured = found[False][0], found[True][0]
    assert captured[0] + captured[2] == alone[0], "a kernel is in a graph or it is not"


def test_tvms_runtime_for_cuda_is_out_of_sight_while_building(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would compile what it is given at once; where it is loaded, it is there again afterwards."""
    from tvm_ffi import get_global_func, register_global_func
    from tvm_ffi.registry import remove_global_func

    from edge_router.compile.gpu.build import building

    name, after = "ffi.Module.create.cuda", "tvm_callback_cuda_postproc"
    register_global_func(name, lambda *given: "theirs", override=True)
    try:
        with building(gpu_target("cuda", host(), "sm_90")):
            assert get_global_func(name, allow_missing=True) is None
            monkeypatch.setattr(nvrtc, "available", lambda: False)
            assert get_global_func(after)("source", None) == "source"
        assert get_global_func(name)() == "theirs"
        assert get_global_func(after, allow_missing=True) is None
    finally:
        remove_global_func(name)
