"""config.json's words out of a GGUF file's metadata and the tensors that turn positions."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_router.architectures import Architecture, of_gguf
from edge_router.architectures.gguf_names import ROPE_TENSORS, GgufNames
from edge_router.catalog.rope import llama3_factors
from edge_router.errors import InvalidModel

_FREQUENCIES, _LONG, _SHORT = ROPE_TENSORS
_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
_YARN = {
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
    "rope.scaling.yarn_log_multiplier": "mscale_all_dim",
    "attention.temperature_scale": "llama_4_scaling_beta",
}
_STILL = 1e20  # a factor by which a pair is slowed until it stands; llama.cpp's converter writes 1e30
_LOCAL_BASE = 10000.0  # of Gemma 3's layers with a window, where no key says it
_DECISION, _SHOWN = ".decision.type", 40  # the key behind the architecture's name, characters of its value
_REALS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps", "rope.freq_base": "rope_theta"}
_STATED = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "vocab_size": "vocab_size",
    **_REALS,
}


class GgufConfig:
    """`tensors` are those of the file, under GGUF's names; `read` gives one of them."""

    def __init__(
        self,
        fields: Mapping[str, object],
        tensors: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Sequence[float]],
        source: Path,
    ) -> None:
        self._fields, self._tensors, self._read, self._source = fields, tensors, read, source
        family = fields.get("general.architecture")
        if not isinstance(family, str) or not family:
            raise InvalidModel(source, "general.architecture is missing")
        decision = next((value for name, value in fields.items() if name.endswith(_DECISION)), None)
        if decision is not None:
            what = f"it is a decision model ({str(decision)[:_SHOWN]}), which answers typed questions"
            raise InvalidModel(
                source, f"{what} with numbers and writes no text; servers such as Ollama run it"
            )
        if (kind := fields.get("general.type", "model")) != "model":
            raise InvalidModel(source, f"holds no model but a part of one: general.type is {kind!r}")
        self._family = family

    def config(self) -> dict[str, object]:
        """Raises `InvalidModel` for what is missing or not supported."""
        described = of_gguf(self._family)
        if described is None or (names := described.gguf) is None:
            return self._stated()
        self._tensors = names.useful(self._tensors, self._layers(names))
        foreign = next((name for name in self._tensors if names.hugging_face_name(name) is None), None)
        if foreign is not None:
            raise InvalidModel(
                self._source, f"a tensor named {foreign}, which {self._family} models don't have"
            )
        hidden, heads = self._number("embedding_length"), self._most("attention.head_count")
        head_dim = self._number("attention.key_length", hidden // heads if heads else 0)
        if heads < 1 or head_dim < 1:
            raise InvalidModel(self._source, f"{heads} attention heads over {hidden} channels")
        if "token_embd.weight" not in self._tensors:
            raise InvalidModel(self._source, "holds no tensor token_embd.weight")
        kind = described.model_type.removesuffix("_text").title()
        stated = {
            "architectures": [f"{kind}ForCausalLM"],
            "model_type": self._model_type(described, names),
            "hidden_size": hidden,
            "intermediate_size": self._number("feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._most("attention.head_count_kv", heads),
            "num_hidden_layers": self._layers(names),
            "head_dim": head_dim,
            "hidden_act": described.gates[0],
            "rms_norm_eps": self._real("attention.layer_norm_rms_epsilon"),
            "rope_theta": self._real("rope.freq_base", 10000.0),
            "rope_scaling": self._rope_scaling(head_dim),
            "max_position_embeddings": self._number("context_length"),
            "vocab_size": self._tensors["token_embd.weight"][0],
            "tie_word_embeddings": "output.weight" not in self._tensors,
            **self._own(described, names, hidden, heads, head_dim),
        }
        return described.plain(stated)

    def _stated(self) -> dict[str, object]:
        """Of an architecture that can't be compiled, but perhaps planned: what the metadata says."""
        found: dict[str, object] = {"model_type": self._family}
        for key, name in _STATED.items():
            if self._key(key) in self._fields:
                # What is 0, such as a window, is not there.
                found[name] = (self._real(key) if key in _REALS else self._number(key)) or None
        if "token_embd.weight" in self._tensors:
            found["vocab_size"] = self._tensors["token_embd.weight"][0]
        found["tie_word_embeddings"] = "output.weight" not in self._tensors
        return found

    def _own(
        self, described: Architecture, names: GgufNames, hidden: int, heads: int, head_dim: int
    ) -> dict[str, object]:
        """What only some architectures have."""
        found: dict[str, object] = {}
        keys = described.keys
        if (window := self._number("attention.sliding_window", 0)) > 0:
            found["sliding_window"] = window
        turned = self._number("rope.dimension_count", head_dim)
        if "partial_rotary_factor" in keys or turned != head_dim:
            found["partial_rotary_factor"] = turned / head_dim
        if "original_max_position_embeddings" in keys:
            original = self._number("rope.scaling.original_context_length", 0)
            if original:
                found["original_max_position_embeddings"] = original
        if "query_pre_attn_scalar" in keys:
            largest = self._number("block_count") == names.largest
            found["query_pre_attn_scalar"] = hidden // heads if largest else head_dim
        if "hidden_activation" in keys:
            found["hidden_activation"] = described.gates[0]
        pattern = self._fields.get(self._key("attention.sliding_window_pattern"))
        if isinstance(pattern, list) and len(pattern) == self._number("block_count"):
            found["layer_types"] = ["sliding_attention" if near else "full_attention" for near in pattern]
        elif described.windowed == "some":
            found["sliding_window_pattern"] = described.every
        if "rope_local_base_freq" in keys:
            found["rope_local_base_freq"] = self._real("rope.freq_base_swa", _LOCAL_BASE)
        return {**found, **self._named(names), **self._mixed(described, names)}

    def _named(self, names: GgufNames) -> dict[str, object]:
        """What files state under keys of an architecture's own, and what none of its files says."""
        reals = {**dict(zip(_CAPS, _CAPS, strict=True)), **names.numbers}
        found: dict[str, object] = {
            name: self._real(key) or None  # 0 caps nothing
            for key, name in reals.items()
            if self._key(key) in self._fields
        }
        return {**found, **{name: self._number(key) for key, name in names.counts.items()}, **names.unsaid}

    def _mixed(self, described: Architecture, names: GgufNames) -> dict[str, object]:
        """What those with layers that do not attend have."""
        if not described.mixers:
            return {}
        layers = range(self._layers(names))
        return {"layer_types": [self._layer_type(described, names, layer) for layer in layers]}

    def _layers(self, names: GgufNames) -> int:
        return self._number("block_count") - (self._number(names.spare, 0) if names.spare else 0)

    def _layer_type(self, described: Architecture, names: GgufNames, layer: int) -> str:
        """By the tensors that it has."""
        found = {str(names.hugging_face_name(name)) for name in self._tensors if f"blk.{layer}." in name}
        mixed = (m.kind for m in described.mixers if any(f".{layer}.{m.name}." in name for name in found))
        return next(mixed, "full_attention")

    def _most(self, key: str, default: int | None = None) -> int:
        """Of what is stated for each layer, and is 0 for those that have none."""
        value = self._value(key, default)
        some = [item for item in value if item != 0] if isinstance(value, list) else []
        found = self._alike(key, some or value)
        if not isinstance(found, int) or isinstance(found, bool):
            raise InvalidModel(self._source, f"{self._key(key)} is {found!r}, not a whole number")
        return found

    def _model_type(self, described: Architecture, names: GgufNames) -> str:
        windowed = self._number("attention.sliding_window", 0) > 0
        return names.windowed if windowed and names.windowed else described.model_type

    def _rope_scaling(self, head_dim: int) -> Mapping[str, object] | None:
        if _LONG in self._tensors:
            return self._longrope()
        kind, factor = self._fields.get(self._key("rope.scaling.type")), self._rope_factor()
        if kind is None and factor != 1 and _FREQUENCIES in self._tensors:
            raise InvalidModel(
                self._source, f"a rope scaling of {factor} beside {_FREQUENCIES} is not supported"
            )
        if kind == "linear" or (kind is None and factor != 1):  # as llama.cpp, which takes linear for granted
            return {"rope_type": "linear", "factor": factor} if factor != 1 else None
        if kind == "yarn":
            return self._yarn(factor)
        if kind not in (None, "none"):
            raise InvalidModel(self._source, f"rope scaling of type {kind!r} is not supported")
        if _FREQUENCIES not in self._tensors:
            return None
        factors = self._read(_FREQUENCIES)
        return self._proportional(factors, head_dim) or self._llama3(factors, head_dim)

    def _rope_factor(self) -> float:
        """Under today's key or the older one; 1 and 0 change nothing."""
        for key in ("rope.scaling.factor", "rope.scale_linear"):
            if self._key(key) in self._fields:
                return self._real(key) or 1.0
        return 1.0

    def _longrope(self) -> Mapping[str, object]:
        factors = {"long_factor": _LONG, "short_factor": _SHORT}
        scaling: dict[str, object] = {
            key: [_short(value) for value in self._read(name)] for key, name in factors.items()
        }
        return {
            "rope_type": "longrope",
            **scaling,
            "attention_factor": self._real("rope.scaling.attn_factor", 1.0),
        }

    def _yarn(self, factor: float) -> Mapping[str, object]:
        """As llama.cpp reads it: its `log_multiplier` is `mscale_all_dim` beside an `mscale` of 1."""
        found: dict[str, object] = {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": self._number(
                "rope.scaling.original_context_length", self._number("context_length")
            ),
        }
        for key, name in _YARN.items():
            if self._key(key) in self._fields:
                found[name] = self._real(key)
        return {**found, **({"mscale": 1.0} if "mscale_all_dim" in found else {})}

    def _proportional(self, factors: Sequence[float], head_dim: int) -> Mapping[str, object] | None:
        """Factors of 1 for the pairs that are turned, then some that leave nothing of a turn; else None."""
        turned = sum(factor == 1 for factor in factors)
        still = factors[turned:]
        if len(factors) != head_dim // 2 or not still or any(factor < _STILL for factor in still):
            return None
        return {"rope_type": "proportional", "partial_rotary_factor": turned / len(factors)}

    def _llama3(self, factors: Sequence[float], head_dim: int) -> Mapping[str, object]:
        """Llama 3.1's scaling, which GGUF holds only as the factors that come out of it."""
        scaling: dict[str, object] = {
            "rope_type": "llama3",
            "factor": _short(max(factors)),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        base = self._real("rope.freq_base", 10000.0)
        plain = [base ** -(channel / head_dim) for channel in range(0, head_dim, 2)]
        known = llama3_factors(scaling, plain) if scaling["factor"] else []
        if len(known) != len(factors) or any(
            abs(one - other) > 1e-3 * abs(other) for one, other in zip(factors, known, strict=True)
        ):
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
        value = self._alike(key, self._value(key, default))
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidModel(self._source, f"{self._key(key)} is {value!r}, not a whole number")
        return value

    def _alike(self, key: str, value: object) -> object:
        """What is stated for each layer, where it is the same for all."""
        if not isinstance(value, list) or not value:
            return value
        if any(item != value[0] for item in value):
            some = ", ".join(map(str, value[:6])) + (", ..." if len(value) > 6 else "")
            raise InvalidModel(self._source, f"{self._key(key)} differs from layer to layer ({some})")
        return value[0]

    def _real(self, key: str, default: float | None = None) -> float:
        value = self._alike(key, self._value(key, default))
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidModel(self._source, f"{self._key(key)} is {value!r}, not a number")
        return _short(value)


def _short(value: float) -> float:
    """The decimal that was meant: 1e-05, not the 9.999999747e-06 that a float32 of it reads as."""
    try:
        (stored,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:  # of a double
        return value
    for digits in range(6, 10):
        if struct.pack("<f", short := float(f"{stored:.{digits}g}")) == struct.pack("<f", stored):
            return short
    return float(stored)  # what is no number equals nothing
