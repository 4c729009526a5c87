"""On a GPU that others have filled: what is planned is what is taken, from loading to a full context.

`pytest -m gpu tests/gpu/test_gpu_memory.py` on a machine with an NVIDIA GPU that nobody else uses meanwhile.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from edge_router.compile.random_model import write_random_model
from edge_router.compile.weights.package import PackageWindows

HERE = Path(__file__).parent
GIB = 1 << 30
WITHIN = 0.05  # how far below its plan a process may stay; above it never
LOOK_S = 0.02  # between two looks at what is free

# A quarter of a MiB of keys and values for each token: a context of 65,536 fits into no budget here.
LARGE = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
    "vocab_size": 288,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 65536,
    "tie_word_embeddings": True,
}
SMALL = LARGE | {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64}
STAGES = ["loaded", "longest prefill", "full context", "closed"]


class Ballast:
    """tests/gpu/device_memory.py, which sees the GPU as every other program does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "device_memory.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if not first:
            _, said = self._process.communicate()
            lacking = pytest.fail if os.environ.get("GPU_REQUIRED") else pytest.skip
            lacking(f"no NVIDIA GPU here: {said.strip()}")

    def free(self) -> int:
        return self._ask("free")

    def leave(self, count: int) -> int:
        return self._ask(f"leave {count}")

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, text: str) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture
def ballast() -> Iterator[Ballast]:
    made = Ballast()
    yield made
    made.close()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one that is made on the spot, for a machine without a network."""
    spec = importlib.util.spec_from_file_location("tiny_llama_for_gpu", HERE.parent / "compile/tiny_llama.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_llama_for_gpu"] = module
    spec.loader.exec_module(module)
    return Path(module.make(tmp_path_factory.mktemp("tokenizer") / "tiny").folder)


def random_model(folder: Path, config: dict[str, object], tokenizer: Path) -> Path:
    folder.mkdir()
    write_random_model(folder, config, tokenizer, PackageWindows(256, 64))
    return folder


def stages(folder: Path, home: Path, **settings: object) -> Iterator[dict[str, Any]]:
    """Of memory_stages.py, which waits while each is looked at; {} in between, where there is time to look."""
    given = {"weak.model": str(folder), "ledger.enabled": False}
    given |= {name.replace("__", "."): value for name, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, str(HERE / "memory_stages.py")],
        env={**os.environ, "EDGE_ROUTER_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert process.stdin is not None and process.stdout is not None
        reader = threading.Thread(target=lambda out=process.stdout: [*map(said.put, chain(out, [""]))])
        reader.start()
        process.stdin.write(json.dumps(given) + "\n")
        process.stdin.flush()
        while True:
            try:
                line = said.get(timeout=LOOK_S)
            except queue.Empty:
                yield {}
                continue
            if not line:
                break
            yield json.loads(line)
            process.stdin.write("\n")
            process.stdin.flush()
        reader.join()
    assert process.returncode == 0


@pytest.mark.gpu
@pytest.mark.parametrize(("engine", "device"), [("tvm", "cuda"), ("webgpu", "vulkan")])
@pytest.mark.parametrize("left", [12, 8, 6])
def test_the_plan_holds_on_a_gpu_that_others_have_filled(
    ballast: Ballast, tokenizer: Path, tmp_path: Path, home: Path, engine: str, device: str, left: int
) -> None:
    model = random_model(tmp_path / "large", LARGE, tokenizer)
    before = ballast.leave(left * GIB)
    assert 0.9 * left * GIB < before < 1.1 * left * GIB, "the GPU is too small, or somebody else uses it"
    most, taken, facts = 0, {}, {}
    windows = {"weak__context_window_size": 65536, "weak__prefill_chunk_size": 2048}
    for stage in stages(model, home, weak__engine=engine, weak__device=device, **windows):
        used = before - ballast.free()
        most = max(most, used)
        if stage:
            taken[stage.pop("stage")] = used
            facts = stage
    assert list(taken) == STAGES
    assert 1024 <= facts["context"] < 65536, "the context is as long as the GPU has room for"
    assert facts["planned"] <= facts["budget"] <= before
    assert most <= facts["planned"], (taken, facts)
    assert taken["full context"] >= (1 - WITHIN) * facts["planned"], (taken, facts)


def test_the_stages_are_gone_through_on_any_machine(tokenizer: Path, tmp_path: Path, home: Path) -> None:
    """A rehearsal on the processor, with a small model."""
    model = random_model(tmp_path / "small", SMALL, tokenizer)
    windows = {"weak__context_window_size": 256, "weak__prefill_chunk_size": 64, "weak__engine": "tvm"}
    found = [stage for stage in stages(model, home, weak__device="cpu", **windows) if stage]
    assert [stage["stage"] for stage in found] == STAGES
    assert all((stage["context"], stage["chunk"]) == (256, 64) for stage in found)
    assert 0 < found[0]["planned"] <= found[0]["budget"]
