"""What planning and building say of a file by its header: the same, whatever is wrong with it."""

from __future__ import annotations

import json
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
from edge_router.compile.weights.package import Windows, write_model
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
            windows=Windows(128, 32),
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
    ]
    for number, (what, changes, tensors, good) in enumerate(table):
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
