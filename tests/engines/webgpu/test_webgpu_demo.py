"""The demo model on a GPU says what it says on the processor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_router.chat.message import Message
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.engines.webgpu.weights import DirectoryWeights
from edge_router.prompts.directory import ModelDirectory
from edge_router.webgpu_program import Windows, footprint, read_program

pytestmark = pytest.mark.slow

TIE = 0.05  # of a logit; nearer than that, either of two tokens is right
PROMPTS = ("What is the capital of France?", "How do I boil an egg?")


@pytest.fixture(scope="module")
def gpu_model(adapter: Adapter, built_home: Path) -> Any:
    from edge_router.catalog import find_model
    from edge_router.compile.pipeline import BuildSettings, ensure
    from edge_router.system.paths import Paths

    card = find_model("SmolLM2-135M-Instruct")
    return ensure(card, BuildSettings(target="webgpu"), paths=Paths.under(built_home))


def test_greedy_decoding_is_the_references(
    adapter: Adapter, gpu_model: Any, reference_llama: Callable[[Path], Any]
) -> None:
    directory = ModelDirectory.read(gpu_model.model_dir, "m")
    assert directory.template is not None
    program, windows = read_program(gpu_model.library), Windows(256, 128)
    made = WebGpuRunner(adapter, program, windows, DirectoryWeights(gpu_model.model_dir).read)
    reference = reference_llama(gpu_model.model_dir)
    for number, text in enumerate(PROMPTS):
        prompt = directory.tokenizer.encode(directory.template.render([Message("user", text)]))
        made.add_sequence(number)
        logits, answer = made.prefill(number, prompt), list[int]()
        while len(answer) < 32:
            answer.append(int(logits.argmax()))
            logits = made.decode([number], answer[-1:])[0]
        assert reference.shortfalls(prompt, answer).max() < TIE, text
    made.close()
    assert footprint(program, windows).weights == sum(
        entry["nbytes"] * (2 if entry["name"].endswith("norm.weight") else 1)
        for shard in json.loads((gpu_model.model_dir / "tensor-cache.json").read_text())["records"]
        for entry in shard["records"]
    )


def test_the_command_line_says_the_same_on_both(adapter: Adapter, gpu_model: Any, built_home: Path) -> None:
    def chat(device: str) -> str:
        command = [sys.executable, "-m", "edge_router", "--set", "offline=true", "chat", "--json"]
        command += ["--model", "weak", "--device", device, "--temperature", "0", "--max-tokens", "12"]
        done = subprocess.run(
            [*command, PROMPTS[0]],
            env={"EDGE_ROUTER_HOME": str(built_home), "PATH": "", "LP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)["text"]

    assert chat(adapter.backend) == chat("cpu")
    assert "Paris" in chat(adapter.backend)
