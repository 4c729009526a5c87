"""Each architecture on a GPU, held against transformers on the same dequantized weights."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from architecture_kinds import KINDS

from edge_router.architectures import architecture, architectures
from edge_router.compile.webgpu.build import build_program
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.runner import WebGpuRunner
from edge_router.engines.webgpu.weights import DirectoryWeights
from edge_router.webgpu_program import Windows

CLOSE = 0.008  # of the standard deviation of all logits; only the KV cache is float16
CLOSE_HALF = 0.03  # of the same, where prompts are read with float16 arithmetic
CONTEXT, CHUNK = 128, 32


def beside(*path: str) -> ModuleType:
    """A helper of other tests."""
    file = Path(__file__).parents[1].joinpath(*path)
    name = file.stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@dataclass(frozen=True)
class Pair:
    """The same weights twice: on the GPU, and in transformers."""

    runner: WebGpuRunner
    theirs: Any

    def wanted(self, tokens: list[int]) -> np.ndarray:
        import torch

        with torch.no_grad():
            logits: np.ndarray = self.theirs(torch.tensor([tokens])).logits[0].float().numpy()
        return logits[:, : self.runner.vocab_size]


# All whose layers keep no states, which only processors compute so far.
_RUN = [name for name, (kind, _) in KINDS.items() if not architecture(kind).mixers]


@pytest.fixture(scope="module", params=_RUN)
def pair(
    request: pytest.FixtureRequest, adapter: Adapter, tiny: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    from edge_router.compile.readers import open_weights
    from edge_router.compile.weights.equalize import Activations
    from edge_router.compile.weights.package import PackageWindows, write_model
    from edge_router.compile.weights.quantize import supported

    twins = beside("architectures", "twins.py")
    kind, numbers = KINDS[request.param]
    folder = tmp_path_factory.mktemp("pair")
    theirs = twins.random_model(kind, numbers)
    twins.write_checkpoint(theirs, folder / "checkpoint", tiny)
    directory = folder / "packaged"
    directory.mkdir()
    reader = open_weights(folder / "checkpoint")
    write_model(
        reader,
        directory,
        config=reader.config,
        form=supported("q4f16_1"),
        quantizer="round",
        activations=Activations(),
        windows=PackageWindows(CONTEXT, CHUNK, 2),
    )
    reader.close()
    give_back(theirs, directory)
    config = json.loads((directory / "mlc-chat-config.json").read_text(encoding="utf-8"))
    program = build_program({"model_type": config["model_type"], **config["model_config"]}, "q4f16_1")
    runner = WebGpuRunner(
        adapter,
        program,
        Windows(CONTEXT, CHUNK, 2),
        DirectoryWeights(directory).read,
        vocab_size=config["active_vocab_size"],
    )
    yield Pair(runner, theirs)
    runner.close()


def give_back(theirs: Any, directory: Path) -> None:
    """Our quantized weights into transformers' model."""
    import torch

    from edge_router.compile.readers import open_weights

    packaged = open_weights(directory)
    state = {name: torch.from_numpy(packaged.rows(name)) for name in packaged.tensors}
    state = beside("architectures", "twins.py").in_their_words(
        theirs, str(packaged.config["model_type"]), state
    )
    packaged.close()
    missing, unknown = theirs.load_state_dict(state, strict=False)
    assert not unknown
    assert set(missing) <= {"lm_head.weight"}, missing


@pytest.mark.reference
def test_it_computes_what_transformers_does(pair: Pair) -> None:
    runner = pair.runner
    tokens = np.random.default_rng(1).integers(0, runner.vocab_size, 100).tolist()
    wanted = pair.wanted(tokens)
    found: dict[str, tuple[np.ndarray, int]] = {}
    runner.add_sequence(0)
    found["prefill"] = runner.prefill(0, tokens[:32]).copy(), 31
    found["second chunk"] = runner.prefill(0, tokens[32:64]).copy(), 63
    found["odd chunk"] = runner.prefill(0, tokens[64:83]).copy(), 82
    for at in range(83, 90):
        found[f"decode at {at}"] = runner.decode([0], tokens[at : at + 1])[0].copy(), at
    runner.add_sequence(1)
    runner.prefill(1, tokens[:20])
    both = runner.decode([0, 1], [tokens[90], tokens[20]]).copy()
    found["decode of two, first"], found["second"] = (both[0], 90), (both[1], 20)
    errors = {
        name: float(np.abs(logits - wanted[at]).max() / wanted.std()) for name, (logits, at) in found.items()
    }
    assert max(errors.values()) < CLOSE, errors
    assert wanted[:, 1:].std() > 0.5  # else close would say nothing


@pytest.mark.reference
def test_float16_comes_near(pair: Pair) -> None:
    """Products of normalised inputs in float16; the error is theirs, not that of another model."""
    runner = pair.runner
    if not runner._adapter.has_float16:
        pytest.skip(f"{runner._adapter} has no float16 arithmetic")
    tokens = np.random.default_rng(2).integers(0, runner.vocab_size, 64).tolist()
    wanted = pair.wanted(tokens)
    runner.reset()
    runner.add_sequence(0)
    runner.half = True
    found = [runner.prefill(0, tokens[:32]).copy(), runner.prefill(0, tokens[32:]).copy()]
    runner.half = False
    errors = [
        float(np.abs(logits - wanted[at]).max() / wanted.std())
        for logits, at in zip(found, (31, 63), strict=True)
    ]
    assert max(errors) < CLOSE_HALF, errors


@pytest.mark.reference
def test_its_shaders_pass_the_check_of_a_new_gpu(pair: Pair) -> None:
    pair.runner.reset()
    assert pair.runner.mismatches() == []


def test_no_architecture_is_left_out() -> None:
    another_name = {"gemma3"}  # of gemma3_text
    assert {kind for kind, _ in KINDS.values()} | another_name == set(architectures())
    refused = {name for name in architectures() if architecture(name).mixers}
    assert refused == {kind for kind, _ in KINDS.values()} - {KINDS[name][0] for name in _RUN}
