"""Libraries for GPUs, compiled on a machine without one: what they hold, and what they compute when emulated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.compile.gpu import nvrtc
from edge_router.compile.gpu.machine_code import device_code, machine_code
from edge_router.compile.library import check_device_code, compile_library
from edge_router.compile.package import Windows
from edge_router.compile.random_model import write_random_model
from edge_router.compile.targets import TargetSpec, gpu_target, host_target, tvm_target
from edge_router.device import Host, host
from edge_router.engines.tvm import TvmRunner
from edge_router.errors import ArtifactCorrupt, UnsupportedTarget

# Largest difference of a logit over the standard deviation of all. The processor rounds activations to 16-bit
# integers, the GPU's tensor cores to float16.
CLOSE = 0.02
COMMON: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": 288,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
}
GEMMA = {"query_pre_attn_scalar": 48, "sliding_window": 20}
CAPS = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 24},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma2": {**GEMMA, **CAPS, "hidden_activation": "gelu_pytorch_tanh"},
    "gemma3_text": {**GEMMA, "layer_types": ["sliding_attention", "full_attention"], "rope_local_base_freq": 10000.0},
    "phi3": {"num_attention_heads": 2, "num_key_value_heads": 1},
}  # fmt: skip
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90")
QUICK = "llama"
NAMES = [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
KERNELS = {"attention_fresh", "attention_cached", "attention_decode", "merge_attention", "rms_norm", "linear"}


@pytest.fixture(scope="session")
def models(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random models by architecture and format, as MLC directories."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "tokenizer.json").write_text(json.dumps(tiny.tokenizer()), encoding="utf-8")
    described = {"eos_token": "<|im_end|>", "chat_template": tiny.TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")

    def make(name: str) -> Path:
        target = folder / name
        if not target.is_dir():
            target.mkdir()
            config = {"model_type": name, **COMMON, **MODELS[name]}
            write_random_model(target, config, folder, Windows(128, 32, 2))
        return target

    return make


def chat(model_dir: Path) -> dict[str, Any]:
    return json.loads((model_dir / "mlc-chat-config.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(
    not nvrtc.available(), reason="CUDA's compiler (pip install 'edge-router[cuda]') is missing"
)
@pytest.mark.parametrize("name", NAMES)
def test_a_cuda_library_holds_machine_code_for_the_architecture(
    models: Any, name: str, tmp_path: Path
) -> None:
    number = list(MODELS).index(name)
    asked = ARCHITECTURES[number % len(ARCHITECTURES)]
    spec, library = gpu_target("cuda", host(), asked), tmp_path / "model.tar"
    said = compile_library(chat(models(name)), "q4f16_1", spec, library)
    assert {"prefill", "decode", "embed"} <= set(said["memory_usage"])
    found = {code.kind: code for code in device_code(library)}
    assert found["cubin"].architecture == asked
    assert found["cubin"].code.startswith(b"\x7fELF")
    for held in (found["cubin"].kernels, found["cuda"].kernels):
        assert {kernel.removesuffix("_kernel") for kernel in held} >= KERNELS
    check_device_code(library, spec)
    other = replace(spec, gpu="sm_75")
    with pytest.raises(ArtifactCorrupt, match="no cubin code for sm_75"):
        check_device_code(library, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_metal_library_holds_its_kernels(models: Any, name: str, tmp_path: Path) -> None:
    spec, library = gpu_target("metal", replace(host(), system="Linux")), tmp_path / "model.tar"
    compile_library(chat(models(name)), "q4f16_1", spec, library)
    (found,) = device_code(library)
    assert found.kind == "metal"
    assert {kernel.removesuffix("_kernel") for kernel in found.kernels} >= KERNELS
    content = library.read_bytes()
    assert content.count(b"\xcf\xfa\xed\xfe")  # the host's part is for macOS: Mach-O, 64 bits
    check_device_code(library, spec)


@pytest.mark.parametrize("asked", ARCHITECTURES)
def test_machine_code_is_of_the_architecture_that_was_asked_for(asked: str) -> None:
    from edge_router.compile.gpu.machine_code import architecture, with_machine_code

    if not nvrtc.available():
        pytest.skip("CUDA's compiler (pip install 'edge-router[cuda]') is missing")
    source = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
    code = nvrtc.to_cubin(source, asked)
    assert architecture(code) == asked
    together = with_machine_code(source, asked, code)
    assert machine_code(together, asked) == code
    assert machine_code(together, "sm_75") is None


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Host("Linux", "x86_64", "", "znver4", (), 1, 1, 1, 1)
    spec = gpu_target("cuda", here, "sm_86")
    assert spec == TargetSpec("cuda", "x86_64-unknown-linux-gnu", "znver4", (), "sm_86")
    other = gpu_target("cuda", here, "sm_90").fingerprint_parts()
    assert spec.fingerprint_parts() != other
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
    model_dir = models(name)
    libraries = {}
    for spec in (host_target(host()), gpu_target("cuda", host(), "sm_89")):
        libraries[spec.kind] = tmp_path / f"{spec.kind}.tar"
        compile_library(chat(model_dir), "q4f16_1", spec, libraries[spec.kind])
    tokens = np.random.default_rng(1).integers(0, 250, 100).tolist()
    calls = [
        ("add_sequence", (0,)),
        ("prefill", (0, tokens[:32])),
        ("prefill", (0, tokens[32:64])),
        ("prefill", (0, tokens[64:70])),
        ("decode", ([0], tokens[70:71])),
        ("fork_sequence", (0, 1, 57)),
        ("prefill", (1, tokens[:12])),
        ("decode", ([0, 1], [tokens[71], tokens[12]])),
        ("pop_tokens", (0, 20)),
        ("decode", ([0], tokens[72:73])),
    ]
    runner = TvmRunner(model_dir, libraries["llvm"], max_sequences=2)
    wanted = [getattr(runner, method)(*arguments) for method, arguments in calls]
    wanted = [None if logits is None else np.array(logits) for logits in wanted]
    runner.close()
    found = gpu.ask("logits", model_dir=model_dir, library=libraries["cuda"], calls=calls)
    for (method, _), mine, theirs in zip(calls, found, wanted, strict=True):
        if theirs is not None:
            assert np.abs(mine - theirs).max() < CLOSE * theirs.std(), method
