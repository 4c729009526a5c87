"""MLC directories: every kind of damage is found, and each storage form is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.compile.readers import open_weights
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.quantize import supported
from edge_router.errors import InvalidModel, WeightsCorrupt
from edge_router.store.tensor_index import records


def write(source: Path, folder: Path, form: str = "q4f16_1") -> Path:
    folder.mkdir()
    reader = open_weights(source)
    write_model(
        reader,
        folder,
        config={},
        form=supported(form),
        quantizer="round",
        activations=Activations(),
        windows=PackageWindows(128, 32),
    )
    reader.close()
    return folder


@pytest.fixture(scope="module")
def directory(tiny_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tiny_llama.gguf, tmp_path_factory.mktemp("mlc") / "model")


def copied(directory: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in directory.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_changed_byte_is_found(directory: Path, tmp_path: Path) -> None:
    folder = copied(directory, tmp_path)
    content = bytearray((folder / "params_shard_0.bin").read_bytes())
    content[1000] ^= 1
    (folder / "params_shard_0.bin").write_bytes(content)
    assert records(folder)
    with pytest.raises(WeightsCorrupt, match=r"params_shard_0.bin is damaged: expected md5"):
        records(folder, hashes=True)


def test_a_short_or_missing_shard_is_found(directory: Path, tmp_path: Path) -> None:
    folder = copied(directory, tmp_path)
    shard = folder / "params_shard_0.bin"
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(WeightsCorrupt, match=f"expected {size} bytes, found {size - 1} bytes"):
        records(folder)
    shard.unlink()
    with pytest.raises(WeightsCorrupt, match="found no such file"):
        records(folder)


def test_an_index_that_makes_no_sense_is_found(directory: Path, tmp_path: Path) -> None:
    folder = copied(directory, tmp_path)
    file = folder / "tensor-cache.json"
    index = json.loads(file.read_text())
    index["records"][0]["records"][0]["byteOffset"] = 10**9
    file.write_text(json.dumps(index))
    with pytest.raises(WeightsCorrupt, match="at 1000000000"):
        records(folder)
    del index["records"][0]["records"][0]["shape"]
    file.write_text(json.dumps(index))
    with pytest.raises(WeightsCorrupt, match="records of shards and arrays"):
        records(folder)
    file.unlink()
    with pytest.raises(InvalidModel, match=r"neither tensor-cache.json nor ndarray-cache.json"):
        records(folder)


def test_a_directory_that_lacks_a_parameter_is_no_checkpoint(directory: Path, tmp_path: Path) -> None:
    folder = copied(directory, tmp_path)
    file = folder / "tensor-cache.json"
    index = json.loads(file.read_text())
    shard = index["records"][0]
    shard["records"] = [record for record in shard["records"] if "layers.1.mlp.down" not in record["name"]]
    file.write_text(json.dumps(index))
    with pytest.raises(InvalidModel, match=r"no tensor model.layers.1.mlp.down_proj"):
        open_weights(folder)


def test_a_layout_of_another_format_is_refused(directory: Path, tmp_path: Path) -> None:
    """q4f16_0 stores everything transposed."""
    folder = copied(directory, tmp_path)
    file = folder / "tensor-cache.json"
    index = json.loads(file.read_text())
    for record in index["records"][0]["records"]:
        record["shape"] = record["shape"][::-1]
    file.write_text(json.dumps(index))
    with pytest.raises(InvalidModel, match=r"its configuration takes"):
        open_weights(folder)


def test_float32_that_lies_as_bfloat16_is_read(tmp_path: Path, tiny_llama: Any) -> None:
    """MLC's writer stores float32 so, and says it in the record's format."""
    folder = write(tiny_llama.folder, tmp_path / "m", "q0f32")
    index = json.loads((folder / "tensor-cache.json").read_text())
    shard = index["records"][0]
    content = (folder / shard["dataPath"]).read_bytes()
    halves, at = b"", 0
    for record in shard["records"]:
        raw = np.frombuffer(content, "<u4", record["nbytes"] // 4, record["byteOffset"])
        halves += (raw >> 16).astype("<u2").tobytes()
        record |= {"format": "f32-to-bf16", "nbytes": record["nbytes"] // 2, "byteOffset": at}
        at = len(halves)
    (folder / shard["dataPath"]).write_bytes(halves)
    shard["nbytes"] = len(halves)
    (folder / "tensor-cache.json").write_text(json.dumps(index))
    reader = open_weights(folder)
    for name, tensor in tiny_llama.tensors.items():
        np.testing.assert_allclose(reader.rows(name), tensor, rtol=1e-2)


def test_a_directory_without_its_companions_says_what_is_missing(directory: Path, tmp_path: Path) -> None:
    folder = copied(directory, tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InvalidModel, match=r"tokenizer.json missing"):
        open_weights(folder).tokenizer_files()
    (folder / "mlc-chat-config.json").write_text("{}")
    with pytest.raises(InvalidModel, match="has no model_config"):
        open_weights(folder)
