"""The header of a GGUF file, read without its tensors."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from edge_router.catalog import find_model
from edge_router.catalog.gguf import gguf_config
from edge_router.errors import InvalidModel


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """Written by the gguf package, so by the format's own authors."""
    import gguf
    import numpy as np

    path = tmp_path / "Tiny.Q8_0.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_token_list([f"token{number}" for number in range(100)])
    writer.add_token_scores([0.5] * 100)
    writer.add_token_types([1] * 100)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_tensor("token_embd.weight", np.zeros((100, 64), np.float32))
    writer.add_tensor("output_norm.weight", np.zeros(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_numbers_come_under_their_hugging_face_names(gguf_file: Path) -> None:
    assert gguf_config(gguf_file) == {
        "model_type": "llama",
        "max_position_embeddings": 4096,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": 100,
        "tie_word_embeddings": True,
    }
    card = find_model(str(gguf_file))
    assert card.name == "Tiny.Q8_0" and card.architecture == "llama" and card.max_context == 4096
    assert find_model(str(gguf_file.parent)).config == card.config  # the only one in its folder


def test_two_files_in_a_folder_are_no_model_by_themselves(gguf_file: Path) -> None:
    gguf_file.with_name("other.gguf").write_bytes(gguf_file.read_bytes())
    with pytest.raises(InvalidModel, match="nor a single"):
        find_model(str(gguf_file.parent))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5])
def test_a_cut_header_is_said(gguf_file: Path, share: float) -> None:
    content = gguf_file.read_bytes()
    gguf_file.write_bytes(content[: int(3000 * share)])
    with pytest.raises(InvalidModel, match="not a readable GGUF file"):
        gguf_config(gguf_file)


def header(
    version: int = 3, *, key: bytes = b"general.architecture", kind: int = 8, value: bytes = b""
) -> bytes:
    return struct.pack("<4sIQQQ", b"GGUF", version, 0, 1, len(key)) + key + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GGML" + b"\0" * 60, "does not begin with GGUF"),
        (header(1), "version 1 is not 2 or 3"),
        (header(kind=8, value=struct.pack("<Q", 1 << 40)), "a string of 1099511627776 bytes"),
        (header(kind=9, value=struct.pack("<IQ", 9, 1)), "an array of arrays"),
        (header(kind=77), "77"),
        (header(key=b"x", kind=8, value=struct.pack("<Q", 1) + b"y"), "general.architecture is missing"),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(InvalidModel, match=said):
        gguf_config(tmp_path / "bad.gguf")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read"):
        gguf_config(tmp_path / "none.gguf")
