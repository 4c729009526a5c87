"""A random Llama of two layers, compiled, against the numpy model on the same dequantized weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_router.compile.library import FUNCTIONS, check_library, compile_library
from edge_router.compile.link import load_library
from edge_router.compile.readers import open_weights
from edge_router.compile.targets import host_target
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.quantize import supported
from edge_router.compile.weights.reference import Reference
from edge_router.device import host
from edge_router.engines.tvm.runtime import load_runtime

CHUNK = 32
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
PROMPT = [int(token) for token in np.random.default_rng(5).integers(3, 288, 3 * CHUNK + 7)]


class Compiled:
    """A library and its weights, called as an engine calls them, and the reference beside it."""

    def __init__(self, model: Path, library: Path) -> None:
        self.ffi: Any = load_runtime()
        self.library = library
        self.machine = load_library(library)
        self.reference = Reference(open_weights(model))
        function = self.ffi.get_global_func
        function("vm.builtin.tensor_cache.load")(str(model), 1, 0)
        names = [entry["name"] for entry in json.loads(self.machine["_metadata"]())["params"]]
        self.parameters = function("vm.builtin.param_array_from_cache_by_name")(names)
        function("vm.builtin.tensor_cache.clear")()
        sizes = (4, 1024, CHUNK, 16, 0)
        self.cache = self.machine["create_tir_paged_kv_cache"](*(self.ffi.Shape((n,)) for n in sizes))

    def state(self, name: str, *arguments: Any) -> None:
        self.ffi.get_global_func(f"vm.builtin.kv_state_{name}")(self.cache, *arguments)

    def restart(self, sequences: int) -> None:
        self.state("clear")
        for sequence in range(sequences):
            self.state("add_sequence", sequence)

    def tensor(self, values: np.ndarray) -> Any:
        raw = np.zeros(values.nbytes + 64, np.uint8)  # TVM wants multiples of 64 as addresses
        start = -raw.ctypes.data % 64
        aligned = raw[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
        aligned[...] = values
        return self.ffi.from_dlpack(aligned)

    def run(
        self, name: str, parts: dict[int, list[int]], *extra: Any, shape: tuple[int, int] | None = None
    ) -> np.ndarray:
        """`parts` are each sequence's new tokens; `shape` that of the embeddings, without their width."""
        tokens = [token for part in parts.values() for token in part]
        embedded = self.machine["embed"](self.tensor(np.array(tokens, "i4")), self.parameters)
        whole = (*(shape or (1, len(tokens))), embedded.shape[-1])
        embedded = self.ffi.get_global_func("vm.builtin.reshape")(embedded, self.ffi.Shape(whole))
        lengths = [len(part) for part in parts.values()]
        self.state("begin_forward", self.ffi.Shape(list(parts)), self.ffi.Shape(lengths))
        logits = self.machine[name](embedded, *extra, self.cache, self.parameters)[0]
        self.state("end_forward")
        return np.from_dlpack(logits).copy()

    def wanted(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits after each token."""
        self.reference.reset()
        return self.reference.logits(self.reference.hidden(tokens))


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Queries, keys and values are float16, which costs up to 0.017 of these logits' spread."""
    return bool(np.abs(found.reshape(wanted.shape) - wanted).max() < 0.03 * wanted.std())


@pytest.fixture(scope="module", params=["tied", "untied, with Llama 3's scaling"])
def compiled(
    request: pytest.FixtureRequest, tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Compiled:
    folder = tmp_path_factory.mktemp("compiled")
    tied = request.param == "tied"
    made = tiny.make(folder / "made", seed=3, tied=tied)
    model = folder / "model"
    model.mkdir()
    write_model(
        open_weights(made.folder),
        model,
        config={} if tied else {"rope_scaling": LLAMA3},
        form=supported("q4f16_1"),
        quantizer="signed",
        activations=Activations(),
        windows=PackageWindows(256, CHUNK, 4),
    )
    config = json.loads((model / "mlc-chat-config.json").read_text())
    assert bool(config["model_config"]["rope_scaling"]) is not tied
    compile_library(config, "q4f16_1", host_target(host()), folder / "model.tar")
    return Compiled(model, folder / "model.tar")


@pytest.mark.parametrize("count", [1, 5, CHUNK])
def test_prefill(compiled: Compiled, count: int) -> None:
    compiled.restart(1)
    assert close(compiled.run("prefill", {0: PROMPT[:count]}), compiled.wanted(PROMPT[:count])[-1])


def test_prefill_in_chunks(compiled: Compiled) -> None:
    compiled.restart(1)
    wanted = compiled.wanted(PROMPT)
    for start in range(0, len(PROMPT), CHUNK):
        found = compiled.run("prefill", {0: PROMPT[start : start + CHUNK]})
        assert close(found, wanted[: start + CHUNK][-1])


def test_decode(compiled: Compiled) -> None:
    compiled.restart(1)
    compiled.run("prefill", {0: PROMPT[:20]})
    wanted = compiled.wanted(PROMPT)
    for place in range(20, 60):
        assert close(compiled.run("decode", {0: [PROMPT[place]]}), wanted[place])


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_decode_several_at_once(compiled: Compiled, count: int) -> None:
    compiled.restart(count)
    prompts = [PROMPT[7 * i : 7 * i + 9 + i] for i in range(count)]
    for i, prompt in enumerate(prompts):
        compiled.run("prefill", {i: prompt})
    found = compiled.run("batch_decode", {i: [40 + i] for i in range(count)}, shape=(count, 1))
    for i, prompt in enumerate(prompts):
        assert close(found[i], compiled.wanted([*prompt, 40 + i])[-1])


def test_a_fork_sees_what_it_shares_and_no_more(compiled: Compiled) -> None:
    compiled.restart(1)
    compiled.run("prefill", {0: PROMPT[:24]})
    compiled.state("fork_sequence", 0, 1, 18)
    found = compiled.run("prefill", {1: PROMPT[50:60]})
    assert close(found, compiled.wanted([*PROMPT[:18], *PROMPT[50:60]])[-1])


def test_popped_tokens_are_forgotten(compiled: Compiled) -> None:
    compiled.restart(1)
    compiled.run("prefill", {0: PROMPT[:24]})
    compiled.state("popn", 0, 7)
    found = compiled.run("prefill", {0: PROMPT[60:63]})
    assert close(found, compiled.wanted([*PROMPT[:17], *PROMPT[60:63]])[-1])


def test_batch_prefill_gives_the_logits_that_are_asked_for(compiled: Compiled) -> None:
    compiled.restart(2)
    prompts = [PROMPT[:5], PROMPT[40:47]]
    found = compiled.run("batch_prefill", dict(enumerate(prompts)), compiled.tensor(np.array([4, 11], "i4")))
    assert found.shape[:2] == (1, 2)
    for row, prompt in zip(found[0], prompts, strict=True):
        assert close(row, compiled.wanted(prompt)[-1])


def test_batch_verify_gives_all_logits(compiled: Compiled) -> None:
    compiled.restart(1)
    compiled.run("prefill", {0: PROMPT[:10]})
    found = compiled.run("batch_verify", {0: PROMPT[10:14]})
    assert close(found, compiled.wanted(PROMPT[:14])[-4:])


def test_what_mlc_looks_up_can_be_called(compiled: Compiled) -> None:
    machine = compiled.machine
    assert tuple(machine["alloc_embedding_tensor"]().shape) == (CHUNK, 64)
    logits = np.random.default_rng(0).normal(0, 3, (2, 1, 288)).astype("f4")
    softmax = machine["softmax_with_temperature"]
    found = softmax(compiled.tensor(logits), compiled.tensor(np.float32([1, 0])))
    probabilities = np.from_dlpack(found)[:, 0]
    assert np.allclose(probabilities.sum(-1), 1, atol=1e-5)
    assert probabilities[1].max() == 1
    shared = compiled.tensor(logits[:, 0])
    bias = machine.get_function("apply_logit_bias_inplace", True)
    bias(shared, *(compiled.tensor(np.array([n], "i4")) for n in (1, 7)), compiled.tensor(np.float32([9])))
    assert np.from_dlpack(shared)[1, 7] == logits[1, 0, 7] + np.float32(9)


def test_the_library_says_what_it_is(compiled: Compiled) -> None:
    metadata: Any = check_library(compiled.library)
    assert metadata["model_type"] == "llama"
    assert metadata["quantization"] == "q4f16_1"
    assert (metadata["context_window_size"], metadata["prefill_chunk_size"]) == (256, CHUNK)
    assert metadata["kv_cache"] == {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    parameters = {entry["name"]: entry for entry in metadata["params"]}
    assert parameters["model.layers.1.self_attn.qkv_proj.q_weight"]["shape"] == [128, 8]
    assert parameters["model.layers.1.mlp.gate_up_proj.q_scale"]["dtype"] == "float16"
    assert metadata["memory_usage"]["prefill"] > 0
    assert set(metadata["memory_usage"]) >= {"prefill", "decode", "batch_prefill", "batch_decode"}


def test_every_function_is_there(compiled: Compiled) -> None:
    assert all(compiled.machine.implements_function(name, True) for name in FUNCTIONS)


@pytest.fixture
def silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    assert capfd.readouterr() == ("", "")


def test_running_is_silent(compiled: Compiled, silent: None) -> None:
    compiled.restart(1)
    compiled.run("prefill", {0: PROMPT[:3]})
