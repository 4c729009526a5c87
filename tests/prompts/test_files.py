"""The chat template of a model directory, wherever it lies: for what runs it and for what packs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge_router.compile.readers.folder import Folder
from edge_router.errors import InvalidModel
from edge_router.hub.choosing import choose
from edge_router.prompts.files import template_of

PLACES: Mapping[str, tuple[str, str]] = {
    "file": ("chat_template.jinja", "T"),
    "older file": ("chat_template.json", json.dumps({"chat_template": "T"})),
    "older file, named": (
        "chat_template.json",
        json.dumps({"chat_template": {"tools": "x", "default": "T"}}),
    ),
    "config": ("tokenizer_config.json", json.dumps({"chat_template": "T"})),
    "config, named": (
        "tokenizer_config.json",
        json.dumps(
            {"chat_template": [{"name": "rag", "template": "x"}, {"name": "default", "template": "T"}]}
        ),
    ),
    "config, one name": (
        "tokenizer_config.json",
        json.dumps({"chat_template": [{"name": "rag", "template": "T"}]}),
    ),
    "folder": ("additional_chat_templates/default.jinja", "T"),
    "folder, one name": ("additional_chat_templates/tool_use.jinja", "T"),
}


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("place", PLACES)
def test_the_template_is_found_packed_and_fetched(tmp_path: Path, place: str) -> None:
    name, text = PLACES[place]
    for other in ("tokenizer.json", "tokenizer_config.json"):
        write(tmp_path, other, '{"eos_token": "é"}')
    write(tmp_path, name, text)
    assert template_of(tmp_path) == "T"
    packed = json.loads(Folder(tmp_path).tokenizer_files()["tokenizer_config.json"])
    assert packed["chat_template"] == "T"
    assert name in choose([name, "model.safetensors", "config.json"])


def test_the_newer_place_comes_first(tmp_path: Path) -> None:
    order = ["file", "older file", "config", "folder"]
    for number, place in enumerate(order):
        name, text = PLACES[place]
        write(tmp_path, name, text.replace("T", f"T{number}"))
    for number, place in enumerate(order):
        assert template_of(tmp_path) == f"T{number}"
        (tmp_path / PLACES[place][0]).unlink()
    assert template_of(tmp_path) is None


@pytest.mark.parametrize("name", ["chat_template.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\udcff"])
def test_what_is_no_object_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidModel, match=name.replace(".", "[.]")):
        template_of(tmp_path)
