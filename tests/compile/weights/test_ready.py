"""MLC directories that need no quantizing, today's and older ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_router.catalog import find_model
from edge_router.compile.build_context import Workshop
from edge_router.compile.make_weights import WeightsStep
from edge_router.compile.readers import open_weights
from edge_router.compile.readers.mlc import records
from edge_router.compile.recipe import BuildSettings, recipe
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.quantize import supported
from edge_router.compile.weights.ready import bring_up_to_date, chat_config, is_current, is_ready
from edge_router.config.settings import Config
from edge_router.errors import InvalidModel, WeightsCorrupt
from edge_router.system.paths import Paths
from edge_router.types import SilentProgress


@pytest.fixture
def directory(tiny_llama: Any, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write_model(
        open_weights(tiny_llama.folder),
        folder,
        config={},
        form=supported("q4f16_1"),
        quantizer="signed",
        activations=Activations(),
        windows=PackageWindows(128, 32),
    )
    return folder


def rewrite(folder: Path, **changes: object) -> None:
    file = folder / "mlc-chat-config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def make_old(folder: Path, name: str = "chatml") -> None:
    (folder / "tensor-cache.json").rename(folder / "ndarray-cache.json")
    rewrite(folder, conv_template=name)


def test_todays_directory_is_used_as_it_is(directory: Path, tiny_llama: Any) -> None:
    assert is_ready(directory) and is_current(directory, "q4f16_1")
    assert not is_ready(tiny_llama.folder)


def test_another_format_than_the_wanted_is_an_error(directory: Path) -> None:
    with pytest.raises(InvalidModel, match="holds q4f16_1 weights, not q0f16"):
        is_current(directory, "q0f16")


def test_an_older_directory_is_brought_up_to_date(directory: Path, tmp_path: Path) -> None:
    make_old(directory)
    (directory / ".git").mkdir()
    (directory / ".gitattributes").write_text("*.bin lfs")
    assert not is_current(directory, "q4f16_1")
    renewed = tmp_path / "renewed"
    renewed.mkdir()
    bring_up_to_date(directory, renewed)
    assert is_current(renewed, "q4f16_1")
    assert sorted(file.name for file in renewed.iterdir()) == [
        "mlc-chat-config.json",
        "params_shard_0.bin",
        "tensor-cache.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert records(renewed, hashes=True).keys() == records(directory).keys()
    template = chat_config(renewed)["conv_template"]
    assert isinstance(template, dict) and template["stop_token_ids"] == [2]


def test_without_a_chat_template_the_old_name_is_looked_up(directory: Path, tmp_path: Path) -> None:
    make_old(directory, "llama-3_1")
    rewrite(directory, eos_token_id=[128001, 128009])
    (directory / "tokenizer_config.json").unlink()
    bring_up_to_date(directory, tmp_path)
    template = chat_config(tmp_path)["conv_template"]
    assert isinstance(template, dict)
    assert (template["name"], template["stop_token_ids"]) == ("llama-3_1", [128001, 128009])


def test_an_unknown_name_without_a_chat_template_is_an_error(directory: Path, tmp_path: Path) -> None:
    make_old(directory, "of_my_own")
    bring_up_to_date(directory, tmp_path)  # the tokenizer has a template
    (tmp_path / "again").mkdir()
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(
        InvalidModel, match="no chat template, and there is no conv_template named 'of_my_own'"
    ):
        bring_up_to_date(directory, tmp_path / "again")


def test_a_template_in_a_file_of_its_own_or_in_a_list_is_found(directory: Path, tmp_path: Path) -> None:
    make_old(directory, "of_my_own")
    described = {
        "chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template": "[INST]"}]
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(described))
    for name in ("listed", "alone"):
        (tmp_path / name).mkdir()
    bring_up_to_date(directory, tmp_path / "listed")
    (directory / "chat_template.jinja").write_text("<start_of_turn>")
    bring_up_to_date(directory, tmp_path / "alone")
    found = [chat_config(tmp_path / name)["conv_template"] for name in ("listed", "alone")]
    assert [conv["name"] for conv in found if isinstance(conv, dict)] == [
        "mistral_default",
        "gemma_instruction",
    ]


def test_a_file_system_without_links_gets_copies(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    renewed = tmp_path / "renewed"
    renewed.mkdir()
    bring_up_to_date(directory, renewed)
    assert records(renewed, hashes=True)


def test_what_is_missing_or_damaged_is_named(directory: Path) -> None:
    (directory / "tensor-cache.json").unlink()
    with pytest.raises(InvalidModel, match=r"neither tensor-cache.json nor ndarray-cache.json"):
        is_current(directory, "q4f16_1")
    file = directory / "mlc-chat-config.json"
    file.write_text("{}")
    with pytest.raises(InvalidModel, match="no model_config"):
        chat_config(directory)
    file.write_text("{")
    with pytest.raises(WeightsCorrupt, match="expected JSON"):
        chat_config(directory)
    file.unlink()
    with pytest.raises(InvalidModel, match=r"mlc-chat-config.json cannot be read"):
        chat_config(directory)


def good(folder: Path, home: Path, *, build: bool) -> Path:
    """What `compile` and the next start take a directory for."""
    card = find_model(str(folder))
    shop = Workshop(card.name, Paths.under(home), SilentProgress(), build=build, offline=True)
    return WeightsStep(recipe(card, BuildSettings()), shop).make()[0]


@pytest.mark.parametrize(("old", "build"), [(False, True), (False, False), (True, True)])
def test_a_damaged_index_is_told_before_a_directory_is_called_good(
    directory: Path, tmp_path: Path, old: bool, build: bool
) -> None:
    """Also where it was good before, and its library is there."""
    if old:
        make_old(directory)
    elif not build:
        assert good(directory, tmp_path / "home", build=True) == directory
    name = "ndarray-cache.json" if old else "tensor-cache.json"
    sound = (directory / name).read_text()
    shard = directory / json.loads(sound)["records"][0]["dataPath"]
    content = shard.read_bytes()

    def with_entry(**changes: object) -> str:
        index = json.loads(sound)
        index["records"][0]["records"][3] |= changes
        return json.dumps(index)

    def with_shard(**changes: object) -> str:
        index = json.loads(sound)
        index["records"][0] |= changes
        return json.dumps(index)

    table: list[tuple[str, bytes]] = [
        ("{", content),
        ('{"records": 7}', content),
        ('{"records": []}', content),
        (with_entry(byteOffset=10**9), content),
        (with_entry(nbytes=7), content),
        (with_entry(shape=[1, 2]), content),
        (with_entry(dtype="float7"), content),
        (with_entry(name="model.norm.other"), content),
        (with_shard(dataPath="nowhere.bin"), content),
        (with_shard(dataPath="../x.bin"), content),
        (with_shard(nbytes=7), content),
        (with_shard(md5sum="0" * 32), content),
        (sound, content[:-1]),
        (sound, content[:500] + bytes([content[500] ^ 1]) + content[501:]),
    ]
    for number, (index, numbers) in enumerate(table):
        (directory / name).write_text(index)
        shard.write_bytes(numbers)
        with pytest.raises((InvalidModel, WeightsCorrupt)):
            good(directory, tmp_path / "home", build=build)
            pytest.fail(f"row {number} passes for good")
    (directory / name).write_text(sound)
    shard.write_bytes(content)
    if build:
        assert good(directory, tmp_path / "home", build=True)
        assert good(directory, tmp_path / "home", build=False)


def test_a_directory_in_another_format_is_used_as_what_it_says_it_is(
    tiny_llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody asked for a format: a folder of one's own, and one that has to be fetched first."""
    folder = tmp_path / "plain"
    folder.mkdir()
    form, windows = supported("q0f16"), PackageWindows(128, 32)
    write_model(
        open_weights(tiny_llama.folder), folder, config={}, form=form, quantizer="signed",
        activations=Activations(), windows=windows,
    )  # fmt: skip
    monkeypatch.setattr("edge_router.compile.make_weights.fetch", lambda *_, **__: folder)
    for name in (str(folder), "hf:owner/plain-MLC"):
        for asked in ({}, {"weak.quantization": "q0f16"}):
            settings = BuildSettings.from_config(Config().replace(**asked))
            step = _step(name, settings, tmp_path)
            assert step.make()[0] == folder, (name, asked)
            assert step.recipe.quantization == "q0f16", (name, asked)
        with pytest.raises(InvalidModel, match="holds q0f16 weights, not q4f16_1"):
            _step(name, BuildSettings(quantization="q4f16_1"), tmp_path).make()
    assert find_model(str(folder)).quantization == "q0f16"  # as plans see it


def _step(name: str, settings: BuildSettings, home: Path) -> WeightsStep:
    card = find_model(name)
    shop = Workshop(card.name, Paths.under(home), SilentProgress(), build=True, offline=True)
    return WeightsStep(recipe(card, settings), shop)
