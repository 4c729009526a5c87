"""What model files say of themselves: config.json, an MLC directory's config, a GGUF header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edge_router.catalog.gguf import gguf_config
from edge_router.errors import InvalidModel

WEIGHT_SUFFIXES = (".gguf", ".safetensors", ".bin")
FAMILIES = {"gemma3_text": "gemma3"}  # the same layers under another name


def read_config(path: Path) -> dict[str, object]:
    """The Hugging Face config of a model folder, a .gguf, a .safetensors or a .bin file (its folder's).

    An MLC directory's `model_config` is such a config too. Raises `InvalidModel`.
    """
    if path.is_file():
        if path.suffix == ".gguf":
            return gguf_config(path)
        if path.suffix not in WEIGHT_SUFFIXES:
            raise InvalidModel(path, f"not a model: expected a folder or a file {', '.join(WEIGHT_SUFFIXES)}")
        path = path.parent
    mlc, hub = path / "mlc-chat-config.json", path / "config.json"
    if mlc.is_file():
        outer = _read_json(mlc)
        inner = outer.get("model_config")
        if not isinstance(inner, dict):
            raise InvalidModel(mlc, "model_config is missing")
        return {"model_type": outer.get("model_type"), **language_part(inner)}
    if hub.is_file():
        return plain_config(_read_json(hub))
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return gguf_config(ggufs[0])
    raise InvalidModel(path, "holds neither config.json nor mlc-chat-config.json, nor a single .gguf file")


def language_part(config: Mapping[str, object]) -> dict[str, object]:
    """An MLC `model_config` of one level: what a model that also sees keeps in `text_config` moved up."""
    text = config.get("text_config")
    inner = text if isinstance(text, Mapping) else {}
    return {**inner, **{name: value for name, value in config.items() if name != "text_config"}}


def plain_config(config: Mapping[str, object]) -> dict[str, object]:
    """config.json's content with the keys that all of its versions have had.

    A model that also sees keeps its language part one level down. transformers 5 keeps what turns positions
    in `rope_parameters`, for Gemma 3 by the kind of layer.
    """
    text = config.get("text_config")
    plain = dict(text) if isinstance(text, dict) else dict(config)
    turns = plain.pop("rope_parameters", None)
    if not isinstance(turns, dict):
        return plain
    local = turns.get("sliding_attention")
    if isinstance(local, dict):
        plain["rope_local_base_freq"] = local.get("rope_theta")
    turns = dict(turns.get("full_attention") or turns)
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in turns:
            plain[key] = turns.pop(key)
    scaled = turns.get("rope_type", "default") != "default"
    return {**plain, "rope_scaling": turns if scaled else None}


def architecture_of(config: Mapping[str, object], path: Path) -> str:
    """The name under which a model definition is registered: config.json's `model_type`, or the family's."""
    name = config.get("model_type")
    if not isinstance(name, str) or not name:
        raise InvalidModel(path, "model_type is missing in its config")
    return FAMILIES.get(name, name)


def _read_json(file: Path) -> dict[str, object]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidModel(file, f"not valid JSON: {error}") from error
    except OSError as error:
        raise InvalidModel(file, f"cannot be read: {error.strerror}") from error
    if not isinstance(data, dict):
        raise InvalidModel(file, "must hold a JSON object")
    return data
