"""config.json's words out of a GGUF file's metadata and the tensors that turn positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edge_router.compile.readers.base import Floats
from edge_router.compile.readers.gguf_families import FAMILIES, ROPE_TENSORS
from edge_router.compile.rotary import llama3_factors
from edge_router.errors import InvalidModel

_FREQUENCIES, _LONG, _SHORT = ROPE_TENSORS
# Layers of Gemma 2 and 3 of 27B, which divide scores by the root of hidden / heads; no key says so.
_LARGEST = {"gemma2": 46, "gemma3": 62}
_LOCAL_BASE = 10000.0  # of Gemma 3's layers with a window, where no key says it


class GgufConfig:
    """`tensors` are those of the file, under GGUF's names; `read` gives one of them."""

    def __init__(
        self,
        fields: Mapping[str, object],
        tensors: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Floats],
        source: Path,
    ) -> None:
        self._fields, self._tensors, self._read, self._source = fields, tensors, read, source
        self._family = str(fields.get("general.architecture", ""))

    def config(self) -> dict[str, object]:
        """Raises `InvalidModel` for what is missing or not supported."""
        family, hidden = FAMILIES[self._family], self._number("embedding_length")
        heads = self._number("attention.head_count")
        head_dim = self._number("attention.key_length", hidden // heads if heads else 0)
        if heads < 1 or head_dim < 1:
            raise InvalidModel(self._source, f"{heads} attention heads over {hidden} channels")
        if "token_embd.weight" not in self._tensors:
            raise InvalidModel(self._source, "holds no tensor token_embd.weight")
        kind = family.model_type.removesuffix("_text").title()
        return {
            "architectures": [f"{kind}ForCausalLM"],
            "model_type": family.model_type,
            "hidden_size": hidden,
            "intermediate_size": self._number("feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._number("attention.head_count_kv", heads),
            "num_hidden_layers": self._number("block_count"),
            "head_dim": head_dim,
            "hidden_act": family.activation,
            "rms_norm_eps": self._real("attention.layer_norm_rms_epsilon"),
            "rope_theta": self._real("rope.freq_base", 10000.0),
            "rope_scaling": self._rope_scaling(head_dim),
            "max_position_embeddings": self._number("context_length"),
            "vocab_size": self._tensors["token_embd.weight"][0],
            "tie_word_embeddings": "output.weight" not in self._tensors,
            **self._own(hidden, heads, head_dim),
        }

    def _own(self, hidden: int, heads: int, head_dim: int) -> dict[str, object]:
        """What only some architectures have."""
        family = FAMILIES[self._family]
        found: dict[str, object] = {}
        if (window := self._number("attention.sliding_window", 0)) > 0:
            found["sliding_window"] = window
        if self._family == "phi3":
            found["partial_rotary_factor"] = self._number("rope.dimension_count", head_dim) / head_dim
            original = self._number("rope.scaling.original_context_length", 0)
            if original:
                found["original_max_position_embeddings"] = original
        if not family.often:
            return found
        largest = self._number("block_count") == _LARGEST[self._family]
        found["query_pre_attn_scalar"] = hidden // heads if largest else head_dim
        found["hidden_activation"] = family.activation
        found["sliding_window_pattern"] = family.often
        if self._family == "gemma3":
            found["rope_local_base_freq"] = self._real("rope.freq_base_swa", _LOCAL_BASE)
        for key in ("attn_logit_softcapping", "final_logit_softcapping"):
            if self._key(key) in self._fields:
                found[key] = self._real(key)
        return found

    def _rope_scaling(self, head_dim: int) -> Mapping[str, object] | None:
        if _LONG in self._tensors:
            return self._longrope()
        kind = self._fields.get(self._key("rope.scaling.type"), "none")
        if kind == "linear":
            return {"rope_type": "linear", "factor": self._real("rope.scaling.factor")}
        if kind != "none":
            raise InvalidModel(self._source, f"rope scaling of type {kind!r} is not supported")
        return self._llama3(head_dim) if _FREQUENCIES in self._tensors else None

    def _longrope(self) -> Mapping[str, object]:
        factors = {"long_factor": _LONG, "short_factor": _SHORT}
        scaling: dict[str, object] = {
            key: [_short(float(value)) for value in self._read(name)] for key, name in factors.items()
        }
        return {
            "rope_type": "longrope",
            **scaling,
            "attention_factor": self._real("rope.scaling.attn_factor", 1.0),
        }

    def _llama3(self, head_dim: int) -> Mapping[str, object]:
        """Llama 3.1's scaling, which GGUF holds only as the factors that come out of it."""
        factors = self._read(_FREQUENCIES)
        scaling: dict[str, object] = {
            "rope_type": "llama3",
            "factor": _short(float(factors.max())),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        plain = self._real("rope.freq_base", 10000.0) ** -(np.arange(0, head_dim, 2) / head_dim)
        if not np.allclose(factors, llama3_factors(scaling, plain), rtol=1e-3):
            raise InvalidModel(self._source, f"{_FREQUENCIES} holds factors that are not Llama 3's")
        return scaling

    def _key(self, key: str) -> str:
        return f"{self._family}.{key}"

    def _value(self, key: str, default: object) -> object:
        value = self._fields.get(self._key(key), default)
        if value is None:
            raise InvalidModel(self._source, f"the metadata has no {self._key(key)}")
        return value

    def _number(self, key: str, default: int | None = None) -> int:
        value = self._value(key, default)
        if not isinstance(value, int):
            raise InvalidModel(self._source, f"{self._key(key)} is {value!r}, not a whole number")
        return value

    def _real(self, key: str, default: float | None = None) -> float:
        value = self._value(key, default)
        if not isinstance(value, int | float):
            raise InvalidModel(self._source, f"{self._key(key)} is {value!r}, not a number")
        return _short(value)


def _short(value: float) -> float:
    """The decimal that was meant: 1e-05, not the 9.999999747e-06 that a float32 of it reads as."""
    return float(str(np.float32(value)))
