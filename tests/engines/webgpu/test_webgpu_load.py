"""The engine as it is loaded: by configuration, and what is said where that can't be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router import engines
from edge_router.chat.message import Message
from edge_router.chat.reply import collect
from edge_router.chat.request import ChatRequest, SamplingParams
from edge_router.config.settings import Config
from edge_router.engines import load_weak, weak_engines
from edge_router.engines.base import answered
from edge_router.engines.webgpu import load as loading
from edge_router.engines.webgpu.adapters import Adapter
from edge_router.engines.webgpu.load import load, open_model
from edge_router.engines.webgpu.weights import DirectoryWeights
from edge_router.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    EngineUnavailable,
    InvalidModel,
    UnsupportedTarget,
    WeightsCorrupt,
)
from edge_router.prompts.directory import ModelDirectory
from edge_router.registry import Registry
from edge_router.system.paths import Paths
from edge_router.types import Cancel, SilentProgress
from edge_router.vram import total
from edge_router.webgpu_program import Weight, Windows

WINDOWS = Windows(context=96, chunk=32)


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def ask(engine: Any, text: str, **sampling: Any) -> str:
    request = ChatRequest((Message("user", text),), sampling=SamplingParams(**sampling), max_tokens=12)
    return collect(answered(engine, request, Cancel())).text


def test_answers_are_the_references(adapter: Adapter, tiny_model: Any) -> None:
    engine = open_model(tiny_model.directory, tiny_model.file, adapter, windows=WINDOWS, model_id="tiny")
    directory = ModelDirectory.read(tiny_model.directory, "tiny")
    for text in ("Hello", "Why?", "Hello"):  # two conversations in turn
        prompt = directory.tokenizer.encode(directory.template.render([Message("user", text)]))
        expected = tiny_model.greedy(prompt, 12, directory.end_tokens)
        said = b"".join(map(directory.tokenizer.token_bytes, expected)).decode("utf-8", "replace")
        assert ask(engine, text, temperature=0.0).rstrip("�") == said.rstrip("�")
    assert (engine.model_id, engine.capabilities.context_window) == ("tiny", 96)
    engine.close()
    with pytest.raises(EngineUnavailable, match="closed"):
        ask(engine, "Hello")


def test_by_configuration(
    adapter: Adapter, tiny_model: Any, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the user's own with ready weights: only the program is built."""
    config = Config.load(
        overrides={
            "weak.model": str(tiny_model.directory),
            "weak.device": adapter.backend,
            "weak.context_window_size": 64,
            "weak.max_sequences": 2,
        }
    )
    progress = Notes()
    engine = load_weak(weak_engines(), config, paths, progress)
    assert engine.capabilities.context_window == 64
    assert ask(engine, "Hello", temperature=0.0)
    engine.close()
    assert any("stands in for a GPU" in note for note in progress.notes) == (adapter.kind == "software")
    # The second time nothing is built, and no compiler is needed.
    monkeypatch.setattr("edge_router.compile.webgpu.build.write", None)
    again = load(config.replace(**{"weak.build": False, "weak.engine": "webgpu"}), paths, SilentProgress())
    again.close()


def test_a_window_by_configuration(adapter: Adapter, tiny_model: Any, paths: Paths) -> None:
    """A conversation may be longer than the window, and what lies before it takes no memory."""
    values = {
        "weak.model": str(tiny_model.directory),
        "weak.device": adapter.backend,
        "weak.context_window_size": 512,
        "weak.prefill_chunk_size": 32,
        "weak.sliding_window_size": 48,
        "weak.attention_sink_size": 4,
    }
    plans = []
    for overrides in (values, {**values, "weak.sliding_window_size": None}):
        engine = load_weak(weak_engines(), Config.load(overrides=overrides), paths, SilentProgress())
        assert engine.capabilities.context_window == 512
        assert ask(engine, "A long question. " * 12, temperature=0.0)
        plans.append(engine.plan)
        engine.close()
    slides, whole = (total(plan.products, "kv_cache") for plan in plans)
    assert slides * 4 < whole
    assert (plans[0].settings.sliding_window_size, plans[1].settings.sliding_window_size) == (48, -1)


def test_a_conversation_beyond_its_context(adapter: Adapter, tiny_model: Any, paths: Paths) -> None:
    values = {
        "weak.model": str(tiny_model.directory),
        "weak.device": adapter.backend,
        "weak.context_window_size": 64,
        "weak.prefill_chunk_size": 32,
        "weak.overflow": "window",
    }
    engine = load_weak(weak_engines(), Config.load(overrides=values), paths, SilentProgress())
    assert engine.capabilities.context_window == 1 << 17
    assert engine.longest_answer == 64
    assert ask(engine, "A question that is longer than the context. " * 4, temperature=0.0)
    engine.close()


def test_nothing_built_and_nothing_may_be(adapter: Adapter, tiny_model: Any, paths: Paths) -> None:
    values = {"weak.model": str(tiny_model.directory), "weak.device": adapter.backend, "weak.build": False}
    with pytest.raises(ArtifactMissing) as caught:
        load_weak(weak_engines(), Config.load(overrides=values), paths, SilentProgress())
    assert caught.value.kind == "program"


def test_weights_that_no_program_reads_are_not_even_made(adapter: Adapter, paths: Paths) -> None:
    values = {"weak.device": adapter.backend, "weak.quantization": "q0f16"}
    with pytest.raises(UnsupportedTarget, match="q4f16_1, not q0f16"):
        load_weak(weak_engines(), Config.load(overrides=values), paths, SilentProgress())
    assert not paths.downloads.exists()


def test_no_adapter_is_said_before_anything_is_fetched(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "adapters", lambda: ())
    config = Config.load(overrides={"weak.device": "vulkan"})
    with pytest.raises(EngineUnavailable, match="no vulkan adapter"):
        load_weak(weak_engines(), config, paths, SilentProgress())
    assert not paths.downloads.exists()


def test_an_adapter_that_shows_too_little(adapter: Adapter, tiny_model: Any) -> None:
    small = replace(adapter, limits={**adapter.limits, "max-storage-buffer-binding-size": 1 << 16})

    def opened(windows: Windows) -> Any:
        return open_model(tiny_model.directory, tiny_model.file, small, windows=windows, model_id="m")

    says = r"shows a shader 65536 bytes .* has 131072; a context_window_size of 1024 would fit"
    with pytest.raises(EngineUnavailable, match=says):
        opened(Windows(2048, 32))
    with pytest.raises(
        EngineUnavailable, match=r"a scratch buffer has .*; a prefill_chunk_size of \d+ would"
    ):
        opened(Windows(1024, 1024))
    opened(Windows(1024, 32)).close()


@pytest.mark.parametrize("size", ["many", 3.5])
def test_a_vocabulary_that_is_no_number(
    adapter: Adapter, tiny_model: Any, tmp_path: Path, size: object
) -> None:
    folder = shutil.copytree(tiny_model.directory, tmp_path / "model")
    file = folder / "mlc-chat-config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "active_vocab_size": size}))
    with pytest.raises(InvalidModel, match="active_vocab_size"):
        open_model(folder, tiny_model.file, adapter, windows=WINDOWS, model_id="m")


def test_weights_of_another_model(adapter: Adapter, tiny_model: Any, tmp_path: Path) -> None:
    index = "tensor-cache.json"

    def changed(change: Callable[[dict[str, Any]], None]) -> Path:
        folder = shutil.copytree(tiny_model.directory, tmp_path / change.__name__)
        data = json.loads((folder / index).read_text())
        for record in data["records"][0]["records"]:
            change(record)
        (folder / index).write_text(json.dumps(data))
        return folder

    def renamed(record: dict[str, Any]) -> None:
        record["name"] = record["name"].replace("down_proj", "up_down_proj")

    def shortened(record: dict[str, Any]) -> None:
        if record["name"] == "model.norm.weight":
            record["nbytes"] -= 2

    for change, says in (
        (renamed, "wants model.layers.0.mlp.down_proj"),
        (shortened, "expected 128 bytes for model.norm.weight"),
    ):
        with pytest.raises((ArtifactCorrupt, EngineUnavailable, WeightsCorrupt), match=says):
            open_model(changed(change), tiny_model.file, adapter, windows=WINDOWS, model_id="m")


def test_weights_are_read_as_they_are_stored(tiny_model: Any, tmp_path: Path) -> None:
    weights = DirectoryWeights(tiny_model.directory)
    whole = weights.read(Weight("model.embed_tokens.q_weight", 0))
    part = weights.read(Weight("model.embed_tokens.q_weight", 0, rows=(10, 12)))
    assert whole.nbytes == 288 * 8 * 4
    np.testing.assert_array_equal(part, whole[10 * 32 : 12 * 32])
    norm = weights.read(Weight("model.norm.weight", 0, "float32"))
    assert norm.dtype == np.float32 and norm.shape == (64,)
    weights.close()


@pytest.mark.parametrize(
    ("dtype", "form"), [("bfloat16", "raw"), ("float32", "f32-to-bf16"), ("float32", "raw")]
)
def test_other_ways_to_store_a_vector(tmp_path: Path, dtype: str, form: str) -> None:
    values = np.array([1.0, -2.5, 0.15625], np.float32)
    halves = form != "raw" or dtype == "bfloat16"
    raw = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes() if halves else values.tobytes()
    (tmp_path / "shard.bin").write_bytes(raw)
    record = {"name": "v", "shape": [3], "dtype": dtype, "format": form, "nbytes": len(raw), "byteOffset": 0}
    shard = {"dataPath": "shard.bin", "nbytes": len(raw), "records": [record]}
    (tmp_path / "tensor-cache.json").write_text(json.dumps({"records": [shard]}))
    np.testing.assert_array_equal(DirectoryWeights(tmp_path).read(Weight("v", 12, "float32")), values)
    (tmp_path / "shard.bin").write_bytes(raw[:-1])
    with pytest.raises(WeightsCorrupt):
        DirectoryWeights(tmp_path)


# ---- which engine "auto" is --------------------------------------------------------------------------------


def registry(**factories: Any) -> Registry[Any]:
    made: Registry[Any] = Registry("weak engine")
    for name, factory in factories.items():
        made.add(name, factory)
    return made


def test_a_gpu_that_fails_by_itself_leaves_the_work_to_the_processor(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: Config, paths: Paths, progress: Any) -> Any:
        raise EngineUnavailable("webgpu", "it computes wrongly")

    def engine(config: Config, paths: Paths, progress: Any) -> str:
        return config.weak.engine

    known, progress = registry(webgpu=broken, tvm=engine), Notes()
    monkeypatch.setattr(engines, "resolved", lambda config: config.replace(**{"weak.engine": "webgpu"}))
    assert load_weak(known, Config.load(), paths, progress) == "tvm"
    assert progress.notes == [
        "the engine webgpu cannot start: it computes wrongly; the processor does the work"
    ]
    for asked in ({"weak.device": "vulkan"}, {"weak.engine": "webgpu"}):
        with pytest.raises(EngineUnavailable):
            load_weak(known, Config.load(overrides=asked), paths, progress)


WITHOUT_TVM = """
import sys
from importlib import metadata
for name in ("tvm", "tvm_ffi", "tvm_ffi_orcjit"):
    sys.modules[name] = None  # importing it fails, as where it is not installed
version = metadata.version
def only_others(name):
    if name.startswith("apache-tvm"):
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = only_others
from edge_router import Controller
from edge_router.config.settings import Config
values = {"weak.model": sys.argv[1], "weak.device": sys.argv[2], "weak.build": False, "offline": True}
with Controller(Config.load(overrides=values)) as client:
    reply = client.chat.completions.create(
        model="weak", messages=[{"role": "user", "content": "Hello"}], max_tokens=4, temperature=0
    )
    print(reply.usage.completion_tokens)
"""


def test_what_is_built_runs_without_tvm(adapter: Adapter, tiny_model: Any, paths: Paths) -> None:
    config = Config.load(overrides={"weak.model": str(tiny_model.directory), "weak.device": adapter.backend})
    load_weak(weak_engines(), config, paths, SilentProgress()).close()
    command = [sys.executable, "-c", WITHOUT_TVM, str(tiny_model.directory), adapter.backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) <= 4
