"""The engine webgpu on a real GPU: what it says, what it measures of itself, and what it is taken for.

`pytest -m gpu tests/gpu/test_gpu_webgpu.py` on a machine whose GPU has a driver for Vulkan, Metal or D3D12;
`edge-router bench weak --device vulkan` and the same with `--tune` then print the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.bench.tune import sweep
from edge_router.chat.message import Message
from edge_router.engines.webgpu.adapters import Adapter, adapters, choose
from edge_router.engines.webgpu.profile import profile
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.engines.webgpu.weights import DirectoryWeights
from edge_router.errors import EdgeRouterError
from edge_router.prompts.directory import ModelDirectory
from edge_router.types import SilentProgress
from edge_router.webgpu_program import Program, Windows, read_program

pytestmark = pytest.mark.gpu

TIE = 0.05  # of a logit; nearer than that, either of two tokens is right
WINDOWS = Windows(context=1024, chunk=256, sequences=2)
PROMPTS = ("What is the capital of France?", "How do I boil an egg?", "Write a poem about the sea.")
MOST_PYTHON_MS = 0.35  # of a token, that the GPU waits for


@pytest.fixture(scope="module")
def gpu() -> Adapter:
    try:
        found = [adapter for adapter in adapters() if adapter.kind != "software"]
    except EdgeRouterError as error:
        pytest.skip(str(error))
    if not found:
        pytest.skip("no adapter that is not in software")
    return found[0]


@pytest.fixture(scope="module")
def model(built_home: Path) -> Any:
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure
    from edge_router.system.paths import Paths

    card = find_model("SmolLM2-135M-Instruct")
    return ensure(card, BuildSettings(target="webgpu"), paths=Paths.under(built_home))


@pytest.fixture(scope="module")
def program(model: Any) -> Program:
    return read_program(model.library)


@pytest.fixture(scope="module")
def runner(gpu: Adapter, model: Any, program: Program) -> Iterator[WebGpuRunner]:
    made = WebGpuRunner(gpu, program, WINDOWS, DirectoryWeights(model.model_dir).read)
    yield made
    made.close()


def test_auto_takes_it(gpu: Adapter) -> None:
    assert choose("auto", adapters()) == gpu


def test_its_shaders_compute_what_they_should(runner: WebGpuRunner) -> None:
    runner.reset()
    assert [str(mismatch) for mismatch in runner.mismatches()] == []


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_greedy_decoding_is_the_references(
    gpu: Adapter, runner: WebGpuRunner, model: Any, reference_llama: Callable[..., Any], half: bool
) -> None:
    if half and not gpu.has_float16:
        pytest.skip(f"{gpu} has no float16 arithmetic")
    directory, reference = ModelDirectory.read(model.model_dir, "m"), reference_llama(model.model_dir)
    assert directory.template is not None
    runner.reset()
    runner.half = half
    for number, text in enumerate(PROMPTS):
        prompt = directory.tokenizer.encode(directory.template.render([Message("user", text)]))
        runner.add_sequence(number)
        answer = [int(runner.prefill(number, prompt).argmax())]
        while len(answer) < 64:  # some at once, as the GPU goes on by itself
            (best,) = runner.decode_likeliest([number], answer[-1:], [None])
            answer.append(int(best.tokens[0]))
        assert reference.shortfalls(prompt, answer).max() < (10 * TIE if half else TIE), text
    runner.half = False


def test_a_long_past(runner: WebGpuRunner, model: Any, reference_llama: Callable[..., Any]) -> None:
    tokens = np.random.default_rng(0).integers(0, runner.vocab_size, 700).tolist()
    wanted = reference_llama(model.model_dir).logits(tokens, 690)
    runner.reset()
    runner.add_sequence(0)
    for start in range(0, 690, 230):
        runner.prefill(0, tokens[start : start + 230])
    found = [runner.decode([0], [token])[0].copy() for token in tokens[690:]]
    assert np.abs(np.array(found) - wanted[:, : runner.vocab_size]).max() < 0.02 * wanted.std()


def test_what_it_measures_of_itself(gpu: Adapter, model: Any, program: Program, runner: WebGpuRunner) -> None:
    found = profile(gpu, program, Windows(512, 64), DirectoryWeights(model.model_dir).read)
    assert found.python_ms <= MOST_PYTHON_MS, found
    assert found.gpu_ms is None or found.gpu_ms > 0
    runner.reset()
    times = runner.half_speed()
    assert (times is not None) is gpu.has_float16


def test_every_layout_runs(gpu: Adapter, program: Program) -> None:
    trials = sweep(gpu, program, SilentProgress())
    for name in {trial.shader for trial in trials}:
        in_use = [trial.seconds for trial in trials if trial.shader == name and trial.used]
        assert in_use and in_use[0] > 0
