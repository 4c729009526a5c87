"""What model files say of themselves: config.json, an MLC directory's config, a GGUF header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from edge_router.architectures import BY_TYPE, architecture
from edge_router.catalog.checked import checked_config
from edge_router.catalog.gguf import gguf_config, gguf_in
from edge_router.errors import InvalidModel, UnsupportedArchitecture
from edge_router.parsing import strict_json
from edge_router.records import dataclass

_FORMATS: Mapping[str, Literal["gguf", "safetensors", "torch"]] = {
    ".gguf": "gguf",
    ".safetensors": "safetensors",
    ".bin": "torch",
}
WEIGHT_SUFFIXES = tuple(_FORMATS)
MLC_CONFIG = "mlc-chat-config.json"
_WEIGHTS = (MLC_CONFIG, "*.safetensors", "pytorch_model*.bin", "*.gguf", "*/*.gguf")


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """In which format weights are, and where they lie: a GGUF's first part, else what was asked about."""

    format: Literal["mlc", "safetensors", "torch", "gguf"]
    path: Path


def held(path: Path) -> StoredWeights:
    """The weights at `path`, a folder or a file of them; what is read, planned and compiled.

    A folder is an MLC directory if it has mlc-chat-config.json; else it is read as safetensors if it has any,
    else as pytorch_model*.bin, else as its only model in GGUF. Raises `InvalidModel` with what is there.
    """
    if path.is_file():
        if path.suffix not in _FORMATS:
            raise InvalidModel(path, f"no model: expected a folder or a file {', '.join(WEIGHT_SUFFIXES)}")
        return StoredWeights(_FORMATS[path.suffix], path)
    if not path.is_dir():
        raise InvalidModel(path, "does not exist")
    if (path / MLC_CONFIG).is_file():
        return StoredWeights("mlc", path)
    if any(path.glob("*.safetensors")):
        return StoredWeights("safetensors", path)
    if any(path.glob("pytorch_model*.bin")):
        return StoredWeights("torch", path)
    models = gguf_in(path)
    if len(models) == 1:
        return StoredWeights("gguf", models[0])
    if models:
        names = [file.relative_to(path).as_posix() for file in models]
        raise InvalidModel(path, f"holds {len(models)} models in .gguf files; name one: {_some(names)}")
    listing = _some(sorted(file.name for file in path.iterdir()))
    raise InvalidModel(path, f"holds neither *.safetensors nor pytorch_model*.bin nor *.gguf, but: {listing}")


def read_config(path: Path) -> dict[str, object]:
    """The Hugging Face config of a model folder, a .gguf, a .safetensors or a .bin file (its folder's).

    An MLC directory's `model_config` is such a config too. Raises `InvalidModel`, `WeightsCorrupt`.
    """
    hub = path / "config.json"
    if hub.is_file() and not any(found for pattern in _WEIGHTS for found in path.glob(pattern)):
        return checked_config(plain_config(_read_json(hub)), hub)  # planned before its weights are here
    found = held(path)
    if found.format == "gguf":
        return gguf_config(found.path)
    folder = path.parent if path.is_file() else path
    if found.format != "mlc":
        return checked_config(plain_config(_read_json(folder / "config.json")), folder / "config.json")
    outer = _read_json(folder / MLC_CONFIG)
    inner = outer.get("model_config")
    if not isinstance(inner, dict):
        raise InvalidModel(folder / MLC_CONFIG, "model_config is missing")
    config = {"model_type": outer.get("model_type"), **language_part(inner)}
    return checked_config(config, folder / MLC_CONFIG)


def ready_quantization(path: Path) -> str | None:
    """Of an MLC directory; None for other weights. Raises `InvalidModel`, `WeightsCorrupt`."""
    file = path / MLC_CONFIG
    if not file.is_file():
        return None
    stated = _read_json(file).get("quantization")
    if not isinstance(stated, str):
        raise InvalidModel(file, "quantization is missing")
    return stated


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"


def language_part(config: Mapping[str, object]) -> dict[str, object]:
    """An MLC `model_config` of one level: what a model that also sees keeps in `text_config` moved up."""
    text = config.get("text_config")
    inner = text if isinstance(text, Mapping) else {}
    return {**inner, **{name: value for name, value in config.items() if name != "text_config"}}


def plain_config(config: Mapping[str, object]) -> dict[str, object]:
    """config.json's content with the keys that all of its versions have had.

    A model that also sees keeps its language part one level down. transformers 5 keeps what turns positions
    in `rope_parameters`, for Gemma 3 and Olmo 3 by the kind of layer.
    """
    text = config.get("text_config")
    plain = dict(text) if isinstance(text, dict) else dict(config)
    if "tie_word_embeddings" in config:  # of the whole, where its language part does not say
        plain.setdefault("tie_word_embeddings", config["tie_word_embeddings"])
    plain = _own_words(plain)
    turns = plain.pop("rope_parameters", None)
    if not isinstance(turns, dict):
        return plain
    local = turns.get("sliding_attention")
    if isinstance(local, dict):
        plain["rope_local_base_freq"] = local.get("rope_theta")
    turns = dict(turns.get("full_attention") or turns)
    kind = turns.get("rope_type", turns.get("type", "default"))
    # the share that "proportional" turns is no width of what is turned
    for key in ("rope_theta", *(() if kind == "proportional" else ("partial_rotary_factor",))):
        if key in turns:
            plain[key] = turns.pop(key)
    scaled = kind != "default"
    return {**plain, "rope_scaling": turns if scaled else None}


def _own_words(config: dict[str, object]) -> dict[str, object]:
    try:
        return architecture(str(config.get("model_type"))).plain(config)
    except UnsupportedArchitecture:  # which is told where it must be known
        return config


def architecture_of(config: Mapping[str, object], path: Path) -> str:
    """An architecture's name: MLC's, where config.json's `model_type` is of one that is known under both."""
    name = config.get("model_type")
    if not isinstance(name, str) or not name:
        raise InvalidModel(path, "model_type is missing in its config")
    known = BY_TYPE.get(name)
    return known.mlc_type or name if known is not None else name


def _read_json(file: Path) -> dict[str, object]:
    try:
        return strict_json.read_object(file)
    except strict_json.NotJson as error:
        raise InvalidModel(file, f"not valid JSON: {error}") from error
    except FileNotFoundError as error:
        raise InvalidModel(file.parent, f"{file.name} is missing") from error
    except OSError as error:
        raise InvalidModel(file, f"cannot be read: {error.strerror}") from error
