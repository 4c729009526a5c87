"""A random Llama of two layers, quantized, with its program; on whatever adapter there is."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.compile.readers import open_weights
from edge_router.compile.readers.mlc import MlcReader
from edge_router.compile.webgpu.build import build_program
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.quantize import supported
from edge_router.compile.weights.reference import Reference
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.engines.webgpu.weights import DirectoryWeights
from edge_router.prompts.directory import read_config
from edge_router.webgpu_program import Program, Windows, write_program

WINDOWS = Windows(context=128, chunk=48, sequences=3)


@dataclass(frozen=True)
class TinyModel:
    directory: Path
    file: Path  # of the program
    program: Program
    config: dict[str, Any]

    @property
    def read(self) -> Callable[..., Any]:
        return DirectoryWeights(self.directory).read

    def reference(self) -> Reference:
        return Reference(MlcReader(self.directory))

    def greedy(self, prompt: Sequence[int], count: int, ends: Collection[int]) -> list[int]:
        """Of the tokens that have a meaning; without the one that ends it."""
        reference, found = self.reference(), list[int]()
        states = reference.hidden(prompt)
        while len(found) < count:
            known = reference.logits(states[-1:])[0, : self.config["active_vocab_size"]]
            token = int(known.argmax())
            if token in ends:
                break
            found.append(token)
            states = reference.hidden([token])
        return found

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """What the reference says after each token."""
        reference = self.reference()
        return reference.logits(reference.hidden(tokens))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    folder = tmp_path_factory.mktemp("tiny")
    source = _tiny_llama().make(folder / "checkpoint", tied=False)
    directory = folder / "model"
    directory.mkdir()
    reader = open_weights(source.folder)
    write_model(
        reader,
        directory,
        config={},
        form=supported("q4f16_1"),
        quantizer="round",
        activations=Activations(),
        windows=PackageWindows(128, 48),
    )
    reader.close()
    config = read_config(directory)
    numbers = {**config["model_config"], "model_type": config["model_type"]}  # type: ignore[dict-item]
    program = build_program(numbers, "q4f16_1")
    file = folder / "program.json"
    write_program(program, file)
    return TinyModel(directory, file, program, config)


@pytest.fixture(scope="module")
def runner(adapter: Adapter, tiny_model: TinyModel) -> Iterator[WebGpuRunner]:
    made = WebGpuRunner(adapter, tiny_model.program, WINDOWS, tiny_model.read)
    yield made
    made.close()


@pytest.fixture
def empty(runner: WebGpuRunner) -> WebGpuRunner:
    """The same one, without any sequence."""
    runner.reset()
    return runner


def _tiny_llama() -> Any:
    file = Path(__file__).parents[2] / "compile" / "tiny_llama.py"
    spec = importlib.util.spec_from_file_location("tiny_llama", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_llama"] = module
    spec.loader.exec_module(module)
    return module
