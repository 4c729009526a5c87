"""Engine tvm on a real GPU of NVIDIA's against the processor: every architecture, the demo model, chunks.

`GPU_REQUIRED=1 python -m pytest -m gpu`; without that variable a machine without a GPU skips these.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_router.compile.library import compile_library
from edge_router.compile.targets import gpu_target, host_target
from edge_router.device import host
from edge_router.engines.tvm.device import open_device
from edge_router.engines.tvm.engine import TvmRunner
from edge_router.errors import EdgeRouterError

pytestmark = pytest.mark.gpu
TESTS = Path(__file__).parents[1]
ARCHITECTURES = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "ministral3", "smollm3"),
    *("granite", "olmo2", "olmo3", "exaone4"),
)
PROMPTS = ("What is the capital of France?", "Write two sentences about the sea.", "Count from one to ten.")


def load(path: str) -> ModuleType:
    name = f"{Path(path).stem}_on_cuda"
    spec = importlib.util.spec_from_file_location(name, TESTS / path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def absent(reason: str) -> None:
    (pytest.fail if os.environ.get("GPU_REQUIRED") else pytest.skip)(reason)


@pytest.fixture(scope="session", autouse=True)
def cuda() -> None:
    try:
        open_device("cuda")
    except EdgeRouterError as error:
        absent(str(error))


@pytest.fixture(scope="session")
def models() -> ModuleType:
    return load("compile/gpu/tiny_models.py")


@pytest.fixture
def runner() -> Iterator[Callable[..., TvmRunner]]:
    made: list[TvmRunner] = []

    def make(*arguments: Any, **options: Any) -> TvmRunner:
        made.append(TvmRunner(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_same_conversation(
    runner: Callable[..., TvmRunner], models: Any, name: str, tmp_path: Path
) -> None:
    model_dir = models.make(tmp_path, name, load("compile/tiny_llama.py"))
    found = {}
    for spec, device in ((host_target(host()), "cpu"), (gpu_target("cuda", host()), "cuda")):
        library = tmp_path / f"{device}.tar"
        compile_library(models.chat(model_dir), "q4f16_1", spec, library)
        both = runner(model_dir, library, max_sequences=2, device=device)
        found[device] = models.answers(both, models.conversation())
    assert models.largest_error(found["cuda"], found["cpu"]) < models.CLOSE


@pytest.fixture(scope="module")
def demo(
    built_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TvmRunner, TvmRunner, Any]]:
    """The demo model on the processor and on the GPU, and its directory."""
    from edge_router.prompts.directory import ModelDirectory

    library = tmp_path_factory.mktemp("demo") / "cuda.tar"
    compile_library(built_model.config, "q4f16_1", gpu_target("cuda", host()), library)
    near = TvmRunner(built_model.model_dir, built_model.library, threads=4)
    far = TvmRunner(built_model.model_dir, library, device="cuda")
    yield near, far, ModelDirectory.read(built_model.model_dir, "demo")
    near.close()
    far.close()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_demo_model_says_the_same(demo: Any, prompt: str) -> None:
    """Both read what the processor chose, so that one close call does not part them for good."""
    near, far, directory = demo
    tokens = directory.tokenizer.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
    for one in (near, far):
        one.reset()
        one.add_sequence(0)
    wanted, found = (np.array(one.prefill(0, tokens)) for one in (near, far))
    for _ in range(64):
        spread = wanted.std()
        assert np.abs(found - wanted).max() < 0.03 * spread
        chosen = int(wanted.argmax())
        assert wanted[chosen] - wanted[int(found.argmax())] < 0.02 * spread
        wanted, found = (np.array(one.decode([0], [chosen])[0]) for one in (near, far))


def test_chunks_of_a_long_prompt_change_nothing(demo: Any) -> None:
    _, far, directory = demo
    text = (TESTS.parent / "compile/texts/calibration.txt").read_text(encoding="utf-8")
    tokens = directory.tokenizer.encode(text[:20000])[: 2 * far.prefill_chunk_size]
    found = []
    for chunk in (far.prefill_chunk_size, 200, 37):
        far.reset()
        far.add_sequence(0)
        for start in range(0, len(tokens), chunk):
            logits = np.array(far.prefill(0, tokens[start : start + chunk]))
        found.append(logits)
    for other in found[1:]:
        assert np.abs(other - found[0]).max() < 0.03 * found[0].std()


def test_webgpu_on_a_gpu_that_is_not_in_software(built_home: Path, built_model: Any) -> None:
    """The same answer as the processor's, through the same engine as users have it."""
    from edge_router import Controller
    from edge_router.engines.webgpu.adapters import adapters

    try:
        found = [adapter for adapter in adapters() if adapter.kind != "software"]
    except EdgeRouterError as error:
        pytest.skip(str(error))  # Vulkan may be missing where CUDA is not
    if not found:
        pytest.skip("no adapter but software")
    answers = []
    for engine, device in (("tvm", "cpu"), ("webgpu", "vulkan")):
        given = {"weak__engine": engine, "weak__device": device, "ledger__enabled": False}
        with Controller(**given) as client:
            reply = client.chat.completions.create(
                model="weak", messages=PROMPTS[0], temperature=0, max_tokens=16
            )
            answers.append(reply.text)
    assert answers[0] == answers[1]
