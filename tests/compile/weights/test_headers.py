"""What planning and building say of a file by its header: the same, whatever is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_router.catalog import find_model
from edge_router.compile.readers import open_weights
from edge_router.compile.weights.equalize import Activations
from edge_router.compile.weights.headers import check_headers
from edge_router.compile.weights.package import PackageWindows, write_model
from edge_router.compile.weights.quantize import supported
from edge_router.errors import EdgeRouterError

FORM = "q4f16_1"


def planned(path: Path) -> None:
    card = find_model(str(path))
    check_headers(path, card.config, FORM)


def built(path: Path, folder: Path) -> None:
    card = find_model(str(path))
    folder.mkdir()
    reader = open_weights(path)
    try:
        write_model(
            reader,
            folder,
            config=card.config,
            form=supported(FORM),
            quantizer="round",
            activations=Activations(),
            windows=PackageWindows(128, 32),
        )
    finally:
        reader.close()


def said(ask: Callable[[], None]) -> str | None:
    try:
        ask()
    except EdgeRouterError as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("container", ["gguf", "safetensors"])
def test_planning_and_building_agree_on_every_header(
    tiny: Any, tiny_llama: Any, tmp_path: Path, container: str
) -> None:
    honest = dict(tiny_llama.tensors)
    layers = tiny_llama.config["num_hidden_layers"]

    def without(word: str) -> dict[str, Any]:
        return {name: tensor for name, tensor in honest.items() if word not in name}

    def grown(word: str, axis: int) -> dict[str, Any]:
        return {
            name: np.concatenate([tensor, tensor], axis) if word in name and tensor.ndim > axis else tensor
            for name, tensor in honest.items()
        }

    more = {name.replace("layers.0.", f"layers.{layers}."): tensor for name, tensor in honest.items()}
    table: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
        ("as it should be", {}, honest, True),
        ("a layer more by its number", {"num_hidden_layers": layers + 1}, honest, False),
        ("a layer fewer by its number", {"num_hidden_layers": layers - 1}, honest, False),
        ("very many layers", {"num_hidden_layers": 999}, honest, False),
        ("no layer", {"num_hidden_layers": 0}, honest, False),
        ("a layer more by its tensors", {}, {**honest, **more}, False),
        ("a layer that lacks a norm", {}, without("layers.1.input_layernorm"), False),
        ("no last norm", {}, without("model.norm"), False),
        ("no embedding", {}, without("embed_tokens"), False),
        ("a longer norm", {}, grown("input_layernorm", 0), False),
        ("more rows of q", {}, grown("q_proj", 0), False),
        ("more columns of down", {}, grown("down_proj", 1), False),
        ("another width", {"hidden_size": 2 * tiny_llama.config["hidden_size"]}, honest, False),
        ("another inner width", {"intermediate_size": 7}, honest, False),
        ("other heads", {"num_attention_heads": 3}, honest, False),
        ("other key heads", {"num_key_value_heads": 1}, honest, False),
        *(
            (
                f"a gate of {gate}",
                {"hidden_act": gate},
                honest,
                gate in ("silu", "swish") or container == "gguf",
            )
            for gate in ("silu", "swish", "relu", "gelu", "gelu_pytorch_tanh", 5, ["silu"])
        ),
    ]
    for number, (what, changes, tensors, good) in enumerate(table):  # GGUF names no gate
        place = tmp_path / str(number)
        place.mkdir()
        config = {**tiny_llama.config, **changes}
        if container == "gguf":
            path = place / "model.gguf"
            tiny.write_gguf(path, config, tensors)
        else:
            path = place
            shutil.copytree(tiny_llama.folder, path, dirs_exist_ok=True)
            tiny.write_safetensors(path / "model.safetensors", tensors)
            (path / "config.json").write_text(json.dumps(config))
        plan = said(partial(planned, path))
        build = said(partial(built, path, tmp_path / f"built{number}"))
        assert plan == build, what
        assert (plan is None) is good, (what, plan)


def test_a_file_that_can_not_be_opened_or_says_too_much_is_one_sentence(
    tiny: Any, tiny_llama: Any, tmp_path: Path
) -> None:
    def in_place(name: str, make: Callable[[Path], object]) -> Callable[[Path], Path]:
        def spoil(folder: Path) -> Path:
            shutil.copytree(tiny_llama.folder, folder)
            (folder / name).unlink()
            make(folder / name)
            return folder

        return spoil

    def gguf_that_says(key: str) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            folder.mkdir()
            tiny.write_gguf(folder / "a.gguf", tiny_llama.config, tiny_llama.tensors, extra={key: "x" * 9999})
            return folder / "a.gguf"

        return write

    def linked(file: Path) -> None:
        file.symlink_to("gone")  # a cache whose content was swept away

    names = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
    table = {
        **{f"a folder as {name}": in_place(name, Path.mkdir) for name in names},
        **{f"a link to nothing as {name}": in_place(name, linked) for name in names if os.name != "nt"},
        "an endless count of layers": gguf_that_says("llama.block_count"),
        "an endless way to cut": gguf_that_says("tokenizer.ggml.pre"),
        "an endless kind of scaling": gguf_that_says("llama.rope.scaling.type"),
    }
    for what, spoil in table.items():
        path = spoil(tmp_path / what.replace(" ", "-"))
        plan = said(partial(planned, path))
        assert plan is not None and len(plan) < 2000, (what, plan)
        assert said(partial(built, path, tmp_path / f"built-{what}")) == plan, what
