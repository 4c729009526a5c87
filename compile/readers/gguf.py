"""GGUF files of llama-type models as Hugging Face checkpoints: names, row order, dequantization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from edge_router.compile.readers.base import Floats, TensorInfo, missing_tensor, read_numbers
from edge_router.compile.readers.gguf_file import GgufFile, GgufTensor
from edge_router.compile.readers.gguf_tokenizer import generation_config, tokenizer_files
from edge_router.compile.rotary import llama3_factors
from edge_router.errors import InvalidModel, UnsupportedArchitecture, WeightsCorrupt

# GGUF calls Mistral's and every other model of Llama's shape "llama" too.
_SUPPORTED = ("llama",)
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROPE_FACTORS = "rope_freqs.weight"


class GgufReader:
    """One .gguf file; see `WeightsReader`."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self._file = GgufFile(source)
        architecture = str(self._file.fields.get("general.architecture", ""))
        if architecture not in _SUPPORTED:
            raise UnsupportedArchitecture(architecture, _SUPPORTED)
        self._names = {_hugging_face_name(name, source): name for name in self._file.tensors}
        for name in self._file.tensors:
            self._check_extent(name)

    def close(self) -> None:
        """Nothing stays open between reads."""

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        found = {}
        for name, inner in self._names.items():
            tensor = self._file.tensors[inner]
            found[name] = TensorInfo(tensor.shape, _type_name(tensor.type_number, self.source))
        return found

    @cached_property
    def config(self) -> Mapping[str, object]:
        hidden, heads = self._number("embedding_length"), self._number("attention.head_count")
        head_dim = self._number("attention.key_length", hidden // heads if heads else 0)
        if heads < 1 or head_dim < 1:
            raise InvalidModel(self.source, f"{heads} attention heads over {hidden} channels")
        embedding = self.tensors.get("model.embed_tokens.weight")
        if embedding is None:
            raise missing_tensor(self.source, "model.embed_tokens.weight", self.tensors)
        fields = self._file.fields
        config: dict[str, object] = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": self._number("feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._number("attention.head_count_kv", heads),
            "num_hidden_layers": self._number("block_count"),
            "head_dim": head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": _short(cast(float, self._field("attention.layer_norm_rms_epsilon"))),
            "rope_theta": _short(cast(float, fields.get("llama.rope.freq_base", 10000.0))),
            "rope_scaling": self._rope_scaling(head_dim),
            "max_position_embeddings": self._number("context_length"),
            "vocab_size": embedding.shape[0],
            "tie_word_embeddings": "lm_head.weight" not in self.tensors,
        }
        return config

    @cached_property
    def generation(self) -> Mapping[str, object]:
        return generation_config(self._file.fields)

    def tokenizer_files(self) -> Mapping[str, bytes]:
        return tokenizer_files(self._file.fields, self.source)

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Floats:
        if name not in self._names:
            raise missing_tensor(self.source, name, self._names)
        inner = self._names[name]
        tensor = self._file.tensors[inner]
        if len(tensor.shape) == 1:
            vector: Floats = self._dequantize(tensor, np.arange(1))[0][start:stop]
            return vector
        order = np.arange(tensor.shape[0])
        if inner.endswith((".attn_q.weight", ".attn_k.weight")):
            order = _rotary_order(tensor.shape[0], cast(int, self.config["head_dim"]))
        return self._dequantize(tensor, order[start:stop])

    def _dequantize(self, tensor: GgufTensor, order: np.typing.NDArray[np.intp]) -> Floats:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        if not len(order):
            return np.empty((0, tensor.shape[-1]), np.float32)
        length = _byte_length(tensor, self.source) // (1 if len(tensor.shape) == 1 else tensor.shape[0])
        first, count = int(order.min()), int(np.ptp(order)) + 1
        raw = read_numbers(self.source, np.uint8, count * length, tensor.offset + first * length)
        rows = raw.reshape(count, length)[order - first]
        try:
            floats = dequantize(rows, GGMLQuantizationType(tensor.type_number))
        except NotImplementedError as error:
            raise InvalidModel(self.source, str(error)) from error
        return cast(Floats, np.ascontiguousarray(floats, dtype=np.float32).reshape(len(order), -1))

    def _check_extent(self, name: str) -> None:
        tensor = self._file.tensors[name]
        end = tensor.offset + _byte_length(tensor, self.source)
        if end > self._file.size:
            raise WeightsCorrupt(self.source, f"{end} bytes (up to {name})", f"{self._file.size} bytes")

    def _field(self, key: str) -> object:
        full = f"llama.{key}"
        if full not in self._file.fields:
            raise InvalidModel(self.source, f"the metadata has no {full}")
        return self._file.fields[full]

    def _number(self, key: str, default: int | None = None) -> int:
        value = self._file.fields.get(f"llama.{key}") if default is not None else self._field(key)
        if value is None:
            return cast(int, default)
        if not isinstance(value, int):
            raise InvalidModel(self.source, f"llama.{key} is {value!r}, not a whole number")
        return value

    def _rope_scaling(self, head_dim: int) -> Mapping[str, object] | None:
        """Llama 3.1's scaling, which GGUF holds only as the factors that come out of it."""
        kind = self._file.fields.get("llama.rope.scaling.type", "none")
        if kind != "none":
            raise InvalidModel(self.source, f"rope scaling of type {kind!r} is not supported")
        if _ROPE_FACTORS not in self._names:
            return None
        factors = self.rows(_ROPE_FACTORS)
        theta = float(cast(float, self._file.fields.get("llama.rope.freq_base", 10000.0)))
        scaling: dict[str, object] = {
            "rope_type": "llama3",
            "factor": _short(float(factors.max())),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        plain = theta ** -(np.arange(0, head_dim, 2) / head_dim)
        if not np.allclose(factors, llama3_factors(scaling, plain), rtol=1e-3):
            raise InvalidModel(self.source, f"{_ROPE_FACTORS} holds factors that are not Llama 3's")
        return scaling


def _hugging_face_name(name: str, source: Path) -> str:
    if name in _TOP or name == _ROPE_FACTORS:
        return _TOP.get(name, name)
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _BLOCK:
        return f"model.layers.{parts[1]}.{_BLOCK[parts[2]]}.{parts[3]}"
    raise InvalidModel(source, f"a tensor named {name}, which llama-type models don't have")


def _rotary_order(rows: int, head_dim: int) -> np.typing.NDArray[np.intp]:
    """Which row of the file is row i of the checkpoint.

    llama.cpp keeps the two halves that rotary embedding pairs next to each other, transformers keeps the
    halves apart.
    """
    return np.arange(rows).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).ravel()


def _byte_length(tensor: GgufTensor, source: Path) -> int:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    name = _type_name(tensor.type_number, source)
    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    if tensor.shape[-1] % block:
        raise WeightsCorrupt(source, f"rows of whole {name} blocks ({block})", f"{tensor.shape[-1]} values")
    length: int = math.prod(tensor.shape) // block * block_bytes
    return length


def _type_name(number: int, source: Path) -> str:
    from gguf.constants import GGMLQuantizationType

    try:
        return str(GGMLQuantizationType(number).name)
    except ValueError as error:
        raise WeightsCorrupt(source, "a known tensor type", f"type {number}") from error


def _short(value: float) -> float:
    """The decimal that was meant: 1e-05, not the 9.999999747e-06 that a float32 of it reads as."""
    return float(str(np.float32(value)))
