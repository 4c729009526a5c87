"""The MLC directory: what is written is what MLC's own reader and TVM's runtime expect."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_router.compile.readers import open_weights
from edge_router.compile.readers.mlc import MlcReader, records
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import (
    PackageWindows,
    ShardWriter,
    chat_config,
    tokenizer_info,
    write_model,
)
from edge_router.compile.weights.parameters import count, parameters
from edge_router.compile.weights.quantize import quantized, stored_bytes, supported
from edge_router.compile.weights.quantizers import weighted
from edge_router.compile.weights.reference import Reference
from edge_router.errors import InvalidModel, TemplateError, UnknownName, WeightsCorrupt

WINDOWS = PackageWindows(128, 32)


def write(source: Path, folder: Path, *, form: str = "q4f16_1", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    reader = open_weights(source)
    given: dict[str, Any] = {
        "config": {},
        "quantizer": "round",
        "activations": Activations(),
        "windows": WINDOWS,
    }
    write_model(reader, folder, form=supported(form), **(given | changes))
    reader.close()
    return folder


@pytest.fixture(scope="module")
def directory(tiny_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tiny_llama.gguf, tmp_path_factory.mktemp("mlc") / "model")


def test_the_files_are_those_of_an_mlc_directory(directory: Path) -> None:
    assert sorted(file.name for file in directory.iterdir()) == [
        "mlc-chat-config.json",
        "params_shard_0.bin",
        "tensor-cache.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_the_index_describes_every_byte(directory: Path) -> None:
    index = json.loads((directory / "tensor-cache.json").read_text())
    (shard,) = index["records"]
    content = (directory / shard["dataPath"]).read_bytes()
    assert shard["format"] == "raw-shard" and shard["nbytes"] == len(content)
    assert shard["md5sum"] == hashlib.md5(content).hexdigest()
    at = 0
    for record in shard["records"]:
        assert record["byteOffset"] == at
        assert record["nbytes"] == np.prod(record["shape"]) * np.dtype(record["dtype"]).itemsize
        at += record["nbytes"]
    assert at == len(content)
    metadata = index["metadata"]
    assert metadata["ParamSize"] == len(shard["records"]) and metadata["ParamBytes"] == len(content)
    assert metadata["BitsPerParam"] == pytest.approx(4.5, abs=0.1)


def test_names_and_shapes_are_mlcs(directory: Path) -> None:
    found = {name: (record.shape, record.dtype) for name, record in records(directory).items()}
    layer = "model.layers.1"
    assert found["model.embed_tokens.q_weight"] == ((288, 8), "uint32")
    assert found["model.embed_tokens.q_scale"] == ((288, 2), "float16")
    assert found[f"{layer}.self_attn.qkv_proj.q_weight"] == ((128, 8), "uint32")
    assert found[f"{layer}.self_attn.o_proj.q_scale"] == ((64, 2), "float16")
    assert found[f"{layer}.mlp.gate_up_proj.q_weight"] == ((192, 8), "uint32")
    assert found[f"{layer}.mlp.down_proj.q_scale"] == ((64, 3), "float16")
    assert found[f"{layer}.input_layernorm.weight"] == ((64,), "float16")
    assert found["model.norm.weight"] == ((64,), "float16")
    assert len(found) == 2 + 2 * (4 * 2 + 2) + 1  # the head is the embedding


def test_tvm_loads_it(directory: Path, tiny_llama: Any) -> None:
    import tvm
    from tvm_ffi import get_global_func

    get_global_func("vm.builtin.tensor_cache.load")(str(directory), 1, 0)
    try:
        names = ["model.norm.weight", "model.layers.0.mlp.down_proj.q_weight"]
        norm, words = get_global_func("vm.builtin.param_array_from_cache_by_name")(names)
    finally:
        get_global_func("vm.builtin.tensor_cache.clear")()
    assert isinstance(norm, tvm.runtime.Tensor) and words.shape == (64, 12)
    np.testing.assert_allclose(norm.numpy(), tiny_llama.tensors["model.norm.weight"], rtol=1e-3)


def test_reading_it_back_gives_the_checkpoint_as_quantized(directory: Path, tiny_llama: Any) -> None:
    reader = open_weights(directory)
    assert isinstance(reader, MlcReader)
    assert set(reader.tensors) == set(tiny_llama.tensors)
    for name, tensor in tiny_llama.tensors.items():
        assert reader.tensors[name].shape == tensor.shape
        limit = 1e-3 * np.abs(tensor) if tensor.ndim == 1 else np.abs(tensor).max() / 14 * 1.01
        assert (np.abs(reader.rows(name) - tensor) <= limit).all(), name
    name = "model.layers.0.mlp.up_proj.weight"  # the second half of a fused parameter
    np.testing.assert_array_equal(reader.rows(name, 7, 20), reader.rows(name)[7:20])
    assert {key: reader.config[key] for key in ("hidden_size", "rope_theta")} == {
        "hidden_size": 64,
        "rope_theta": 10000.0,
    }
    assert reader.generation["eos_token_id"] == [2, 0]
    assert set(reader.tokenizer_files()) == {"tokenizer.json", "tokenizer_config.json"}
    with pytest.raises(InvalidModel, match="no tensor nonsense"):
        reader.rows("nonsense")
    reader.close()


@pytest.mark.parametrize(("form", "relative"), [("q0f16", 1e-3), ("q0f32", 0.0)])
def test_unquantized_formats_keep_the_numbers(
    form: str, relative: float, tiny_llama: Any, tmp_path: Path
) -> None:
    reader = open_weights(write(tiny_llama.folder, tmp_path / form, form=form))
    for name, tensor in tiny_llama.tensors.items():
        np.testing.assert_allclose(reader.rows(name), tensor, rtol=relative, atol=1e-6 if relative else 0)


def test_q4f16_2_leaves_the_embedding_alone(tiny_llama: Any, tmp_path: Path) -> None:
    found = records(write(tiny_llama.folder, tmp_path / "m", form="q4f16_2"))
    assert found["model.embed_tokens.weight"].dtype == "float16"
    assert "model.layers.0.mlp.down_proj.q_weight" in found


def test_an_untied_head_is_a_parameter_of_its_own(tiny: ModuleType, tmp_path: Path) -> None:
    made = tiny.make(tmp_path / "untied", tied=False)
    reader = open_weights(write(made.gguf, tmp_path / "m"))
    assert reader.config["tie_word_embeddings"] is False
    difference = np.abs(reader.rows("lm_head.weight") - made.tensors["lm_head.weight"])
    assert difference.max() <= np.abs(made.tensors["lm_head.weight"]).max() / 14 * 1.01


def test_a_tied_embedding_is_weighed_by_what_the_head_sees(tiny_llama: Any, tmp_path: Path) -> None:
    moments = np.full(64, 1e-6, np.float32)
    moments[9] = 1.0
    folder = write(
        tiny_llama.folder, tmp_path / "m", quantizer="weighted", activations=Activations({"lm_head": moments})
    )
    name = "model.embed_tokens.weight"
    difference = np.abs(open_weights(folder).rows(name) - tiny_llama.tensors[name])
    assert difference[:, 9].mean() < 0.05 * difference.mean()


def test_the_configuration_has_mlcs_keys_in_mlcs_order(directory: Path) -> None:
    config = json.loads((directory / "mlc-chat-config.json").read_text())
    assert list(config) == [
        "version",
        "model_type",
        "quantization",
        "model_config",
        "vocab_size",
        "context_window_size",
        "sliding_window_size",
        "prefill_chunk_size",
        "attention_sink_size",
        "tensor_parallel_shards",
        "pipeline_parallel_stages",
        "active_vocab_size",
        "temperature",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "top_p",
        "tokenizer_files",
        "tokenizer_info",
        "conv_template",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "model_task",
        "embedding_metadata",
    ]
    assert config["model_config"] == {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-05,
        "vocab_size": 288,
        "tie_word_embeddings": True,
        "position_embedding_base": 10000.0,
        "rope_scaling": None,
        "context_window_size": 128,
        "prefill_chunk_size": 32,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tensor_parallel_shards": 1,
        "pipeline_parallel_stages": 1,
        "max_batch_size": 128,
        "disaggregation": False,
    }
    assert config["active_vocab_size"] == 3 + 256 + 5  # fewer than the table has rows
    assert config["tokenizer_info"]["token_postproc_method"] == "byte_level"
    assert config["conv_template"]["name"] == "chatml"
    assert config["conv_template"]["stop_token_ids"] == [2, 0, 1]  # a turn that opens ends one, too


def test_what_the_checkpoint_says_of_sampling_is_kept(tiny_llama: Any, tmp_path: Path) -> None:
    config = json.loads((write(tiny_llama.folder, tmp_path / "m") / "mlc-chat-config.json").read_text())
    assert (config["temperature"], config["top_p"], config["eos_token_id"]) == (0.5, 1.0, 2)
    generation = {"top_k": 40, "eos_token_id": None}
    tokenizer = open_weights(tiny_llama.folder).tokenizer_files()
    config = chat_config(tiny_llama.config, "q4f16_1", tokenizer, generation, WINDOWS)
    assert config["top_k"] == 40 and config["eos_token_id"] == []


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ({}, ("byte_fallback", False, False)),
        ({"decoder": {"type": "ByteLevel"}}, ("byte_level", False, False)),
        (
            {
                "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]},
                "decoder": {
                    "type": "Sequence",
                    "decoders": [
                        {"type": "ByteFallback"},
                        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                    ],
                },
            },
            ("byte_fallback", True, True),
        ),
        ({"normalizer": {"type": "Prepend", "prepend": "▁"}}, ("byte_fallback", True, False)),
    ],
)
def test_mlcs_view_of_a_tokenizer(tokenizer: dict[str, object], expected: tuple[str, bool, bool]) -> None:
    assert tuple(tokenizer_info(tokenizer).values()) == expected


def test_shards_stay_near_their_size(tmp_path: Path) -> None:
    sizes = [400, 400, 400, 3000, 100, 900]
    with ShardWriter(tmp_path, numbers=sum(sizes) // 4, shard_bytes=1000) as writer:
        for number, size in enumerate(sizes):
            writer.add(f"t{number}", np.full(size // 4, number, np.uint32))
    found = records(tmp_path, hashes=True)
    assert [int(found[f"t{i}"].shard.stem[-1]) for i in range(6)] == [0, 0, 1, 2, 3, 3]
    assert [found[f"t{i}"].offset for i in range(6)] == [0, 400, 0, 0, 0, 100]


def test_progress_counts_bytes(tiny_llama: Any, tmp_path: Path) -> None:
    seen: list[object] = []

    class Counting:
        @contextmanager
        def step(self, name: str, total: int | None = None, unit: str = "") -> Any:
            seen.extend((name, total, unit))
            yield self

        def advance(self, amount: int = 1) -> None:
            seen.append(amount)

        def note(self, text: str) -> None:
            raise AssertionError(text)

    write(tiny_llama.gguf, tmp_path / "m", progress=Counting(), threads=3)
    size = (tmp_path / "m" / "params_shard_0.bin").stat().st_size
    assert seen[:3] == ["quantize", size, "bytes"] and sum(seen[3:]) == size
    assert len(seen) > 14


def test_threads_change_nothing(tiny_llama: Any, directory: Path, tmp_path: Path) -> None:
    other = write(tiny_llama.gguf, tmp_path / "m", threads=4)
    assert (other / "params_shard_0.bin").read_bytes() == (directory / "params_shard_0.bin").read_bytes()


# ---- bad input -----------------------------------------------------------------------------------------------


def test_a_card_that_contradicts_the_file_is_an_error(tiny_llama: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="hidden_size is 64 here and 576 in the model card"):
        write(tiny_llama.gguf, tmp_path / "m", config={"hidden_size": 576, "rope_scaling": None})
    assert not list((tmp_path / "m").iterdir())


def changed(tiny: ModuleType, tiny_llama: Any, tmp_path: Path, **tensors: np.ndarray | None) -> Path:
    merged = {**tiny_llama.tensors, **{name.replace("__", "."): t for name, t in tensors.items()}}
    tiny.write_gguf(
        tmp_path / "c.gguf", tiny_llama.config, {n: t for n, t in merged.items() if t is not None}
    )
    return tmp_path / "c.gguf"


def folder_with(tiny_llama: Any, folder: Path, **parts: Any) -> Path:
    """The checkpoint with other parts of tokenizer.json, and of its config where those have no such part."""
    shutil.copytree(tiny_llama.folder, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        found = json.loads((folder / name).read_text())
        given = {key: change(found.get(key)) for key, change in parts.items() if key in found}
        (folder / name).write_text(json.dumps({**found, **given}))
    return folder


def test_words_without_weights_are_refused_and_marks_are_not(tiny_llama: Any, tmp_path: Path) -> None:
    def mark(added: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*added, {**added[0], "id": 288, "content": "<picture>"}]

    def word(model: dict[str, Any]) -> dict[str, Any]:
        return {**model, "vocab": {**model["vocab"], "zz": 288}}

    marked = write(folder_with(tiny_llama, tmp_path / "a", added_tokens=mark), tmp_path / "m")
    assert json.loads((marked / "mlc-chat-config.json").read_text())["active_vocab_size"] == 288
    with pytest.raises(InvalidModel, match="makes 289 tokens, and 288 have weights"):
        write(folder_with(tiny_llama, tmp_path / "b", model=word), tmp_path / "n")


def test_every_token_counts_however_they_are_numbered(tiny_llama: Any, tmp_path: Path) -> None:
    def gap(added: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*added, {**added[0], "id": 280, "content": "<far>"}]

    made = write(folder_with(tiny_llama, tmp_path / "a", added_tokens=gap), tmp_path / "m")
    assert json.loads((made / "mlc-chat-config.json").read_text())["active_vocab_size"] == 281


@pytest.mark.parametrize("odd", [1.5, "x", None, [], {}, True, -1, [1.5, "x", None]])
@pytest.mark.parametrize("key", ["eos_token_id", "bos_token_id"])
def test_odd_ids_of_tokens_are_none(tiny_llama: Any, tmp_path: Path, key: str, odd: object) -> None:
    source = folder_with(tiny_llama, tmp_path / "a")
    (source / "generation_config.json").write_text(json.dumps({key: odd}))
    config = json.loads((write(source, tmp_path / "m") / "mlc-chat-config.json").read_text())
    assert set(config["conv_template"]["stop_token_ids"]) == {0, 1, 2}  # by what the template writes


def test_a_template_that_is_none_is_said_of_this_model(tiny_llama: Any, tmp_path: Path) -> None:
    source = folder_with(tiny_llama, tmp_path / "a", chat_template=lambda _: "{% for")
    with pytest.raises(TemplateError, match="the chat template of a failed: it is not valid"):
        write(source, tmp_path / "m")


def test_missing_tensors_are_named(tiny: ModuleType, tiny_llama: Any, tmp_path: Path) -> None:
    file = changed(tiny, tiny_llama, tmp_path, model__layers__1__mlp__up_proj__weight=None)
    with pytest.raises(InvalidModel, match=r"1 tensors are missing: model.layers.1.mlp.up_proj.weight"):
        write(file, tmp_path / "m")


def test_misshapen_tensors_are_named(tiny: ModuleType, tiny_llama: Any, tmp_path: Path) -> None:
    short = np.zeros((64, 80), np.float32)
    file = changed(tiny, tiny_llama, tmp_path, model__layers__0__mlp__down_proj__weight=short)
    with pytest.raises(InvalidModel, match=r"down_proj.weight is \(64, 80\) and should be \(64, 96\)"):
        write(file, tmp_path / "m")


def test_tensors_without_a_place_are_named(tiny: ModuleType, tiny_llama: Any, tmp_path: Path) -> None:
    bias = np.zeros(64, np.float32)
    file = changed(tiny, tiny_llama, tmp_path, model__layers__0__self_attn__q_proj__bias=bias)
    with pytest.raises(InvalidModel, match=r"no place in llama: model.layers.0.self_attn.q_proj.bias"):
        write(file, tmp_path / "m")


def test_numbers_that_are_none_are_damage(tiny: ModuleType, tiny_llama: Any, tmp_path: Path) -> None:
    broken = tiny_llama.tensors["model.norm.weight"].copy()
    broken[3] = np.nan
    file = changed(tiny, tiny_llama, tmp_path, model__norm__weight=broken)
    with pytest.raises(WeightsCorrupt, match=r"finite numbers in model.norm.weight"):
        write(file, tmp_path / "m")


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.0.mlp.down_proj.weight"])
def test_a_number_beyond_the_formats_type_is_told(
    tiny: ModuleType, tiny_llama: Any, tmp_path: Path, name: str
) -> None:
    """float16 would make infinity of it."""
    large = tiny_llama.tensors[name].copy()
    large.flat[3] = -70_000.0
    file = changed(tiny, tiny_llama, tmp_path, **{name.replace(".", "__"): large})
    with pytest.raises(InvalidModel, match=rf"{name} holds a weight of 70000, which float16 cannot hold"):
        write(file, tmp_path / "m")
    large.flat[3] = 65_504.0  # its largest
    kept = changed(tiny, tiny_llama, tmp_path, **{name.replace(".", "__"): large})
    write(kept, tmp_path / "kept")


def test_the_last_group_of_a_row_is_filled_up(tiny: ModuleType, tmp_path: Path) -> None:
    config = tiny.CONFIG | {"intermediate_size": 84}
    tiny.write_gguf(tmp_path / "g.gguf", config, tiny.random_tensors(config, 0))
    with pytest.raises(InvalidModel, match=r"down_proj has 84 columns, which 8 does not divide"):
        write(tmp_path / "g.gguf", tmp_path / "m")
    assert not list((tmp_path / "m").iterdir()), "told before anything is written"
    write(tmp_path / "g.gguf", tmp_path / "three", form="q3f16_1")
    config = tiny.CONFIG | {"intermediate_size": 88}
    tiny.write_gguf(tmp_path / "h.gguf", config, tiny.random_tensors(config, 0))

    def logits(source: Path) -> Any:
        model = Reference(open_weights(source))
        return model.logits(model.hidden(range(20)))

    wanted = logits(tmp_path / "h.gguf")
    for quantizer in ("round", "gptq"):
        found = logits(write(tmp_path / "h.gguf", tmp_path / quantizer, quantizer=quantizer))
        error = (
            np.abs(found - wanted).mean() / wanted.std()
        )  # of four bits: 0.45 and 0.38 for 64 columns, too
        assert error < 0.6, quantizer


def test_moments_of_another_model_are_refused(tiny_llama: Any, tmp_path: Path) -> None:
    activations = Activations({"lm_head": np.ones(96, np.float32)})
    with pytest.raises(InvalidModel, match="for 96 columns, not 64"):
        write(tiny_llama.gguf, tmp_path / "m", quantizer="weighted", activations=activations)


def test_formats_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"known: q0f16, q0f32, q3f16_0, .*, q4f16_1, q4f16_2, q4f32_1"):
        supported("q4bf16_1")


def test_sizes_are_known_beforehand(directory: Path, tiny_llama: Any) -> None:
    wanted = parameters(tiny_llama.config, "tiny")
    needed = sum(stored_bytes(supported("q4f16_1"), parameter) for parameter in wanted)
    assert needed == (directory / "params_shard_0.bin").stat().st_size
    assert count(wanted) == sum(tensor.size for tensor in tiny_llama.tensors.values())


def test_quantizing_holds_one_parameter_at_a_time(tiny: ModuleType, tmp_path: Path) -> None:
    """Of the embedding, 16 MB as float32, only the packed rows and a few unpacked ones are in memory."""
    config = tiny.CONFIG | {"vocab_size": 65536, "num_hidden_layers": 1}
    tiny.write_gguf(tmp_path / "big.gguf", config, tiny.random_tensors(config, 0))
    reader = open_weights(tmp_path / "big.gguf")
    embedding = parameters(config, "big")[0]
    ones = np.ones(64, np.float32)
    with ThreadPoolExecutor(1) as pool:
        tracemalloc.start()
        for _ in quantized(reader, embedding, supported("q4f16_1"), weighted, ones, pool):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2 * stored_bytes(supported("q4f16_1"), embedding)


def test_weights_are_packaged_without_tvm() -> None:
    """What quantizes by rows alone takes half a gigabyte less, and runs where no TVM is."""
    code = (
        "import sys; import edge_router.compile.random_model, edge_router.compile.weights.package as package; "
        "from edge_router.compile.weights.quantizers import quantizer; quantizer('weighted'); "
        "print(*({'tvm', 'tvm_ffi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
