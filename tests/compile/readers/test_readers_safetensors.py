"""Safetensors checkpoints: one file, shards with an index, every float type, and every kind of damage."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_router.catalog.configs import plain_config
from edge_router.compile.readers import open_weights
from edge_router.compile.readers.safetensors import SafetensorsReader
from edge_router.compile.weights.parameters import check, parameters
from edge_router.errors import InvalidModel, WeightsCorrupt


@pytest.fixture
def copy(tiny_llama: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama.folder, tmp_path / "copy"))


def test_a_folder_reads_as_what_was_saved(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.folder)
    assert reader.config == tiny_llama.config
    assert reader.generation == {"eos_token_id": 2, "bos_token_id": 1, "temperature": 0.5}
    assert set(reader.tensors) == set(tiny_llama.tensors)
    for name, tensor in tiny_llama.tensors.items():
        np.testing.assert_array_equal(reader.rows(name), tensor)
    np.testing.assert_array_equal(
        reader.rows("model.norm.weight", 2, 5), tiny_llama.tensors["model.norm.weight"][2:5]
    )
    reader.close()


def test_what_the_safetensors_package_writes_is_read(tiny_llama: Any, copy: Path) -> None:
    from safetensors import numpy as numpy_format

    numpy_format.save_file(dict(tiny_llama.tensors), copy / "model.safetensors")
    reader = open_weights(copy / "model.safetensors")
    for name, tensor in tiny_llama.tensors.items():
        np.testing.assert_array_equal(reader.rows(name, 1), tensor[1:])


@pytest.mark.parametrize(("dtype", "error"), [("F64", 0), ("F16", 1e-3), ("BF16", 1e-2)])
def test_every_float_type_becomes_float32(dtype: str, error: float, tiny: ModuleType, copy: Path) -> None:
    values = {"a": np.linspace(-3, 3, 60, dtype=np.float32).reshape(20, 3)}
    tiny.write_safetensors(copy / "model.safetensors", values, dtype)
    rows = SafetensorsReader(copy).rows("a", 4, 9)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, values["a"][4:9], rtol=error)


def shard(copy: Path, tiny: ModuleType, tensors: dict[str, np.ndarray]) -> dict[str, str]:
    (copy / "model.safetensors").unlink()
    names = list(tensors)
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        tiny.write_safetensors(copy / file, {n: tensors[n] for n in names if files[n] == file})
    index = {"metadata": {}, "weight_map": files}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    return files


def test_shards_are_one_checkpoint(tiny: ModuleType, tiny_llama: Any, copy: Path) -> None:
    shard(copy, tiny, tiny_llama.tensors)
    reader = open_weights(copy)
    for name, tensor in tiny_llama.tensors.items():
        np.testing.assert_array_equal(reader.rows(name), tensor)


def test_a_missing_shard_is_named(tiny: ModuleType, tiny_llama: Any, copy: Path) -> None:
    shard(copy, tiny, tiny_llama.tensors)
    (copy / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InvalidModel, match=r"model-00002-of-00002.safetensors, which .* names, is missing"):
        open_weights(copy)


def test_an_index_that_promises_too_much_is_an_error(tiny: ModuleType, tiny_llama: Any, copy: Path) -> None:
    files = shard(copy, tiny, tiny_llama.tensors)
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files | {"lm_head.weight": next(iter(files.values()))}}))
    with pytest.raises(InvalidModel, match=r"no tensor lm_head.weight"):
        open_weights(copy)
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
    with pytest.raises(InvalidModel, match="elsewhere"):
        open_weights(copy)
    index.write_text(json.dumps({"metadata": {}}))
    with pytest.raises(WeightsCorrupt, match="weight_map"):
        open_weights(copy)
    index.unlink()
    with pytest.raises(InvalidModel, match=r"2 files of weights .* and no model.safetensors.index.json"):
        open_weights(copy)


def test_a_chat_template_in_its_own_file_joins_the_tokenizers_config(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    described = json.loads(open_weights(copy).tokenizer_files()["tokenizer_config.json"])
    assert described["chat_template"] == "{{ messages }}"
    assert described["eos_token"] == "<|im_end|>"


def test_missing_companions_are_named(copy: Path) -> None:
    for name in ("tokenizer.json", "config.json", "generation_config.json"):
        (copy / name).unlink()
    reader = open_weights(copy)
    with pytest.raises(InvalidModel, match=r"tokenizer.json missing"):
        reader.tokenizer_files()
    with pytest.raises(InvalidModel, match=r"config.json is missing"):
        _ = reader.config
    assert reader.generation == {}
    with pytest.raises(InvalidModel, match="no tensor nonsense"):
        reader.rows("nonsense")


def test_a_config_that_is_no_object_is_damage(copy: Path) -> None:
    (copy / "config.json").write_text("[1]")
    with pytest.raises(WeightsCorrupt, match="not a list"):
        _ = open_weights(copy).config
    (copy / "config.json").write_text('{"hidden_size": ')
    with pytest.raises(WeightsCorrupt, match="expected a JSON object"):
        _ = open_weights(copy).config


def test_a_file_cut_short_says_what_was_expected(copy: Path) -> None:
    file = copy / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-16])
    with pytest.raises(WeightsCorrupt, match=f"expected {len(whole)} bytes .*found {len(whole) - 16} bytes"):
        open_weights(copy)
    file.write_bytes(whole[:40])
    with pytest.raises(WeightsCorrupt, match="a header within its 40 bytes"):
        open_weights(copy)


def with_header(file: Path, header: object) -> Path:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    return file


def entry(dtype: str = "F32", shape: object = (4, 4), offsets: object = (0, 64)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "error", "words"),
    [
        (b"{not json", WeightsCorrupt, "a JSON object as header"),
        ([1, 2], WeightsCorrupt, "not a list"),
        ({"a": 5}, WeightsCorrupt, "data_offsets of a"),
        ({"a": {"dtype": "F32"}}, WeightsCorrupt, "data_offsets of a"),
        ({"a": entry("I8")}, InvalidModel, "a is I8; readable: F64, F32, F16, BF16"),
        ({"a": entry(offsets=(0, 60))}, WeightsCorrupt, "expected 64 bytes for a, found 60"),
        ({"a": entry(offsets=(32, 96))}, WeightsCorrupt, r"\(up to a\)"),
        ({"a": entry(shape=(-4, -4))}, WeightsCorrupt, "for a"),
        ({"a": entry(shape=())}, WeightsCorrupt, "for a"),
    ],
)
def test_headers_that_contradict_themselves(
    header: object, error: type[Exception], words: str, copy: Path
) -> None:
    with_header(copy / "model.safetensors", header)
    with pytest.raises(error, match=words):
        open_weights(copy)


def test_folders_without_weights_say_what_they_hold(tmp_path: Path, tiny_llama: Any) -> None:
    tmp_path = tmp_path / "model"
    tmp_path.mkdir()
    with pytest.raises(InvalidModel, match="but: nothing"):
        open_weights(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InvalidModel, match=r"neither \*.safetensors nor .* nor \*.gguf, but: model.onnx"):
        open_weights(tmp_path)
    with pytest.raises(InvalidModel, match=r"\.onnx: no model: expected a folder or a file"):
        open_weights(tmp_path / "model.onnx")
    with pytest.raises(InvalidModel, match="does not exist"):
        open_weights(tmp_path / "nowhere")
    shutil.copy(tiny_llama.gguf, tmp_path / "one.gguf")
    assert open_weights(tmp_path).config["hidden_size"] == 64
    shutil.copy(tiny_llama.gguf, tmp_path / "two.gguf")
    with pytest.raises(InvalidModel, match=r"2 models in .gguf files; name one: one.gguf, two.gguf"):
        open_weights(tmp_path)


def test_the_language_part_of_a_model_that_also_sees(tmp_path: Path, tiny: Any) -> None:
    """Qwen 3.5's, under its names in a checkpoint and beside what is not read."""
    config = {
        "model_type": "qwen3_5_text",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": 40,
        "full_attention_interval": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    }
    whole = {"model_type": "qwen3_5", "tie_word_embeddings": True, "text_config": config}
    (tmp_path / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    wanted = parameters({**plain_config(whole)}, "tiny")
    tensors = {}
    for parameter in wanted:
        for name, rows in zip(parameter.sources, parameter.source_rows, strict=True):
            shape = (rows, *parameter.shape[1:])
            shape = (rows, 1, shape[1]) if name.endswith("conv1d.weight") else shape
            held = name.replace("model.", "model.language_model.", 1)
            tensors[held] = np.random.default_rng(len(tensors)).normal(size=shape).astype("f4")
    beside = {
        "model.visual.patch_embed.weight": np.ones((2, 2), "f4"),
        "mtp.fc.weight": np.ones((2, 2), "f4"),
    }
    tiny.write_safetensors(tmp_path / "model.safetensors", {**tensors, **beside})
    reader = open_weights(tmp_path)
    assert reader.config["tie_word_embeddings"] is True
    assert reader.config["layer_types"] == [*["linear_attention"] * 3, "full_attention"]
    check(reader, wanted, reader.config)
    name = "model.layers.1.linear_attn.conv1d.weight"
    held = tensors[name.replace("model.", "model.language_model.", 1)]
    np.testing.assert_array_equal(reader.rows(name, 3, 7), held[3:7, 0])
