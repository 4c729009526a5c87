"""GGUF files: what llama.cpp's own package writes is read back as the checkpoint it came from."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edge_router.catalog.gguf import gguf_config
from edge_router.compile.readers import open_weights
from edge_router.compile.readers.gguf import GgufReader
from edge_router.errors import EdgeRouterError, InvalidModel, UnsupportedArchitecture, WeightsCorrupt

Q = gguf.GGMLQuantizationType


def test_a_file_reads_as_the_checkpoint_it_was_made_from(tiny_llama: Any) -> None:
    reader = open_weights(tiny_llama.gguf)
    assert set(reader.tensors) == set(tiny_llama.tensors)
    for name, tensor in tiny_llama.tensors.items():
        assert reader.tensors[name].shape == tensor.shape
        np.testing.assert_array_equal(reader.rows(name), tensor)
    reader.close()


def test_its_config_is_the_checkpoints(tiny_llama: Any) -> None:
    config = GgufReader(tiny_llama.gguf).config
    assert config == tiny_llama.config


def test_a_range_of_rows_is_that_range(tiny_llama: Any) -> None:
    reader = GgufReader(tiny_llama.gguf)
    name = "model.layers.1.self_attn.q_proj.weight"
    np.testing.assert_array_equal(reader.rows(name, 5, 41), tiny_llama.tensors[name][5:41])
    np.testing.assert_array_equal(
        reader.rows("model.norm.weight", 3, 9), tiny_llama.tensors["model.norm.weight"][3:9]
    )


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_1", "Q8_0", "F16", "BF16"])
def test_quantized_tensors_are_dequantized(
    kind: str, tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    tiny.write_gguf(tmp_path / "q.gguf", tiny_llama.config, tiny_llama.tensors, {name: Q[kind]})
    reader = GgufReader(tmp_path / "q.gguf")
    assert reader.tensors[name].dtype == kind
    exact = gguf.quants.dequantize(gguf.quants.quantize(tiny_llama.tensors[name], Q[kind]), Q[kind])
    np.testing.assert_array_equal(reader.rows(name), exact)


# All that ggml has for weights, and that gguf-py can dequantize.
CODED = (
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"),
    *("TQ1_0", "TQ2_0", "MXFP4", "NVFP4"),
)


def test_every_coded_type_is_read(tiny: ModuleType, tiny_llama: Any, tmp_path: Path) -> None:
    """Up to 256 columns to a block; the gguf package can read these and not write most of them."""
    name = "model.layers.0.mlp.gate_proj.weight"
    rows = tiny.random_tensors(tiny_llama.config | {"hidden_size": 256, "num_hidden_layers": 1}, 1)[name]
    for kind in (Q[coded] for coded in CODED):
        file, (block, length) = tmp_path / f"{kind.name}.gguf", gguf.GGML_QUANT_SIZES[kind]
        writer = gguf.GGUFWriter(file, "llama")
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        sizes = {"embedding_length": 256, "feed_forward_length": len(rows), "attention.head_count": 4}
        for key, value in ({"context_length": 64, "block_count": 1} | sizes).items():
            writer.add_uint32(f"llama.{key}", value)
        size = (len(rows), 256 // block * length)
        raw = np.random.default_rng(2).integers(0, 60, size, dtype=np.uint8)
        writer.add_tensor("token_embd.weight", np.zeros((8, 256), np.float32))
        writer.add_tensor("blk.0.ffn_gate.weight", raw, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        reader = GgufReader(file)
        assert (reader.tensors[name].shape, reader.tensors[name].dtype) == (rows.shape, kind.name)
        found, wanted = reader.rows(name, 1, 3), gguf.quants.dequantize(raw, kind)[1:3]
        np.testing.assert_array_equal(found, wanted, err_msg=kind.name)
        assert wanted.any(), kind.name


def of_type(file: Path, name: str, number: int) -> Path:
    """`file` with another type stated for the tensor `name` (GGUF's name)."""
    content = bytearray(file.read_bytes())
    at = content.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    (rank,) = struct.unpack_from("<I", content, at)
    struct.pack_into("<I", content, at + 4 + 8 * rank, number)
    changed = file.with_name(f"type-{number}.gguf")
    changed.write_bytes(content)
    return changed


@pytest.mark.parametrize("number", [4, 5, 31, 38, 77, 2**31, 24])  # removed ones, later ones, whole numbers
def test_a_type_that_this_version_does_not_know_is_no_damage(
    number: int, tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    tiny.write_gguf(tmp_path / "plain.gguf", tiny_llama.config, tiny_llama.tensors)
    file = of_type(tmp_path / "plain.gguf", "blk.0.ffn_gate.weight", number)
    with pytest.raises(InvalidModel) as caught:
        GgufReader(file)
    said = caught.value.reason
    assert said.startswith("blk.0.ffn_gate.weight is of a type that this version can't read (")
    assert str(number) in said and "it reads F32, F16, Q4_0" in said and "damaged" not in said


def test_the_tokenizer_is_the_one_in_the_metadata(tiny_llama: Any) -> None:
    reader = GgufReader(tiny_llama.gguf)
    files = reader.tokenizer_files()
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    text = "<|im_start|>user\nthe band 42 – größer\n<|im_end|>"
    encoding = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(encoding.ids, skip_special_tokens=False) == text
    assert encoding.tokens[:1] == ["<|im_start|>"] and encoding.ids[-1] == 2
    assert {"the", "and"} & set(encoding.tokens)  # merges are applied
    assert "42" not in encoding.tokens  # SmolLM's digits stand alone
    described = json.loads(files["tokenizer_config.json"])
    assert described["eos_token"] == "<|im_end|>" and "add_generation_prompt" in described["chat_template"]


def test_every_token_that_ends_an_answer_is_known(tiny_llama: Any) -> None:
    assert GgufReader(tiny_llama.gguf).generation == {"bos_token_id": 1, "eos_token_id": [2, 0]}


def test_a_beginning_of_text_token_is_added_where_the_model_wants_one(
    tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    extra = {"tokenizer.ggml.add_bos_token": True}
    tiny.write_gguf(tmp_path / "b.gguf", tiny_llama.config, tiny_llama.tensors, extra=extra)
    files = GgufReader(tmp_path / "b.gguf").tokenizer_files()
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    assert tokenizer.encode("a").ids[0] == 1
    assert json.loads(files["tokenizer_config.json"])["add_bos_token"] is True


def llama3_tokenizer(tiny: ModuleType, tiny_llama: Any, file: Path, cut: str) -> GgufReader:
    tiny.write_gguf(file, tiny_llama.config, tiny_llama.tensors)
    reader = GgufReader(file)
    reader._file.fields["tokenizer.ggml.pre"] = cut
    return reader


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("gpt-2", ["it", "'s", "Ġ12345", "Ġ", "ĠOkAY"]),
        ("smollm", ["it", "'s", "Ġ", *"12345", "Ġ", "ĠOkAY"]),
        ("llama-bpe", ["it", "'s", "Ġ", "123", "45", "Ġ", "ĠOkAY"]),
        ("qwen2", ["it", "'s", "Ġ", *"12345", "Ġ", "ĠOkAY"]),
        ("deepseek-r1-qwen", ["it", "'s", "Ġ", *"12345", "Ġ", "ĠOkAY"]),
        ("gpt-4o", ["it's", "Ġ", "123", "45", "Ġ", "ĠOk", "AY"]),
    ],
)
def test_text_is_cut_as_the_model_was_trained(
    cut: str, expected: list[str], tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    """By their own patterns: numbers whole, in threes or digit by digit; capitals, what is put off."""
    reader = llama3_tokenizer(tiny, tiny_llama, tmp_path / "l.gguf", cut)
    tokenizer = Tokenizer.from_str(reader.tokenizer_files()["tokenizer.json"].decode())
    assert tokenizer.pre_tokenizer is not None
    assert [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str("it's 12345  OkAY")] == expected


def test_an_unknown_way_of_cutting_is_an_error_that_lists_the_known_ones(
    tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    reader = llama3_tokenizer(tiny, tiny_llama, tmp_path / "u.gguf", "klingon")
    with pytest.raises(InvalidModel, match="'klingon'; known ways: gpt-2, mpt"):
        reader.tokenizer_files()


def test_other_kinds_of_tokenizers_are_refused(tiny_llama: Any) -> None:
    reader = GgufReader(tiny_llama.gguf)
    reader._file.fields["tokenizer.ggml.model"] = "rwkv"
    with pytest.raises(InvalidModel, match="kind 'rwkv'"):
        reader.tokenizer_files()
    reader._file.fields |= {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": None}
    with pytest.raises(InvalidModel, match="no merges"):
        reader.tokenizer_files()


def test_llama_3_rope_scaling_is_recognised_by_its_factors(
    tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    # Of transformers' _compute_llama3_parameters for head_dim 16 and theta 500000.
    expected = np.array([1, 1, 1, 1, 1.9198, 32, 32, 32], np.float32)
    config = tiny_llama.config | {"rope_theta": 500000.0}
    file = tmp_path / "rope.gguf"
    tiny.write_gguf(file, config, {**tiny_llama.tensors, "rope_freqs.weight": llama3_factors(500000.0)})
    reader = GgufReader(file)
    assert reader.config["rope_scaling"] == scaling
    np.testing.assert_allclose(reader.rows("rope_freqs.weight")[[0, 5, 7]], expected[[0, 5, 7]])
    wrong = {**tiny_llama.tensors, "rope_freqs.weight": np.linspace(1, 9, 8, dtype=np.float32)}
    tiny.write_gguf(tmp_path / "wrong.gguf", config, wrong)
    with pytest.raises(InvalidModel, match="not Llama 3's"):
        _ = GgufReader(tmp_path / "wrong.gguf").config


def test_pairs_that_stand_still_are_proportional_rope(
    tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    factors = np.array([1, 1, 1, *[1e30] * 5], np.float32)  # as llama.cpp's converter writes Gemma 4's
    file = tmp_path / "proportional.gguf"
    tiny.write_gguf(file, tiny_llama.config, {**tiny_llama.tensors, "rope_freqs.weight": factors})
    scaling = GgufReader(file).config["rope_scaling"]
    assert scaling == {"rope_type": "proportional", "partial_rotary_factor": 3 / 8}


def llama3_factors(theta: float) -> np.ndarray:
    """Written out from the paper's text: long waves are slowed 32 times, short ones not, between them both."""
    factors = []
    for pair in range(8):
        wavelength = 2 * np.pi * theta ** (2 * pair / 16)
        if wavelength < 8192 / 4:
            factors.append(1.0)
        elif wavelength > 8192 / 1:
            factors.append(32.0)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / 32 + smooth))
    return np.array(factors, np.float32)


def test_an_unknown_rope_scaling_is_refused(tiny: ModuleType, tiny_llama: Any, tmp_path: Path) -> None:
    extra = {"llama.rope.scaling.type": "dynamic"}
    tiny.write_gguf(tmp_path / "d.gguf", tiny_llama.config, tiny_llama.tensors, extra=extra)
    with pytest.raises(InvalidModel, match="dynamic"):
        _ = GgufReader(tmp_path / "d.gguf").config


def test_missing_and_wrong_metadata_is_named(tiny_llama: Any) -> None:
    reader = GgufReader(tiny_llama.gguf)
    del reader._file.fields["llama.block_count"]
    with pytest.raises(InvalidModel, match=r"no llama.block_count"):
        _ = reader.config
    reader._file.fields["llama.block_count"] = "two"
    with pytest.raises(InvalidModel, match="'two', not a whole number"):
        _ = reader.config
    reader._file.fields["llama.block_count"] = 2
    reader._file.fields["llama.attention.head_count"] = 0
    with pytest.raises(InvalidModel, match="0 attention heads"):
        _ = reader.config
    with pytest.raises(InvalidModel, match=r"no tensor nonsense.weight; it holds 20"):
        reader.rows("nonsense.weight")


def test_a_file_without_an_embedding_is_refused(tiny: ModuleType, tiny_llama: Any, tmp_path: Path) -> None:
    tensors = {name: t for name, t in tiny_llama.tensors.items() if "embed" not in name}
    tiny.write_gguf(tmp_path / "e.gguf", tiny_llama.config, tensors)
    with pytest.raises(InvalidModel, match=r"holds no tensor token_embd.weight"):
        _ = GgufReader(tmp_path / "e.gguf").config


def test_tensors_that_llama_has_no_place_for_are_refused(
    tiny: ModuleType, tiny_llama: Any, tmp_path: Path
) -> None:
    tensors = {**tiny_llama.tensors, "ssm_conv1d.weight": np.ones((1, 32), np.float32)}
    tiny.write_gguf(tmp_path / "s.gguf", tiny_llama.config, tensors)
    for read in (gguf_config, lambda path: GgufReader(path).config):  # what plans and what compiles
        with pytest.raises(InvalidModel, match="ssm_conv1d"):
            read(tmp_path / "s.gguf")


def test_other_architectures_are_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedArchitecture, match="'mamba' is not supported; supported: llama"):
        GgufReader(tmp_path / "m.gguf")


def damaged(content: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "damaged.gguf"
    file.write_bytes(content)
    return file


def test_a_file_cut_short_says_what_was_expected(tiny_llama: Any, tmp_path: Path) -> None:
    whole = tiny_llama.gguf.read_bytes()
    with pytest.raises(WeightsCorrupt, match=rf"expected {len(whole)} bytes .*found {len(whole) - 32} bytes"):
        GgufReader(damaged(whole[:-32], tmp_path))
    for length in (60, 700, 4000):
        with pytest.raises(WeightsCorrupt, match=rf"at least|fit into {length} bytes"):
            GgufReader(damaged(whole[:length], tmp_path))
    with pytest.raises(WeightsCorrupt, match="header of 24 bytes, found 10 bytes"):
        GgufReader(damaged(whole[:10], tmp_path))


def test_what_is_no_gguf_file_says_so(tiny_llama: Any, tmp_path: Path) -> None:
    whole = tiny_llama.gguf.read_bytes()
    with pytest.raises(WeightsCorrupt, match="found b'<htm"):
        GgufReader(damaged(b"<html>" + whole, tmp_path))
    with pytest.raises(InvalidModel, match="version 9"):
        GgufReader(damaged(whole[:4] + struct.pack("<I", 9) + whole[8:], tmp_path))


def test_absurd_counts_allocate_nothing(tiny_llama: Any, tmp_path: Path) -> None:
    whole = tiny_llama.gguf.read_bytes()
    for at in (8, 16):  # tensors, fields
        content = whole[:at] + struct.pack("<Q", 2**60) + whole[at + 8 :]
        with pytest.raises(WeightsCorrupt, match="1152921504606846976 of them"):
            GgufReader(damaged(content, tmp_path))


@pytest.fixture(scope="module")
def header(tiny_llama: Any) -> bytes:
    return tiny_llama.gguf.read_bytes()


@given(data=st.data())
def test_no_damage_to_the_header_escapes_as_another_error(
    data: st.DataObject, header: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = data.draw(st.integers(0, 9000))
    content = bytearray(header)
    content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    file = tmp_path_factory.getbasetemp() / "fuzzed.gguf"
    file.write_bytes(content)
    try:
        reader = GgufReader(file)
        _ = reader.config, reader.tensors
        reader.close()
    except EdgeRouterError as error:
        assert str(file) in str(error) or isinstance(error, UnsupportedArchitecture)
