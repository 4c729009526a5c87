"""The header of a GGUF file as a Hugging Face config, without reading tensors or token lists.

Layout (all little-endian): magic "GGUF", version u32, tensors u64, keys u64; then per key its name, a type
u32 and a value; then per tensor its name, rank u32, dims u64 each, type u32, offset u64. Strings are a length
u64 and bytes. Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from edge_router.errors import InvalidModel

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_LONGEST = 1 << 24  # bytes of one string; more is a damaged file, not a header

_MODEL_TYPES = {"gemma3": "gemma3_text"}  # where Hugging Face calls them otherwise

# GGUF's key (below its architecture's name) -> config.json's
_KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}


def gguf_config(path: Path) -> dict[str, object]:
    """The numbers of config.json that the header states. Raises `InvalidModel`."""
    try:
        with path.open("rb") as file:
            fields, tensors = _header(file)
    except (struct.error, ValueError, KeyError, EOFError) as error:
        raise InvalidModel(path, f"not a readable GGUF file: {error}") from error
    except OSError as error:
        raise InvalidModel(path, f"cannot be read: {error.strerror}") from error
    family = fields.get("general.architecture")
    if not isinstance(family, str):
        raise InvalidModel(path, "general.architecture is missing")
    config: dict[str, object] = {"model_type": _MODEL_TYPES.get(family, family)}
    for theirs, ours in _KEYS.items():
        value = fields.get(f"{family}.{theirs}")
        if isinstance(value, float):  # a float32 in the file: 9.999999747378752e-06 was written 1e-05
            value = float(f"{value:.7g}")
        if value is not None:
            config[ours] = value
    if "token_embd.weight" in tensors:
        config["vocab_size"] = tensors["token_embd.weight"][-1]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    return config


def _header(file: BinaryIO) -> tuple[dict[str, object], dict[str, tuple[int, ...]]]:
    if file.read(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version, tensors, keys = _unpack(file, "IQQ")
    if version not in (2, 3):
        raise ValueError(f"version {version} is not 2 or 3")
    fields = {}
    for _ in range(keys):
        name = _string(file)
        (kind,) = _unpack(file, "I")
        fields[name] = _value(file, kind)
    shapes = {}
    for _ in range(tensors):
        name = _string(file)
        (rank,) = _unpack(file, "I")
        shapes[name] = _unpack(file, f"{rank}Q")
        _unpack(file, "IQ")
    return fields, shapes


def _value(file: BinaryIO, kind: int) -> object:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        (value,) = _unpack(file, _SCALARS[kind])
        return value
    inner, count = _unpack(file, "IQ")
    if inner == _STRING:
        for _ in range(count):
            (length,) = _unpack(file, "Q")
            file.seek(length, 1)
    elif inner == _ARRAY:
        raise ValueError("an array of arrays")
    else:
        file.seek(count * struct.calcsize(f"<{_SCALARS[inner]}"), 1)
    return None


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    if length > _LONGEST:
        raise ValueError(f"a string of {length} bytes")
    return file.read(length).decode("utf-8", "replace")


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    size = struct.calcsize(f"<{form}")
    data = file.read(size)
    if len(data) != size:
        raise EOFError("it ends in the middle of its header")
    return struct.unpack(f"<{form}", data)
