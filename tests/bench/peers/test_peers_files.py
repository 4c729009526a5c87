"""GGUF files for other programs: as our own reader finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_router.bench.peers.files import drawn, form_of, requantized
from edge_router.compile.readers.gguf import GgufReader
from edge_router.errors import UnsupportedArchitecture

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 320,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 2048,
}


def test_a_drawn_file_has_the_models_shape(tmp_path: Path) -> None:
    for kind, tied in (("llama", True), ("qwen3", False)):
        config = {"model_type": kind, "tie_word_embeddings": tied, **SHAPE}
        drawn(config, tmp_path / f"{kind}.gguf")
        reader = GgufReader(tmp_path / f"{kind}.gguf")
        assert {name: reader.config[name] for name in config} == pytest.approx(config), kind
        kinds = {tensor.dtype for tensor in reader.tensors.values() if len(tensor.shape) == 2}
        assert kinds == {"Q4_0"} and form_of(tmp_path / f"{kind}.gguf") == "Q4_0", kind
        assert ("lm_head.weight" in reader.tensors) is not tied, kind
        first, second = reader.rows("model.embed_tokens.weight", 0, 2)
        assert 0 < np.abs(first).max() < 0.1 and not np.array_equal(first, second), kind
        assert len(reader.tokenizer_files()) > 0, kind


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitecture, match="phi3"):
        drawn({"model_type": "phi3", **SHAPE}, tmp_path / "m.gguf")


def test_a_file_in_q4_0_has_the_same_numbers_but_for_rounding(tmp_path: Path) -> None:
    from gguf import GGUFReader, GGUFWriter
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    config = {"model_type": "llama", "tie_word_embeddings": True, **SHAPE}
    drawn(config, tmp_path / "drawn.gguf")
    source = tmp_path / "source.gguf"
    writer = GGUFWriter(source, "llama")
    numbers = np.random.default_rng(0)
    kept = GGUFReader(tmp_path / "drawn.gguf")
    for name, field in kept.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in kept.tensors:
        shape = tuple(int(length) for length in reversed(tensor.shape))
        values = numbers.standard_normal(shape, np.float32)
        if len(shape) == 1:
            writer.add_tensor(tensor.name, values)
        else:
            eight = quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor.name, eight, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    requantized(source, tmp_path / "four.gguf")
    before, after = GgufReader(source), GgufReader(tmp_path / "four.gguf")
    assert before.config == after.config and before.tokenizer_files() == after.tokenizer_files()
    assert (form_of(source), form_of(tmp_path / "four.gguf")) == ("Q8_0", "Q4_0")
    assert GGUFReader(tmp_path / "four.gguf").fields["general.file_type"].contents() == 2
    assert before.tensors.keys() == after.tensors.keys()
    for name, tensor in before.tensors.items():
        old, new = before.rows(name), after.rows(name)
        if len(tensor.shape) == 1:
            assert np.array_equal(old, new), name
        else:
            assert 0 < np.abs(old - new).max() < 0.5 and np.corrcoef(old.ravel(), new.ravel())[0, 1] > 0.98, (
                name
            )
