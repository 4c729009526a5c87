"""pytorch_model.bin: tensors and nothing else, whole or in shards, and nothing that runs code."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.cli.terminal.sentences import sentence
from edge_router.compile.readers import open_weights
from edge_router.compile.readers.safetensors import SafetensorsReader
from edge_router.errors import InvalidModel, MissingExtra, WeightsCorrupt

pytestmark = pytest.mark.reference


@pytest.fixture
def folder(tiny_llama: Any, tmp_path: Path) -> Path:
    """The tiny model as pytorch_model.bin, without its safetensors."""
    copy = Path(shutil.copytree(tiny_llama.folder, tmp_path / "copy"))
    (copy / "model.safetensors").unlink()
    save(state(tiny_llama), copy / "pytorch_model.bin")
    return copy


def save(content: Any, file: Path, **how: Any) -> None:
    import torch

    torch.save(content, file, **how)


def state(made: Any) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(tensor.copy()) for name, tensor in made.tensors.items()}


def check_same(found: Any, made: Any) -> None:
    assert set(found.tensors) == set(made.tensors)
    for name, tensor in made.tensors.items():
        np.testing.assert_array_equal(found.rows(name), tensor)
        assert found.tensors[name].shape == tensor.shape


def test_it_reads_as_the_safetensors_do(folder: Path, tiny_llama: Any) -> None:
    reader = open_weights(folder)
    check_same(reader, tiny_llama)
    other = open_weights(tiny_llama.folder)
    assert (reader.config, reader.generation) == (other.config, other.generation)
    assert reader.tokenizer_files() == other.tokenizer_files()
    name = "model.layers.0.mlp.up_proj.weight"
    np.testing.assert_array_equal(reader.rows(name, 3, 9), tiny_llama.tensors[name][3:9])
    reader.rows(name)[:] = 0  # what is given may be changed, the file is not
    np.testing.assert_array_equal(reader.rows(name), tiny_llama.tensors[name])
    with pytest.raises(InvalidModel, match="no tensor nonsense"):
        reader.rows("nonsense")
    reader.close()
    check_same(open_weights(folder / "pytorch_model.bin"), tiny_llama)


def test_shards_and_what_they_lack(folder: Path, tiny_llama: Any) -> None:
    (folder / "pytorch_model.bin").unlink()
    tensors = list(state(tiny_llama).items())
    files = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    for file, part in zip(files, (tensors[:9], tensors[9:]), strict=True):
        save(dict(part), folder / file)
    with pytest.raises(InvalidModel, match=r"2 files of weights .* and no pytorch_model.bin.index.json"):
        open_weights(folder)
    homes = {name: files[number >= 9] for number, (name, _) in enumerate(tensors)}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": homes}))
    check_same(open_weights(folder), tiny_llama)
    index.write_text(json.dumps({"weight_map": homes | {"extra": files[0]}}))
    with pytest.raises(InvalidModel, match="no tensor extra"):
        open_weights(folder)
    (folder / files[1]).unlink()
    with pytest.raises(InvalidModel, match=rf"{files[1]}, which pytorch_model.bin.index.json names, is miss"):
        open_weights(folder)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_every_float_type_becomes_float32(dtype: str, folder: Path) -> None:
    import torch

    values = torch.linspace(-3, 3, 60).reshape(20, 3).to(getattr(torch, dtype))
    save({"a": values}, folder / "pytorch_model.bin")
    reader = open_weights(folder)
    assert reader.tensors["a"].dtype == dtype and reader.rows("a").dtype == np.float32
    np.testing.assert_array_equal(reader.rows("a", 4, 9), values[4:9].float().numpy())


def test_the_format_before_torch_1_6(folder: Path, tiny_llama: Any) -> None:
    file = folder / "pytorch_model.bin"
    save(state(tiny_llama), file, _use_new_zipfile_serialization=False)
    check_same(open_weights(folder), tiny_llama)


def test_safetensors_come_first(folder: Path, tiny_llama: Any) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"nonsense")
    shutil.copy(tiny_llama.folder / "model.safetensors", folder)
    assert isinstance(open_weights(folder), SafetensorsReader)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> Any:
        return Path.write_text, (self._target, "code ran")


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
def test_code_is_never_run(how: str, folder: Path, tiny_llama: Any, tmp_path: Path) -> None:
    target, file = tmp_path / "ran", folder / "pytorch_model.bin"
    content = {**state(tiny_llama), "evil": Malicious(target)}
    if how == "plain pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        save(content, file, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(InvalidModel, match=r"it holds \S+, which could run code"):
        open_weights(folder)
    assert not target.exists()


@pytest.mark.parametrize("content", [{"a": 1}, ["a"], {"model": {"a": 2.5}}])
def test_other_things_than_tensors_by_name(content: Any, folder: Path) -> None:
    save(content, folder / "pytorch_model.bin")
    with pytest.raises(InvalidModel, match="something else than tensors by name"):
        open_weights(folder)


@pytest.mark.parametrize("kept", [0, 3, 40, -1, -500])
def test_a_file_cut_short_is_damage(kept: int, folder: Path) -> None:
    file = folder / "pytorch_model.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:kept])
    with pytest.raises(WeightsCorrupt, match=r"pytorch_model.bin.*expected .* found"):
        open_weights(folder)


def test_without_torch_the_sentence_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"reading pytorch_model.bin needs the package torch") as caught:
        open_weights(folder)
    assert "edge-router[torch]" in sentence(caught.value)
