"""Hashes of content, remembered for as long as nothing changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_router.catalog import LocalSource
from edge_router.errors import WeightsUnavailable
from edge_router.hub import content_hash, fetch, remove_fetched, target_of
from edge_router.hub.choosing import choose
from edge_router.system.paths import Paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    from edge_router.hub import hashing

    seen: list[str] = []
    real = hashing.file_sha256

    def counting(file: Path, advance: Any = None) -> str:
        seen.append(file.name)
        return real(file, advance)

    monkeypatch.setattr(hashing, "file_sha256", counting)
    return seen


def test_a_file_is_read_once(tmp_path: Path, reads: list[str], progress: Any) -> None:
    file, memory = tmp_path / "model.gguf", tmp_path / "memory"
    file.write_bytes(b"weights" * 1000)
    expected = hashlib.sha256(b"weights" * 1000).hexdigest()
    assert content_hash(file, memory=memory, progress=progress) == expected
    assert progress.steps == {"check": (7000, 7000)}
    assert content_hash(file, memory=memory) == expected and reads == ["model.gguf"]


def test_the_memory_lies_below_the_downloads_and_never_beside_the_file(tmp_path: Path, paths: Paths) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.gguf").write_bytes(b"weights")
    content_hash(mine / "model.gguf")
    assert [file.name for file in mine.iterdir()] == ["model.gguf"]
    assert len(list((paths.downloads / "hashes").glob("*.json"))) == 1


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    file, memory = tmp_path / "model.gguf", tmp_path / "memory"
    file.write_bytes(b"one")
    before, status = content_hash(file, memory=memory), file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    if os.name != "nt":
        assert content_hash(file, memory=memory) != before


def test_a_folder_counts_names_and_contents_but_no_hidden_files(tmp_path: Path, reads: list[str]) -> None:
    folder, memory = tmp_path / "model", tmp_path / "memory"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "a.bin").write_bytes(b"a")
    first = content_hash(folder, memory=memory)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("x")
    assert content_hash(folder, memory=memory) == first
    (folder / "b.bin").write_bytes(b"b")
    second = content_hash(folder, memory=memory)
    assert second != first and reads == ["config.json", "a.bin", "b.bin"]  # only what is new is read
    (folder / "b.bin").rename(folder / "c.bin")
    assert content_hash(folder, memory=memory) != second


def test_a_memory_that_cannot_be_kept_or_read_costs_only_time(tmp_path: Path) -> None:
    file, memory = tmp_path / "model.gguf", tmp_path / "memory"
    file.write_bytes(b"weights")
    expected = content_hash(file, memory=memory)
    for note in memory.glob("*.json"):
        note.write_text("[1")
    assert content_hash(file, memory=memory) == expected
    memory_is_a_file = tmp_path / "occupied"
    memory_is_a_file.write_text("x")
    assert content_hash(file, memory=memory_is_a_file) == expected


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        content_hash(tmp_path / "nothing", memory=tmp_path / "memory")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=4), min_size=1), st.data())
def test_two_folders_hash_alike_only_if_they_are(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], data: st.DataObject
) -> None:
    other = dict(files)
    if data.draw(st.booleans()):
        other[data.draw(st.sampled_from("abcdefg"))] = data.draw(st.binary(max_size=4))
    hashes = []
    for content in (files, other):
        folder = tmp_path_factory.mktemp("model")
        for name, value in content.items():
            (folder / name).write_bytes(value)
        hashes.append(content_hash(folder, memory=folder / ".memory"))
    assert (hashes[0] == hashes[1]) == (files == other)


def test_the_users_own_files_are_taken_as_they_are(tmp_path: Path) -> None:
    assert fetch(LocalSource(tmp_path), tmp_path / "downloads", offline=True) == tmp_path
    with pytest.raises(WeightsUnavailable, match="no such file or folder"):
        fetch(LocalSource(tmp_path / "gone"), tmp_path / "downloads")
    assert not (tmp_path / "downloads").exists()
    remove_fetched(LocalSource(tmp_path), tmp_path / "downloads")
    assert target_of(LocalSource(tmp_path), tmp_path / "downloads") == tmp_path and tmp_path.exists()


COMMON = ["config.json", "tokenizer.json", "README.md"]


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin"], {"model.safetensors"}),
        (["consolidated.safetensors", "model.safetensors"], {"model.safetensors"}),
        (["weights.safetensors"], {"weights.safetensors"}),
        (["pytorch_model.bin", "onnx/model.onnx", "original/model.safetensors"], {"pytorch_model.bin"}),
        (["params_shard_0.bin", "params_shard_1.bin"], {"params_shard_0.bin", "params_shard_1.bin"}),
        (["only.gguf"], {"only.gguf"}),
        (["a.gguf", "b.gguf"], None),
        ([], None),
    ],
)
def test_weights_are_chosen_in_one_format_only(weights: list[str], chosen: set[str] | None) -> None:
    found = set(choose([*COMMON, *weights]))
    described = set() if chosen == {"only.gguf"} else {"config.json", "tokenizer.json"}  # all is in its file
    assert found == (set() if chosen is None else chosen | described)


def test_sharded_safetensors_come_with_their_index() -> None:
    names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert choose(names) == names
    assert choose([*names, "q.gguf"], ["*.gguf"]) == ["q.gguf"]
